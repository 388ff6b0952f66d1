"""What is asked about one document: requests, their keys, worked examples, and texts cut to fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from curator.engines.base import Engine, EngineIdentity, request_key
from curator.errors import InputError
from curator.records import AnnotationRecord
from curator.shortlists import BLOCK, Aid, Retriever
from curator.task import Output, Task
from curator.types import Completion, DecideRequest, Decisions, Demonstration, Document, GenerateRequest, Solved

Request = DecideRequest | GenerateRequest

SAMPLES_VIEW = -1
"""The `view` of annotations that come from the sampled fields' one prompt."""

LongText = Literal["keep_start", "keep_ends", "skip"]
"""What to do with a text that does not fit the model's context: keep its start, its start and end,
or record it as failed."""


@dataclass(frozen=True, slots=True)
class Prompting:
    """How the documents of one round are asked.

    `shots` holds worked examples, one list per shard of the corpus; a document's hash says which shard
    it is in. All documents of a shard share their examples as a prefix, which engines compute once.
    Every shard counts as views of its own, since examples bring a label bias of their own. `solved` are
    the sampled fields' examples, per shard too; votes have no bias to part them by. A `retriever` adds
    what it looks up for each document: a shortlist of options, and examples behind those of the shard.
    """

    round: int = 0
    shots: tuple[tuple[Demonstration, ...], ...] = ((),)
    long_text: LongText = "keep_start"
    solved: tuple[tuple[Solved, ...], ...] = ((),)
    retriever: Retriever | None = None

    def shard(self, document_id: str) -> int:
        """Which of the shards a document is in."""
        return shard_of(document_id, len(self.shots))

    def requests(self, task: Task[Output], document: Document) -> Iterator[tuple[int, Request]]:
        """(view, request) for all that `task` asks about one document."""
        if task.closed:
            shard, views = self.shard(document.id), len(task.views)
            for view in range(views):
                yield shard * views + view, task.decide_request(document, view, self.shots[shard])
        if task.sampled:
            examples = self.solved[shard_of(document.id, len(self.solved))]
            yield SAMPLES_VIEW, task.generate_request(document, examples)

    def blocks(self, pages: Iterable[Sequence[Document]]) -> Iterator[Sequence[Document]]:
        """The documents, as many at a time as are prepared together."""
        for page in pages:
            size = BLOCK if self.retriever else max(len(page), 1)
            yield from (page[start : start + size] for start in range(0, len(page), size))

    def work(self, task: Task[Output], identity: EngineIdentity, documents: Sequence[Document]) -> list[Work]:
        """All that is to be sent to one engine about some documents. Raises: GoldlessError from the retriever."""
        aids = self.retriever.look_up(documents) if self.retriever else [None] * len(documents)
        return [
            _work(document.id, view, request, identity, aid)
            for document, aid in zip(documents, aids, strict=True)
            for view, request in self.requests(task, document)
        ]

    def annotation_id(self, task: Task[Output], identity: EngineIdentity) -> str:
        """What the annotations of `task` by one engine under these examples are kept under. Two engines'
        answers must never be mixed: each has a label bias of its own."""
        aids: list[object] = [shown for shown in (self.shots, self.solved) if any(shown)]
        aids += [self.retriever.key] if self.retriever else []
        asked = (identity, *aids) if aids else identity
        digest = hashlib.blake2b(repr(asked).encode(), digest_size=4).hexdigest()
        return f"{task.id}@{digest}"


PLAIN = Prompting()
"""No examples: the documents are asked as the task says."""


def shard_of(document_id: str, shards: int) -> int:
    """The shard of a document, by its id alone."""
    return int.from_bytes(hashlib.blake2b(document_id.encode(), digest_size=8).digest()) % shards


@dataclass(slots=True)
class Work:
    """One request of one document. `key` is what its answer is kept under. `whole` is what was to be asked
    before `aid` cut it down to what is sent."""

    document_id: str
    view: int
    request: Request
    key: str
    too_long: bool = False
    aid: Aid | None = None
    whole: DecideRequest | None = None

    def kept(self, answer: Decisions | Completion) -> Decisions | Completion:
        """The answer as it is kept: to all that was to be asked."""
        if self.aid is None or self.whole is None or isinstance(answer, Completion):
            return answer
        return self.aid.spread(self.whole, answer)

    def annotation(self, asked: str, number: int, error: str | None, truncated: bool) -> AnnotationRecord:
        """The record that links the document to the answer: of round `number`, kept under `asked`."""
        return AnnotationRecord(self.document_id, asked, self.view, number, self.key, error, truncated)


def _work(document_id: str, view: int, request: Request, identity: EngineIdentity, aid: Aid | None) -> Work:
    if aid is None or isinstance(request, GenerateRequest):
        return Work(document_id, view, request, request_key(identity, request))
    sent = aid.cut(request)
    return Work(document_id, view, sent, aid.key(request_key(identity, sent)), aid=aid, whole=request)


def requests_of(task: Task[Output], document: Document) -> Iterator[tuple[int, Request]]:
    """(view, request) for all that `task` asks about one document."""
    return PLAIN.requests(task, document)


def check_capabilities(task: Task[Output], engine: Engine) -> None:
    """Raises: InputError if the engine cannot answer what the task asks."""
    for needed, fields in (("decide", task.closed), ("generate", task.sampled)):
        if fields and needed not in engine.capabilities:
            names = ", ".join(item.name for item in fields)
            raise InputError(
                f"{engine.identity} cannot {needed}, which the fields {names} need",
                hint="use an engine that can, or drop these fields",
            )


def fitted_key(key: str, policy: LongText) -> str:
    """The key of the answer to a text that was cut to fit."""
    return hashlib.blake2b(f"{key}:{policy}".encode(), digest_size=16).hexdigest()


def shortened(
    request: DecideRequest | GenerateRequest, share: float, policy: LongText
) -> DecideRequest | GenerateRequest:
    """The request with `share` of its text. Of a sampled prompt, whose end says what is wanted, both
    ends are kept."""
    if isinstance(request, DecideRequest):
        return replace(request, state=_cut(request.state, share, policy))
    last = request.messages[-1]
    short = replace(last, content=_cut(last.content, share, "keep_ends"))
    return replace(request, messages=(*request.messages[:-1], short))


def _cut(text: str, share: float, policy: LongText) -> str:
    """`share` of `text` by characters."""
    size = max(1, int(len(text) * share))
    if policy == "keep_start":
        return text[:size]
    return f"{text[: size - size // 2]} […] {text[len(text) - size // 2 :]}"
