"""Reading labels off next-token log-probabilities: pure token work, shared by every engine that sees tokens.

The options of a question are token sequences after one prompt. They form a trie. One prefill reads the
log-probabilities of all distinct first tokens, over the whole vocabulary: their sum is the *label mass*.
Only where options still share a prefix, and that branch holds enough of the mass to matter, the model is
asked again at the inner branching node (prompt + path); there the branch's mass is divided among the node's
children in proportion to their probabilities, as constrained decoding would. Steps without a branch are
certain under that constraint and are never read. So the probabilities of all options sum to the label mass,
and a label is not punished for being long.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from curator.errors import EngineError, TaskError

T = TypeVar("T")
Tokens = tuple[int, ...]
Ask = Callable[[Tokens, Tokens], Awaitable[Sequence[float]]]
"""`ask(path, tokens)` -> natural log-probability of each of `tokens` as the next token after prompt + path."""

PRUNE = 1e-3
"""A branch with less than this share of the label mass is not asked about again."""

FLOOR = -1e4
"""Stands for a log-probability of minus infinity, which JSON and Arrow aggregates do not take well."""


@dataclass(frozen=True, slots=True)
class Node:
    """A place where options part: `path` leads here from the end of the prompt, `branches` are the next
    tokens with what lies behind them, `options` the indices of all options below. A leaf has no branches."""

    path: Tokens
    options: Tokens
    branches: tuple[tuple[int, Node], ...] = ()

    @property
    def tokens(self) -> Tokens:
        """The next tokens, in the order of `branches`."""
        return tuple(token for token, _ in self.branches)


@dataclass(frozen=True, slots=True)
class LabelTrie:
    """The options of one question as token sequences.

    `drop` tokens at the end of the prompt belong to the labels: some tokenizers merge the end of the prompt
    with the start of a label ("Answer: " + "spam" is "Answer", ":", " spam").
    """

    root: Node
    drop: int = 0

    @property
    def depth(self) -> int:
        """Length of the longest path that is asked about."""
        return max((len(node.path) for node in walk(self.root) if node.branches), default=0)

    def scored(self, option: int) -> Tokens:
        """The tokens whose probability decides on `option`, first one first."""
        node, tokens = self.root, []
        while node.branches:
            token, node = next((token, below) for token, below in node.branches if option in below.options)
            tokens.append(token)
        return tuple(tokens)


@dataclass(frozen=True, slots=True)
class Reading:
    """Log-probability per option over the whole vocabulary, the mass of all options, and the calls made."""

    logprobs: tuple[float, ...]
    label_mass: float
    calls: int


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for _, below in node.branches:
        yield from walk(below)


def label_trie(labels: Sequence[str], tail: Sequence[int], extended: Sequence[Sequence[int]], end: int) -> LabelTrie:
    """Make the trie of `labels` from token ids computed *in the context of the prompt's end*.

    `tail` are the ids of the prompt's constant end, `extended[i]` those of the same text + label i; `end` is
    the end-of-turn token, which closes a label that is a proper prefix of another one.

    Raises: TaskError for fewer than two labels, an empty label, or labels that cannot be told apart.
    """
    _check(labels)
    shared = min(common(tail, ids) for ids in extended)
    paths = [tuple(ids[shared:]) for ids in extended]
    for label, path in zip(labels, paths, strict=True):
        if not path:
            raise TaskError(f"the label {label!r} encodes to no token", hint="use letters, or another label")
    return LabelTrie(_root(labels, _closed(paths, end)), drop=len(tail) - shared)


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    length = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        length += 1
    return length


def _check(labels: Sequence[str]) -> None:
    if len(labels) < 2:
        raise TaskError(f"a question needs at least two options, this one has {len(labels)}")
    if any(not label.strip() for label in labels):
        raise TaskError("a label is empty", hint="every option needs a text that the model can answer with")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if list(labels).count(label) > 1)
        raise TaskError(f"the label {twice!r} is there twice", hint="options must differ")


def _closed(paths: Sequence[Tokens], end: int) -> list[Tokens]:
    """Put the end-of-turn token behind every path that another one continues."""
    inner = {path[:length] for path in paths for length in range(1, len(path))}
    return [(*path, end) if path in inner else path for path in paths]


def _root(labels: Sequence[str], paths: Sequence[Tokens]) -> Node:
    """The root is always read, even where it has one branch only: it gives the label mass."""
    if len(set(paths)) < len(paths):
        twice = [label for label, path in zip(labels, paths, strict=True) if paths.count(path) > 1]
        raise TaskError(
            f"the labels {twice} have the same tokens, so this model cannot tell them apart", hint="rename one"
        )
    options = tuple(range(len(paths)))
    return Node((), options, _branches(options, paths, 0))


def _branches(options: Tokens, paths: Sequence[Tokens], depth: int) -> tuple[tuple[int, Node], ...]:
    groups: dict[int, list[int]] = {}
    for option in options:
        groups.setdefault(paths[option][depth], []).append(option)
    return tuple((token, _grow(tuple(below), paths, depth + 1)) for token, below in groups.items())


def _grow(options: Tokens, paths: Sequence[Tokens], depth: int) -> Node:
    """The next place at or after `depth` where the options part; steps without a branch are skipped."""
    first = paths[options[0]]
    if len(options) == 1:
        return Node(first, options)
    while len({paths[option][depth] for option in options}) == 1:
        depth += 1
    return Node(first[:depth], options, _branches(options, paths, depth))


async def read(trie: LabelTrie, ask: Ask, *, prune: float = PRUNE) -> Reading:
    """Ask for the log-probabilities that tell the options apart.

    The mass of a branch with less than `prune` of the label mass is split evenly among its options (0 reads
    every branch).

    Raises: EngineError if the model answers with something that is not a log-probability; what `ask` raises.
    """
    reader = _Reader(ask, prune)
    values = await reader.ask(trie.root)
    mass = logsumexp(values)
    await reader.spread(trie.root, values, mass)
    logprobs = tuple(max(reader.found[option], FLOOR) for option in trie.root.options)
    return Reading(logprobs, math.exp(min(mass, 0.0)), reader.calls)


class _Reader:
    def __init__(self, ask: Ask, prune: float) -> None:
        self.found: dict[int, float] = {}
        self.calls = 0
        self._ask = ask
        self._least = math.log(prune) if prune > 0 else -math.inf

    async def ask(self, node: Node) -> list[float]:
        self.calls += 1
        values = [float(value) for value in await self._ask(node.path, node.tokens)]
        if len(values) != len(node.tokens) or any(math.isnan(value) for value in values):
            raise EngineError("the model's log-probabilities are not numbers", hint="try another dtype")
        return values

    async def spread(self, node: Node, values: Sequence[float], total: float) -> None:
        """Go down from `node`, whose branches have the log-probabilities `values`; `total` is the label mass."""
        pairs = zip(node.branches, values, strict=True)
        inner = [coroutine for (_, below), value in pairs if (coroutine := self._settle(below, value, total))]
        await together(inner)

    def _settle(self, node: Node, mass: float, total: float) -> Coroutine[None, None, None] | None:
        """Note what needs no more asking; what does is returned as a coroutine."""
        if len(node.options) > 1 and mass - total > self._least:
            return self._descend(node, mass, total)
        for option in node.options:
            self.found[option] = mass - math.log(len(node.options))
        return None

    async def _descend(self, node: Node, mass: float, total: float) -> None:
        values = await self.ask(node)
        scale = mass - logsumexp(values)
        await self.spread(node, [max(value, FLOOR) + scale for value in values], total)


async def together(coroutines: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """Run all at once. The first failure cancels the rest and is raised as it is (no exception group)."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def logsumexp(values: Sequence[float]) -> float:
    """log(sum(exp(values))); no value below `FLOOR` counts as less than that."""
    top = max(max(values), FLOOR)
    return top + math.log(max(sum(math.exp(value - top) for value in values), 1e-300))
