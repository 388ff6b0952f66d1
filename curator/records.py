"""What a run writes down while it goes: one record per answer, and one per document that uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from curator.engines.base import EngineIdentity
from curator.types import Completion, Decisions


@dataclass(frozen=True, slots=True)
class CompletionRecord:
    """An answer, or why there is none for good. `key` is the hash of what was sent and who
    answered; usage, cost and latency are the answer's."""

    key: str
    engine: EngineIdentity
    kind: Literal["decide", "generate"]
    answer: Decisions | Completion | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AnnotationRecord:
    """A document's use of an answer: one per document, task, view and round. `view` -1 is the
    sampled fields' one prompt."""

    document_id: str
    task_id: str
    view: int
    round: int
    key: str
    error: str | None = None
    truncated: bool = False
