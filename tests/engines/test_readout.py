"""The read-out, checked against brute force over a toy tokenizer and a toy model."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.engines.readout import FLOOR, LabelTrie, label_trie, logsumexp, read, together, walk
from curator.errors import EngineError, TaskError

END = 0
VOCABULARY = 40
PIECES = ["a", "b", "c", "ab", "bc", "abc", "é", "日", "日本", " ", " a", " ab", "_", "_a"]


def encode(text: str) -> list[int]:
    """Greedy longest match, so that text merges across boundaries as real tokenizers do."""
    ids = []
    while text:
        piece = max((piece for piece in PIECES if text.startswith(piece)), key=len)
        ids.append(PIECES.index(piece) + 1)
        text = text[len(piece) :]
    return ids


def next_logprobs(path: Sequence[int]) -> list[float]:
    """A fixed toy model: a full next-token distribution that depends on the whole path."""
    digest = hashlib.shake_128(repr(tuple(path)).encode()).digest(VOCABULARY)
    total = logsumexp([byte / 16 for byte in digest])
    return [byte / 16 - total for byte in digest]


async def ask(path: tuple[int, ...], tokens: tuple[int, ...]) -> list[float]:
    logprobs = next_logprobs(path)
    return [logprobs[token] for token in tokens]


def constrained(paths: Sequence[Sequence[int]], path: Sequence[int]) -> float:
    """Log-probability of `path` where, after the first token, only the paths' own continuations are allowed."""
    result = next_logprobs(())[path[0]]
    for depth in range(1, len(path)):
        logprobs = next_logprobs(path[:depth])
        allowed = {other[depth] for other in paths if other[:depth] == path[:depth] and len(other) > depth}
        result += logprobs[path[depth]] - logsumexp([logprobs[token] for token in allowed])
    return result


def make(labels: Sequence[str], tail: str = "") -> LabelTrie:
    return label_trie(labels, encode(tail), [encode(tail + label) for label in labels], END)


words = st.text(alphabet="abc_é日本 ", min_size=1, max_size=7).map(lambda text: text.replace("本", "日本"))
label_sets = st.lists(words.filter(str.strip), min_size=2, max_size=12, unique=True)


@settings(max_examples=300, deadline=None)
@given(labels=label_sets, tail=st.sampled_from(["", "b", "c a", "c ", "日"]))
def test_without_pruning_the_trie_equals_constrained_decoding(labels, tail):
    trie = make(labels, tail)
    context = encode(tail)
    kept = context[: len(context) - trie.drop]
    paths = []
    for label in labels:
        ids = encode(tail + label)
        assert ids[: len(kept)] == kept
        paths.append(ids[len(kept) :])
    closed = [[*path, END] if any(o != path and o[: len(path)] == path for o in paths) else path for path in paths]
    reading = asyncio.run(read(trie, ask, prune=0))
    for path, logprob in zip(closed, reading.logprobs, strict=True):
        assert logprob == pytest.approx(constrained(closed, path), abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(labels=label_sets, prune=st.sampled_from([0.0, 1e-3, 0.2, 0.9]))
def test_the_options_sum_to_the_label_mass_whatever_is_pruned(labels, prune):
    trie = make(labels)
    reading = asyncio.run(read(trie, ask, prune=prune))
    assert sum(map(math.exp, reading.logprobs)) == pytest.approx(reading.label_mass)
    assert 0 < reading.label_mass <= 1
    assert 1 <= reading.calls <= sum(bool(node.branches) for node in walk(trie.root))


def test_labels_that_differ_in_their_first_token_take_one_call():
    reading = asyncio.run(read(make(["a", "b", "cb"]), ask))
    logprobs = next_logprobs(())
    assert reading.calls == 1
    assert reading.logprobs == tuple(logprobs[PIECES.index(piece) + 1] for piece in "abc")


def test_a_label_that_another_continues_is_closed_by_the_end_of_turn():
    trie = make(["ab", "ab_", "c"])
    assert trie.scored(0) == (4, END)
    assert trie.scored(1) == (4, 13)
    assert trie.scored(2) == (3,)
    assert trie.depth == 1


def test_tokens_without_a_branch_are_skipped_but_the_root_is_read():
    trie = make(["__a", "__b"])
    assert trie.root.tokens == (13,)
    assert trie.scored(0) == (13, 14)
    asked = []

    async def record(path, tokens):
        asked.append((path, tokens))
        return await ask(path, tokens)

    asyncio.run(read(trie, record))
    assert asked == [((), (13,)), ((13,), (14, 13))]


def test_the_end_of_the_prompt_that_merges_with_a_label_belongs_to_the_label():
    trie = make(["a", "ab", "c"], tail="b ")
    assert trie.drop == 1
    assert [trie.scored(option) for option in range(3)] == [(11,), (12,), (10,)]


def test_a_small_branch_is_split_evenly_without_asking():
    trie = make(["a_b", "a_c", "b"])

    async def lopsided(path, tokens):
        assert not path
        return [-20.0, -0.1]

    reading = asyncio.run(read(trie, lopsided))
    assert reading.logprobs == pytest.approx((-20 - math.log(2), -20 - math.log(2), -0.1))


def test_an_impossible_label_gets_a_finite_log_probability():
    async def never(path, tokens):
        return [-math.inf, -0.5]

    assert asyncio.run(read(make(["a", "b"]), never)).logprobs == (FLOOR, -0.5)
    trie = make(["a_b", "a_c"])
    assert all(map(math.isfinite, asyncio.run(read(trie, lambda path, tokens: nothing(tokens), prune=0)).logprobs))


async def nothing(tokens):
    return [-math.inf] * len(tokens)


@pytest.mark.parametrize("values", [[math.nan, 0.0], [0.0]])
def test_what_is_not_a_log_probability_is_an_engine_error(values):
    async def broken(path, tokens):
        return values

    with pytest.raises(EngineError, match="not numbers"):
        asyncio.run(read(make(["a", "b"]), broken))


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a"], "at least two"), (["a", " "], "empty"), (["a", "a"], "'a' is there twice"), ([], "at least two")],
)
def test_labels_that_no_model_can_be_asked(labels, message):
    with pytest.raises(TaskError, match=message):
        make(labels)


def test_labels_with_the_same_tokens_are_named():
    with pytest.raises(TaskError, match=r"\['x', 'y'\] have the same tokens"):
        label_trie(["x", "y"], [], [[7], [7]], END)


def test_a_label_without_tokens_is_named():
    with pytest.raises(TaskError, match="'x' encodes to no token"):
        label_trie(["x", "y"], [1], [[1], [1, 2]], END)


def test_a_hundred_and_fifty_labels():
    labels = ["_".join(letters) for letters in list(itertools.product("abc", repeat=5))[:150]]
    reading = asyncio.run(read(make(labels), ask, prune=0))
    assert sum(map(math.exp, reading.logprobs)) == pytest.approx(reading.label_mass)


def test_together_cancels_the_rest_and_raises_the_failure_itself():
    cancelled = []

    async def slow():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fails():
        await asyncio.sleep(0)
        raise EngineError("dead")

    with pytest.raises(EngineError, match="dead"):
        asyncio.run(together([slow(), fails(), slow()]))
    assert cancelled == [True, True]
