"""What every tier answered to a prompt, as outcomes: the sampled fields of a task, asked and certified together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cascade.asking import TEXT
from cascade.record import record_texts
from cascade.route import Tier
from cascade.signals import KNOWN, free_signals
from curator.engines.base import EngineIdentity, Preview
from curator.errors import InputError, InvalidOutputError
from curator.fields import ReasoningField
from curator.types import Capability, Completion, DecideRequest, Decisions, Document, GenerateRequest

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cascade.outcomes import Outcomes
    from cli.tier_answers import TierAnswers
    from curator.task import Task


def check_sampled(task: Task[BaseModel]) -> None:
    """Raises: InputError where the sampled fields make a prompt whose answers cannot be compared."""
    if task.answer_format == "json" and any(isinstance(item, ReasoningField) for item in task.sampled):
        raise InputError(
            "answers that hold reasoning are never alike, so nothing could be certified",
            hint='answer_format = "text" compares what stands behind "Answer:" only',
        )
    if any(item.name == TEXT for item in task.closed):
        raise InputError(f"a field is called {TEXT!r}, as the sampled fields together are", hint="rename the field")


async def text_outcomes(task: Task[BaseModel], documents: Sequence[Document], tiers: Sequence[TierAnswers]) -> Outcomes:
    """What the tiers answered to the task's prompt. Two answers are alike where their first samples say the same; where
    several are drawn, how far those agree is a signal."""
    requests = [task.generate_request(document) for document in documents]
    engines = [
        _Stored(tier.name, {text: tier.texts.get(name) for text, name in _prompts(requests, documents)})
        for tier in tiers
    ]
    signals = list(free_signals("generate"))
    fewest, most = KNOWN["agreement"].allowed or (0, 0)
    if task.samples >= fewest and task.sampling.temperature > 0:
        signals.append(f"agreement:{min(task.samples, int(most))}")
    found = await record_texts(
        [Tier(engine.name, engine) for engine in engines],
        requests,
        signals=signals,
        ids=[document.id for document in documents],
    )
    return found.outcomes[TEXT]


def _prompts(requests: Sequence[GenerateRequest], documents: Sequence[Document]) -> list[tuple[str, str]]:
    return [(request.messages[-1].content, document.id) for request, document in zip(requests, documents, strict=True)]


@dataclass(frozen=True, slots=True)
class _Stored:
    """An engine that knows what a tier has answered, by prompt; None where it did not."""

    name: str
    known: Mapping[str, Completion | None]
    capabilities: frozenset[Capability] = frozenset({"generate"})
    concurrency: int = 1

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("store", self.name)

    async def generate(self, request: GenerateRequest) -> Completion:
        if (found := self.known[request.messages[-1].content]) is None:
            raise InvalidOutputError(f"{self.name} has no answer")
        return found

    async def decide(self, request: DecideRequest) -> Decisions:
        raise InputError("only what was generated is known")

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        return ()

    async def aclose(self) -> None:
        """There is nothing to close."""
