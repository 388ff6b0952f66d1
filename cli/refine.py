"""`goldless refine`: a strong model writes weak answers anew, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated

import typer

from cli.curate import GO_ON, Ingest, Limit
from cli.failures import Exit
from cli.output import Output, amount
from cli.progressive_job import shared_account
from cli.session import Session, command
from curator.errors import BudgetExceededError, ConfigError, InputError
from curator.types import Document, JsonObject, Usage

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cli.settings import EngineSettings
    from curator.annotate import Progress
    from curator.methods.forecast import Step
    from curator.methods.refinement import Refined, Refining
    from curator.pipeline import Plan
    from curator.store import Store


class Method(StrEnum):
    """How weak answers are refined; see `curator.methods.refinement_prompts`."""

    ICL = "icl"
    INFER = "infer"
    IMPROVE = "improve"


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "refine",
        example="goldless refine --dry-run\ngoldless refine --column reply --method icl --method infer\n"
        "goldless refine --json > report.json",
    )(refine)


def refine(
    session: Session,
    column: Annotated[
        str | None, typer.Option("--column", help="The source's column with weak answers, in place of a weak engine.")
    ] = None,
    method: Annotated[
        list[Method] | None, typer.Option("--method", help="How to refine; repeatable. By default all three.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=2, help="Weak answers that are shown together.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Draws the batches.")] = None,
    limit: Limit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take: calls, tokens, money.")
    ] = False,
    ingest: Ingest = True,
) -> None:
    """Have the strong model write weak answers anew: in their style, with its own knowledge.

    The task's answers are whole texts (answer_format = "free"). A dataset version is frozen per arm: the weak answers,
    the strong model's own (base) to compare with, and those of each method. icl: weak answers are worked examples.
    infer: what they have in common is put into a sentence, and answered under. improve: each is improved. What was
    answered before is never sent again. Exits with 3 if some rows failed.
    """
    said = {
        "column": column,
        "methods": tuple(one.value for one in method) if method else None,
        "batch": batch,
        "seed": seed,
    }
    job = _Job(session, {name: value for name, value in said.items() if value is not None}, limit)
    if dry_run or not session.out.json:
        _show_steps(job, job.forecast())
    return None if dry_run else _carry_out(session, job, ingest)


@dataclass(frozen=True)
class _Job:
    """The settings, the options `said`, and what they describe."""

    session: Session
    said: Mapping[str, object]
    limit: int | None

    @cached_property
    def weak(self) -> EngineSettings | None:
        """The weak engine's table; None where the weak answers stand in a column."""
        return None if "column" in self.said else self.session.settings.refine.weak

    @cached_property
    def refining(self) -> Refining:
        """Nothing is loaded yet. Raises: ConfigError, MissingExtraError, WeightsError"""
        from cli.build import connected
        from curator.methods.refinement import Refining

        settings = self.session.settings
        given = settings.refine.model_copy(update=dict(self.said))
        if self.weak is None and not given.column:
            raise ConfigError(
                "the settings name no weak answers",
                hint='write [refine.weak] with spec = "vllm:...", or name a column of the source with --column',
            )
        tables = [self.session.engine_settings(), *([self.weak] if self.weak else [])]
        account = shared_account(settings.budget, tables)
        strong, *weak = (connected(table, account, settings.cascade.tiers) for table in tables)
        return Refining(
            strong,
            weak[0] if weak else None,
            given.weak_instruction,
            given.column,
            given.methods,
            given.batch,
            given.seed,
        )

    @cached_property
    def plan(self) -> Plan:
        from cli.build import screening_of
        from curator.pipeline import Plan

        screening = screening_of(self.session.settings, self.session.config.parent)
        return Plan(screening=screening, long_text=self.session.engine_settings().long_text, limit=self.limit)

    def forecast(self) -> list[Step]:
        """What is left to do, as far as it is known."""
        from curator.methods.refinement_cost import forecast_refinement

        store = self.session.store() if self.session.location.exists() else None
        documents = {one.id: one for one in islice(chain.from_iterable(self._pages(store)), self.limit)}
        return forecast_refinement(self.session.task(), self.refining, store, documents, self.plan)

    def _pages(self, store: Store | None) -> Iterator[Sequence[Document]]:
        from cli.build import source_of

        if store is not None and store.count():
            return store.documents(kept_by=self.plan.screening.key)
        return source_of(self.session.settings, self.session.config.parent).batches()

    def priced(self, step: Step) -> float | None:
        """The money of a step, None without a price."""
        from cli.build import price_of

        table = self.weak if step.name == "weak" and self.weak else self.session.engine_settings()
        price = price_of(table)
        return price.cost(Usage(step.input_tokens, step.output_tokens)) if price else None


def _show_steps(job: _Job, steps: Sequence[Step]) -> None:
    out, currency = job.session.out, job.session.engine_settings().currency
    rows: list[JsonObject] = []
    for step in steps:
        row: JsonObject = {"step": step.name, "engine": str(step.engine), "answered": step.answered}
        row |= {"calls": step.calls, "input tokens": step.input_tokens, "output tokens": step.output_tokens}
        cost = job.priced(step)
        rows.append({**row, "cost": cost if out.json else amount(cost, currency)})
    out.rows(
        ("step", "engine", "answered", "calls", "input tokens", "output tokens", "cost"), rows, title="This would take"
    )
    out.say("tokens are estimated from characters; those of answers to come are the most they can be")


def _carry_out(session: Session, job: _Job, ingest: bool) -> None:
    """Do it with progress shown, and report what came out. Raises: typer.Exit if some rows failed."""
    from cli.interrupt import run
    from cli.progress import watch
    from curator.annotate import Progress

    counts, currency = Progress(), session.engine_settings().currency
    try:
        with session.out.guarded(), watch(session.out, counts, currency=currency, per_row=1):
            found = run(_work(session, job, counts, ingest), session.out.complain)
    except (KeyboardInterrupt, BudgetExceededError):
        session.out.complain(f"stopped after {counts.sent:,} new answers: {GO_ON}")
        raise
    _report(session.out, found, currency)
    if counts.failed:
        raise typer.Exit(Exit.PARTIAL)


async def _work(session: Session, job: _Job, counts: Progress, ingest: bool) -> Refined[BaseModel]:
    from cli.build import source_of
    from curator.engines.base import close_all
    from curator.methods.refinement import refine as method

    store, refining = session.store(create=True), job.refining
    source = source_of(session.settings, session.config.parent) if ingest and session.settings.source else None
    if source is None and not store.count():
        raise InputError("there are no documents to answer", hint="goldless ingest PATH, or [source] in the settings")
    try:
        return await method(session.task(), store, refining, source=source, plan=job.plan, progress=counts)
    finally:
        await close_all([one for one in (refining.weak, refining.strong) if one is not None])


def _report(out: Output, found: Refined[BaseModel], currency: str) -> None:
    versions = {name: version.version for name, version in found.versions.items()}
    if out.json:
        return out.emit({"versions": dict(versions.items()), **found.report})
    counts = found.progress
    facts: dict[str, object] = {
        "answers": f"{counts.sent:,} new, {counts.reused:,} from before, {counts.failed:,} failed",
        "failures": counts.errors or None,
        "tokens": counts.usage.input_tokens + counts.usage.output_tokens,
        "cost": amount(None if counts.unpriced else counts.cost, currency),
    }
    out.facts(facts, title="Refinement")
    columns = ("arm", "version", "rows", "missing", "characters", "same as weak", "same as base")
    out.rows(columns, list(_arms(found.report["arms"], versions)), title="What each arm says")
    out.say("how good the texts are is not known: compare the refined ones with base before you train on them")
    out.say("next: goldless show dataset VERSION, goldless export VERSION, goldless train VERSION")
    return None


def _arms(arms: object, versions: Mapping[str, int]) -> Iterator[JsonObject]:
    for name, arm in arms.items() if isinstance(arms, dict) else ():
        shares = {key: None if name == key else f"{arm[f'same_as_{key}']:.1%}" for key in ("weak", "base")}
        yield {
            "arm": name,
            "version": versions.get(name),
            "rows": arm["rows"],
            "missing": sum(arm["missing"].values()),
            "characters": round(arm["mean_characters"]),
            "same as weak": shares["weak"],
            "same as base": shares["base"],
        }
