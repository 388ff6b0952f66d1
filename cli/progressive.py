"""`goldless progressive`: a strong model learns from a weak one's answers, no gold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.curate import GO_ON, Ingest, Limit
from cli.failures import Exit
from cli.output import Output, amount
from cli.progressive_job import Job, Stage, show_steps
from cli.session import Session, command
from curator.errors import BudgetExceededError, InputError
from curator.types import Json, JsonObject

if TYPE_CHECKING:
    from pydantic import BaseModel

    from curator.annotate import Progress
    from curator.methods.agreement import Agreed, Round
    from curator.methods.contrast import Contrasted


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "progressive",
        example="goldless progressive --dry-run\ngoldless progressive --stage 1\n"
        "goldless progressive --adapter model-v1 --sampled 200 --json",
    )(progressive)


def progressive(
    session: Session,
    stage: Annotated[
        Stage, typer.Option("--stage", help="1: what both models agree on. 2: preference pairs, after Stage I.")
    ] = "all",
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", help="The strong model fine-tuned on round 1: it answers the round after."),
    ] = None,
    sampled: Annotated[
        int | None, typer.Option("--sampled", min=1, help="Stage II samples only the first so many documents.")
    ] = None,
    limit: Limit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take: calls, tokens, time, money.")
    ] = False,
    ingest: Ingest = True,
) -> None:
    """Two models answer with reasoning; what they agree on trains the strong one, then pairs of what it is sure of.

    Stage I freezes a training set per round: both models' rationales of the documents that they answer the same, by
    value. Stage II samples the strong model and freezes preference pairs. What was answered before is never sent again,
    and one model is loaded at a time. Exits with 3 if some rows failed.
    """
    job = Job.of(session, adapter, stage, limit, sampled)
    steps = job.forecast()
    if dry_run or not session.out.json:
        show_steps(session.out, job, steps)
    return None if dry_run else _carry_out(session, job, ingest)


def _carry_out(session: Session, job: Job, ingest: bool) -> None:
    """Do it with progress shown, and report what came out. Raises: typer.Exit if some rows failed."""
    from cli.interrupt import run
    from cli.progress import watch
    from curator.annotate import Progress

    counts, currency = Progress(), job.strong.currency
    try:
        with session.out.guarded(), watch(session.out, counts, currency=currency, per_row=1):
            found = run(_work(session, job, counts, ingest), session.out.complain)
    except (KeyboardInterrupt, BudgetExceededError):
        session.out.complain(f"stopped after {counts.sent:,} new answers: {GO_ON}")
        raise
    _report(session.out, *found, counts, currency)
    if counts.failed:
        raise typer.Exit(Exit.PARTIAL)


async def _work(
    session: Session, job: Job, counts: Progress, ingest: bool
) -> tuple[Agreed[BaseModel], Contrasted[BaseModel] | None]:
    from cli.build import source_of
    from curator.engines.base import close_all
    from curator.methods.agreement import agree
    from curator.methods.contrast import contrast

    settings, store, setup = session.settings, session.store(create=True), job.setup
    source = source_of(settings, session.config.parent) if ingest and settings.source else None
    if source is None and not store.count():
        raise InputError("there are no documents to answer", hint="goldless ingest PATH, or [source] in the settings")
    try:
        agreed = await agree(job.task, setup, store, source=source, plan=job.plan, progress=counts)
        if job.contrast is None:
            return agreed, None
        engine, plan = setup.asked_in(setup.agreement.rounds), replace(job.plan, limit=job.sampled or job.plan.limit)
        return agreed, await contrast(agreed, engine, plan=plan, settings=job.contrast, progress=counts)
    finally:
        await close_all([one for one in (setup.weak, setup.strong, setup.tuned) if one is not None])


def _report(
    out: Output, agreed: Agreed[BaseModel], pairs: Contrasted[BaseModel] | None, counts: Progress, currency: str
) -> None:
    if out.json:
        versions: list[Json] = [one.version.version for one in agreed.rounds]
        second: JsonObject = {"pairs": {"version": pairs.version.version, **pairs.report}} if pairs else {}
        return out.emit({"versions": versions, **agreed.report, **second})
    out.facts(
        {
            "answers": f"{counts.sent:,} new, {counts.reused:,} from before, {counts.failed:,} failed",
            "failures": counts.errors or None,
            "tokens": counts.usage.input_tokens + counts.usage.output_tokens,
            "cost": amount(None if counts.unpriced else counts.cost, currency),
        },
        title="Progressive learning",
    )
    columns = ("round", "examples", "answered by weak", "answered by strong", "kept", "agreement", "version", "rows")
    out.rows(columns, map(_round, agreed.rounds), title="What both models answer the same")
    if pairs is not None:
        outcomes = pairs.report["outcomes"]
        out.facts(outcomes if isinstance(outcomes, dict) else {}, title="What became of the questions")
        out.say(f"\ndataset version {pairs.version.version} has {pairs.version.rows:,} preference pairs")
    out.say("confidences rest on agreement alone and are not calibrated: `goldless audit` checks some by hand")
    train = f"goldless train {agreed.version.version}"
    out.say(f"next: {train}" + (f", goldless prefer {pairs.version.version}" if pairs else ""))
    return None


def _round(found: Round[BaseModel]) -> JsonObject:
    report = found.report
    return {
        "round": report["round"],
        "examples": report["examples"],
        "answered by weak": report["answered_by_weak"],
        "answered by strong": report["answered_by_strong"],
        "kept": f"{report['kept']} ({report['kept_share']:.1%})",
        "agreement": f"{report['agreement']:.1%}",
        "version": found.version.version,
        "rows": report["rows"],
    }
