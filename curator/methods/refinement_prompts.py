"""What refinement asks the strong model (Somerstep et al. 2024, arXiv 2405.16236). Nothing here is sent or kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Final, Literal

from curator.engines.base import EngineIdentity, fill
from curator.requests import SAMPLES_VIEW, Prompting, Request
from curator.task import Output, Task
from curator.types import Document, GenerateRequest, Message, Sampling, Solved

Method = Literal["icl", "infer", "improve"]
"""`icl`: the other texts of a batch and their weak answers are worked examples. `infer`: what the answers of a batch
have in common is put into a sentence, under which each text is answered without seeing any. `improve`: the weak answer
is shown, and a better one asked for."""

IMPROVE: Final = "{prompt}\n\nHere is an answer:\n{answer}\n\nWrite a better answer. Reply with that answer only."
CONCEPT: Final = (
    "Here are {count} texts, each with an answer.\n\n{pairs}\n\n"
    "Whatever they are about, what do the answers have in common in how they are written: voice, style, format? "
    "Reply with one sentence that begins: The style used is"
)
PAIR: Final = "Text: {state}\nAnswer: {answer}"
UNDER: Final = "{concept} Answer in this style."
CONCEPT_SAMPLING: Final = Sampling(temperature=0.0, max_tokens=100)

Make = Callable[[Document], GenerateRequest | None]


@dataclass(frozen=True, slots=True)
class Told(Prompting):
    """Documents that are asked as `make` says; those that it has nothing to ask about are passed over. `mark` is what
    their annotations are kept under, beside the engine."""

    mark: str = ""
    make: Make = lambda document: None

    def requests(self, task: Task[Output], document: Document) -> Iterator[tuple[int, Request]]:
        """The one request, if there is one."""
        if (found := self.make(document)) is not None:
            yield SAMPLES_VIEW, found

    def annotation_id(self, task: Task[Output], identity: EngineIdentity) -> str:
        digest = hashlib.blake2b(repr((identity, self.mark)).encode(), digest_size=4).hexdigest()
        return f"{task.id}@{digest}"


def batches(names: Sequence[str], size: int, seed: int) -> list[tuple[str, ...]]:
    """The documents in random batches of at most `size`, and of equal sizes but for one. The order of `names` does not
    matter."""

    def drawn(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()

    shuffled = sorted(names, key=lambda name: (drawn(name), name))
    count = -(-len(shuffled) // size)
    if not count:
        return []
    sizes = [len(shuffled) // count + (place < len(shuffled) % count) for place in range(count)]
    return [tuple(shuffled[start:end]) for start, end in pairwise(accumulate(sizes, initial=0))]


@dataclass(frozen=True)
class Pairs:
    """Documents, the weak answer of each that has one, and the batch that each of those is in."""

    documents: Mapping[str, Document]
    answers: Mapping[str, str]
    size: int
    seed: int

    @cached_property
    def batches(self) -> Mapping[str, tuple[str, ...]]:
        """Document -> its batch."""
        return {name: batch for batch in batches(list(self.answers), self.size, self.seed) for name in batch}

    def batch(self, name: str) -> tuple[str, ...]:
        """The documents of a document's batch, itself among them; none if it has no weak answer."""
        return self.batches.get(name, ())

    def solved(self, names: Sequence[str]) -> list[Solved]:
        """Their texts and weak answers."""
        return [Solved(self.documents[name].text, self.answers[name]) for name in names]


def by_examples(task: Task[Output], pairs: Pairs) -> Make:
    """ICL-refine. A document that is alone in its batch has no examples, and is not asked."""

    def make(document: Document) -> GenerateRequest | None:
        others = [name for name in pairs.batch(document.id) if name != document.id]
        return task.generate_request(document, pairs.solved(others)) if others else None

    return make


def concepts(pairs: Pairs) -> Make:
    """What a batch has in common, asked about the first of its documents."""

    def make(document: Document) -> GenerateRequest | None:
        batch = pairs.batch(document.id)
        if not batch or batch[0] != document.id:
            return None
        shown = [fill(PAIR, state=one.state, answer=one.reply) for one in pairs.solved(batch)]
        asked = fill(CONCEPT, count=str(len(batch)), pairs="\n\n".join(shown))
        return GenerateRequest((Message("user", asked),), CONCEPT_SAMPLING)

    return make


def under_concepts(task: Task[Output], pairs: Pairs, found: Mapping[str, str]) -> Make:
    """Infer-and-respond. `found` maps the first document of a batch to its sentence; a batch without one is not
    asked."""

    def make(document: Document) -> GenerateRequest | None:
        batch = pairs.batch(document.id)
        concept = found.get(batch[0]) if batch else None
        if concept is None:
            return None
        request = task.generate_request(document)
        system = Message("system", fill(UNDER, concept=concept))
        return replace(request, messages=(system, *request.messages))

    return make


def improving(task: Task[Output], pairs: Pairs) -> Make:
    """Ask-to-improve."""

    def make(document: Document) -> GenerateRequest | None:
        if (answer := pairs.answers.get(document.id)) is None:
            return None
        request = task.generate_request(document)
        asked = fill(IMPROVE, prompt=request.messages[-1].content, answer=answer)
        return replace(request, messages=(*request.messages[:-1], Message("user", asked)))

    return make


def sentence(text: str) -> str:
    """The concept in a reply: its first line with words in it, on one line."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return next((line for line in lines if line), "")
