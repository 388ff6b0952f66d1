"""What `goldless progressive` was asked for, and what that would take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cli.output import Output, amount, duration
from cli.session import Session
from curator.errors import ConfigError
from curator.types import Document, JsonObject, Usage

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cli.settings import EngineSettings
    from curator.engines.base import Engine
    from curator.methods.agreement import Setup
    from curator.methods.contrast import Contrast
    from curator.methods.forecast import Step
    from curator.pipeline import Plan
    from curator.task import Task

Stage = Literal["1", "2", "all"]


@dataclass(frozen=True)
class Job:
    """The settings, and the options of one run. `contrast` is None where only Stage I was asked for; `sampled` is how
    many documents Stage II samples, None for all."""

    session: Session
    task: Task[BaseModel]
    adapter: Path | None
    contrast: Contrast | None
    limit: int | None
    sampled: int | None

    @classmethod
    def of(cls, session: Session, adapter: Path | None, stage: Stage, limit: int | None, sampled: int | None) -> Job:
        """Raises: ConfigError, TaskError"""
        from curator.methods.contrast import Contrast

        given = session.settings.progressive
        named = {name: getattr(given, name) for name in Contrast.__dataclass_fields__}
        return cls(session, session.task(), adapter, None if stage == "1" else Contrast(**named), limit, sampled)

    @cached_property
    def strong(self) -> EngineSettings:
        """Raises: ConfigError if the settings name no strong engine."""
        return self.session.settings.progressive.strong or self.session.engine_settings()

    @cached_property
    def weak(self) -> EngineSettings:
        """Raises: ConfigError if the settings name no weak engine."""
        if (found := self.session.settings.progressive.weak) is None:
            raise ConfigError("the settings name no weak model", hint='write [progressive.weak] with spec = "vllm:..."')
        return found

    @cached_property
    def setup(self) -> Setup:
        """The engines, capped together by [budget]; nothing is loaded yet.

        Raises: ConfigError, MissingExtraError, WeightsError
        """
        from cli.build import connected
        from curator.engines.wrappers import Account, Budget
        from curator.methods.agreement import Agreement, Setup
        from curator.methods.demonstrations import Chooser
        from curator.types import Price

        settings, given = self.session.settings, self.session.settings.progressive
        budget, tables = settings.budget, [self.weak, self.strong]
        if budget.money is not None and any(one.price_input is None for one in tables):
            raise ConfigError("budget.money needs prices", hint="set price_input and price_output of both engines")
        # Each engine has its own price; this one stands for none.
        cap = Budget(budget.calls, budget.tokens, budget.money, Price(0.0, 0.0))
        account = Account(cap) if budget.model_fields_set else None

        def open_(table: EngineSettings) -> Engine:
            return connected(table, account, settings.cascade.tiers)

        chooser = Chooser(given.examples, given.longest, given.seed)
        agreement = Agreement(given.rounds, chooser, arithmetic=given.arithmetic)
        return Setup(open_(self.weak), open_(self.strong), open_(self._tuned) if self.adapter else None, agreement)

    @property
    def _tuned(self) -> EngineSettings:
        settings = {**self.strong.settings, "adapter": str(self.adapter)}
        return self.strong.model_copy(update={"settings": settings})

    @property
    def plan(self) -> Plan:
        from cli.build import screening_of
        from curator.pipeline import Plan

        screening = screening_of(self.session.settings, self.session.config.parent)
        return Plan(screening=screening, long_text=self.strong.long_text, limit=self.limit)

    def forecast(self) -> list[Step]:
        """The steps that are left, as far as they are known; nothing is sent."""
        from curator.methods.forecast import forecast

        store = self.session.store() if self.session.location.exists() else None
        plan = self.plan

        def pages() -> Iterator[Sequence[Document]]:
            from cli.build import source_of

            if store is not None and store.count():
                return store.documents(kept_by=plan.screening.key)
            return source_of(self.session.settings, self.session.config.parent).batches()

        return forecast(self.task, self.setup, store, pages, plan, self.contrast)

    def priced(self, step: Step) -> float | None:
        """The money of a step, None without a price."""
        from cli.build import price_of

        price = price_of(self.weak if step.engine == self.setup.weak.identity else self.strong)
        return price.cost(Usage(step.input_tokens, step.output_tokens)) if price else None

    def seconds(self, step: Step) -> float | None:
        """How long a step would take at the pace of the last turn of its kind, None before there was one."""
        store = self.session.store() if self.session.location.exists() else None
        for version in reversed(store.datasets() if store else []):
            for kind, engine, turn in _turns(version.report):
                if kind == (step.samples > 1) and engine == str(step.engine) and turn.get("sent"):
                    return step.calls * float(str(turn["seconds"])) / float(str(turn["sent"]))
        return None


def _turns(report: JsonObject) -> Iterator[tuple[bool, str, JsonObject]]:
    """(whether it sampled, engine, counts) of the turns that a version's report tells of."""
    for engine, turn in (("engine", "annotation"), ("strong", "annotation"), ("weak_engine", "weak")):
        counts = report.get(turn)
        if engine in report and isinstance(counts, dict):
            yield "contrast" in report, str(report[engine]), counts


def show_steps(out: Output, job: Job, steps: Sequence[Step]) -> None:
    """What every step would take, as a table or one JSON object each."""
    rows = [_shown(job, step) for step in steps]
    columns = ("step", "engine", "answered", "calls", "input tokens", "output tokens", "time", "cost")
    out.rows(columns, rows, title="This would take")
    out.say("output tokens are the most there can be, input tokens are estimated from characters")


def _shown(job: Job, step: Step) -> JsonObject:
    seconds, cost = job.seconds(step), job.priced(step)
    row: JsonObject = {"step": step.name, "engine": str(step.engine), "answered": step.answered, "calls": step.calls}
    row |= {"input tokens": step.input_tokens, "output tokens": step.output_tokens}
    if job.session.out.json:
        return {**row, "seconds": seconds, "cost": cost}
    return {**row, "time": duration(seconds), "cost": amount(cost, job.strong.currency)}
