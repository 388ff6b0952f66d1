"""The main job: preview what is asked, and curate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.dry_run import say_what_it_takes
from cli.failures import Exit
from cli.output import Output, amount, plain, show
from cli.session import Session, command
from curator.errors import BudgetExceededError, ConfigError, GoldlessError, InputError
from curator.types import Document, Json, JsonObject

if TYPE_CHECKING:
    from pydantic import BaseModel

    from curator.engines.base import Engine
    from curator.pipeline import Curation, Plan
    from curator.task import Task

Job = Callable[..., Awaitable["Curation[BaseModel]"]]
"""`curator.curate`, or a method that takes and returns the same."""

Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Label only the first so many documents.")]
Ingest = Annotated[bool, typer.Option("--ingest/--no-ingest", help="Whether to read the settings' source first.")]
LessonFile = Annotated[
    Path | None,
    typer.Option("--lesson", help="Write what was learned about the model: taught:FILE then answers as the labels do."),
]

GO_ON = "what was answered is kept; the same command goes on from there"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "preview", example="goldless preview\ngoldless preview --document review-17 --json")(preview)
    command(
        app,
        "curate",
        example="goldless curate --dry-run\ngoldless curate --limit 100\ngoldless curate --json > report.json",
    )(curate)


def curate(
    session: Session,
    limit: Limit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take: calls, tokens, time, money.")
    ] = False,
    ingest: Ingest = True,
    lesson: LessonFile = None,
) -> None:
    """Label every document, estimate how far each label can be trusted, and freeze a training set.

    Does only what is missing: what was answered before is never sent again. Exits with 3 if some rows
    failed; they are asked again the next time where that may help.
    """
    from curator.pipeline import curate as job

    task = session.task()
    if dry_run:
        return say_what_it_takes(session, task, limit)
    return carry_out(session, job, limit, ingest, lesson)


def carry_out(session: Session, job: Job, limit: int | None, ingest: bool, lesson: Path | None) -> None:
    """Run `job` with progress shown, and report what came out.

    Raises: typer.Exit if some rows failed.
    """
    from cascade.opening import is_cascade
    from cli.cascades import expectation

    task, engine = session.task(), session.engine_settings()
    expected = expectation(engine, task)
    currency = engine.currency if expected is None else expected.policy.currency
    if expected is not None:
        expected.say(session.out)
    if lesson is not None and is_cascade(engine.spec):
        raise ConfigError("a lesson is of one model, and the engine is a cascade", hint="leave out --lesson")
    with session.out.guarded():
        result = _run(session, task, job, (limit, ingest), currency)
        if lesson is not None:
            from curator.taught import lesson_of

            lesson_of(result.learned).save(lesson, engine.spec)
            session.out.say(f"the lesson is in {lesson}: connect taught:{lesson}")
    _report(session.out, result, currency)
    if expected is not None:
        expected.compare(result.progress.tiers, session.out)
    if result.progress.failed:
        raise typer.Exit(Exit.PARTIAL)


def _run(
    session: Session, task: Task[BaseModel], job: Job, what: tuple[int | None, bool], currency: str
) -> Curation[BaseModel]:
    from cli.interrupt import run
    from cli.progress import watch
    from curator.annotate import Progress

    progress = Progress()
    try:
        with watch(session.out, progress, currency=currency, per_row=requests_per_row(task)):
            return run(_work(session, task, partial(job, progress=progress), *what), session.out.complain)
    except (KeyboardInterrupt, BudgetExceededError):
        session.out.complain(f"stopped after {progress.sent:,} new answers: {GO_ON}")
        raise
    except GoldlessError:
        if progress.errors:
            session.out.complain(f"of {progress.done:,} answers, failed: {show(progress.errors)}")
        raise


async def _work(
    session: Session, task: Task[BaseModel], job: Job, limit: int | None, ingest: bool
) -> Curation[BaseModel]:
    from cli.build import source_of

    settings = session.settings
    store = session.store(create=True)
    source = source_of(settings, session.config.parent) if ingest and settings.source else None
    if source is None and not store.count():
        raise InputError("there are no documents to label", hint="goldless ingest PATH, or [source] in the settings")
    async with aclosing(session.engine(session.engine_settings(), capped=True)) as engine:
        plan = _plan(session, limit)
        try:
            return await job(task, engine, store, source=source, plan=plan)
        finally:
            if plan.reference is not None:
                await plan.reference.aclose()


def _plan(session: Session, limit: int | None) -> Plan:
    from cli.build import denoising_of, screening_of, selection_of
    from curator.pipeline import Plan

    settings = session.settings
    reference = settings.reference
    return Plan(
        screening=screening_of(settings, session.config.parent),
        selection=selection_of(settings.select),
        balance_by=settings.select.by,
        long_text=session.engine_settings().long_text,
        limit=limit,
        probes=settings.prior.probes,
        shares=settings.prior.shares,
        denoising=denoising_of(settings.denoise),
        reference=session.engine(reference, capped=True) if reference else None,
        reference_rows=reference.rows if reference else 200,
    )


def requests_per_row(task: Task[BaseModel]) -> int:
    """How many requests one document takes."""
    from curator.requests import requests_of

    return max(1, len(list(requests_of(task, Document("", "")))))


def _report(out: Output, result: Curation[BaseModel], currency: str) -> None:
    version, report = result.version, result.report
    if out.json:
        return out.emit({"version": version.version, "rows": version.rows, "hash": version.hash, **report})
    counts = result.progress
    facts: dict[str, object] = {
        **_numbers(report["screening"]),
        "answers": f"{counts.sent:,} new, {counts.reused:,} from before, {counts.failed:,} failed",
        "failures": counts.errors or None,
        "tokens": counts.usage.input_tokens + counts.usage.output_tokens,
        "cost": amount(None if counts.unpriced else counts.cost, currency),
        **({"answered by": dict(counts.tiers)} if counts.tiers else {}),
        **{f"selected {name}": value for name, value in _numbers(report["selection"]).items()},
    }
    out.facts(facts, title="Curation")
    out.rows(("field", "basis", "confidence"), _bases(report), title="What the confidences rest on")
    if rounds := report.get("rounds"):
        out.rows(("round", "labels that changed", "classes"), _rounds(rounds), title="Rounds")
    out.say(f"\ndataset version {version.version} has {version.rows:,} rows")
    out.say("next: goldless show dataset, goldless export, goldless status")
    return None


def _numbers(values: Json) -> JsonObject:
    return values if isinstance(values, dict) else {}


def _bases(report: JsonObject) -> Iterator[JsonObject]:
    fields = report["fields"]
    for name, found in fields.items() if isinstance(fields, dict) else ():
        if isinstance(found, dict):
            meaning = "calibrated" if found.get("calibrated") else "uncalibrated"
            yield {"field": name, "basis": found.get("basis"), "confidence": meaning}


def _rounds(history: Json) -> Iterator[JsonObject]:
    for found in history if isinstance(history, list) else ():
        if isinstance(found, dict) and isinstance(fields := found["fields"], dict):
            changed = found.get("churn")
            classes = {name: field["classes"] for name, field in fields.items() if isinstance(field, dict)}
            yield {
                "round": found["round"],
                "labels that changed": None if changed is None else f"{changed:.1%}",
                "classes": "; ".join(show(counts) for counts in classes.values()),
            }


def preview(
    session: Session,
    document: Annotated[str | None, typer.Option("--document", "-d", help="Show this document's prompts.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many documents.")] = 1,
) -> None:
    """Show exactly what would be sent to the model, and which tokens are scored.

    None of your text is sent. A server may be asked what it can do.
    """
    import anyio

    task = session.task()

    async def look() -> list[JsonObject]:
        async with aclosing(session.engine(session.engine_settings())) as engine:
            return [row for item in _shown(session, document, limit) for row in await _previews(task, engine, item)]

    with session.out.guarded():
        rows = anyio.run(look)
    for row in rows:
        if session.out.json:
            session.out.emit(row)
        else:
            _show_preview(session.out, row)


def _shown(session: Session, document: str | None, limit: int) -> list[Document]:
    exists = session.location.exists()
    if document is not None:
        found = session.store().document(document)
        if found is None:
            raise InputError(f"no document has the id {document!r}", hint="goldless show documents lists them")
        return [found]
    from cli.build import source_of

    stored = session.store().documents(limit=limit) if exists else iter(())
    batches = chain(stored, source_of(session.settings, session.config.parent).batches())
    return list(islice(chain.from_iterable(batches), limit))


async def _previews(task: Task[BaseModel], engine: Engine, document: Document) -> list[JsonObject]:
    from curator.requests import SAMPLES_VIEW, requests_of
    from curator.types import DecideRequest

    rows: list[JsonObject] = []
    for view, request in requests_of(task, document):
        if isinstance(request, DecideRequest):
            rows += [{"document": document.id, "view": view, **plain(found)} for found in await engine.preview(request)]
        else:
            rows.append({"document": document.id, "view": SAMPLES_VIEW, **plain(request)})
    return rows


def _show_preview(out: Output, row: JsonObject) -> None:
    sampled = "messages" in row
    title = "sampled fields" if sampled else f"question {row['question']!r}, view {row['view']}"
    out.text(f"--- document {row['document']}, {title}", style="bold")
    messages = row["messages"] if sampled else None
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            out.text(f"[{message['role']}]\n{message['content']}")
    if sampled:
        out.facts({"n": row["n"], "sampling": row["sampling"], "schema": row["schema"]})
        return
    out.text(str(row["prompt"]))
    scored = row["scored"]
    table = (
        [{"option": pair[0], "tokens": pair[1]} for pair in scored if isinstance(pair, list)]
        if isinstance(scored, list)
        else []
    )
    out.rows(("option", "tokens"), table, title=f"{row['tokens'] or 'unknown'} tokens; read out by {row['readout']}")
