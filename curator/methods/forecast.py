"""What progressive learning would take before it starts: requests and tokens of every step. Nothing is sent.

Steps whose prompts are known are looked up in the store, so that an interrupted run is told what is left of it. A
round's prompts are known once all answers are there that its examples are chosen from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, Generic

from curator.engines.base import EngineIdentity, request_key
from curator.methods.agreed_rows import kept_of
from curator.methods.agreement import Setup
from curator.methods.contrast import Contrast
from curator.methods.replies import asked_as, greedy, replies
from curator.pipeline import Plan, answers_of
from curator.requests import Prompting
from curator.store import Store
from curator.task import Output, Task
from curator.types import Document, GenerateRequest

CHARACTERS_PER_TOKEN: Final = 4
"""The usual figure for English."""

Pages = Callable[[], Iterator[Sequence[Document]]]
"""The documents that would be asked about, from the start."""


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of one engine: how many requests are `answered` already, and how many `calls` are left. The tokens are
    estimated from characters, those of the output (and of examples that are not chosen yet) as the most they can be.
    Each request is for so many `samples`."""

    name: str
    engine: EngineIdentity
    answered: int
    calls: int
    input_tokens: int
    output_tokens: int
    samples: int


def forecast(
    task: Task[Output], setup: Setup, store: Store | None, pages: Pages, plan: Plan, contrast: Contrast | None
) -> list[Step]:
    """The steps of Stage I, and with `contrast` that of Stage II. `pages` says which documents there are; of a store
    that is not there yet nothing is known. Raises: TaskError as `agree` does."""
    walk = _Walk(greedy(task), setup, store, pages, plan)
    steps = list(walk.rounds())
    if contrast is not None:
        asked = asked_as(task, contrast.samples, contrast.temperature, contrast.seed)
        steps.append(walk.step("samples", asked, setup.asked_in(setup.agreement.rounds).identity, walk.prompting))
    return steps


class _Walk(Generic[Output]):
    """Goes through the steps as far as the store knows their answers."""

    def __init__(self, asked: Task[Output], setup: Setup, store: Store | None, pages: Pages, plan: Plan) -> None:
        self.asked, self.setup, self.store, self.pages, self.plan = asked, setup, store, pages, plan
        self.prompting: Prompting | None = None
        """How the last round was asked, None where that is not known yet."""

    def rounds(self) -> Iterator[Step]:
        weak = answers_of(self.asked, self.store, self.setup.weak, self.plan) if self.store else None
        yield (first := self.step("weak", self.asked, self.setup.weak.identity, Prompting()))
        known = weak is not None and not first.calls
        shown, shower = dict(replies(weak)) if weak and known else {}, weak
        for number in range(1, self.setup.agreement.rounds + 1):
            engine = self.setup.asked_in(number)
            plain = engine is self.setup.tuned
            answers = self.setup.answers(shower, shown, number, self.plan) if shower and (known or plain) else None
            self.prompting = Prompting() if plain else answers.prompting if answers else None
            step = self.step(f"round {number}", self.asked, engine.identity, self.prompting)
            yield step
            if plain:
                return
            known = answers is not None and not step.calls
            if weak and answers and known:
                theirs = dict(replies(answers))
                kept = kept_of(weak, answers, self.plan.limit).ids
                shown, shower = {name: theirs[name] for name in kept if name in theirs}, answers

    def step(self, name: str, task: Task[Output], identity: EngineIdentity, prompting: Prompting | None) -> Step:
        """The requests of one turn; `prompting` is None where its examples are not chosen yet."""
        answered = calls = characters = 0
        for page in self._limited():
            asked = [request for one in page for _, request in (prompting or Prompting()).requests(task, one)]
            keys = [request_key(identity, request) for request in asked]
            known = self.store.known(keys) if self.store and prompting else {}
            fresh = dict(zip(keys, asked, strict=True))
            left = [request for key, request in fresh.items() if key not in known]
            answered, calls = answered + len(keys) - len(left), calls + len(left)
            characters += sum(map(_characters, left))
        if prompting is None:
            examples = self.setup.agreement.examples
            characters += calls * examples.count * examples.longest
        most = calls * task.samples * task.sampling.max_tokens
        return Step(name, identity, answered, calls, characters // CHARACTERS_PER_TOKEN, most, task.samples)

    def _limited(self) -> Iterator[Sequence[Document]]:
        if self.plan.limit is None:
            return self.pages()
        return iter([list(islice(chain.from_iterable(self.pages()), self.plan.limit))])


def _characters(request: object) -> int:
    return sum(len(one.content) for one in request.messages) if isinstance(request, GenerateRequest) else 0
