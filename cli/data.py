"""Commands about the store as a whole: ingest, status, export."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import Output, clip, plain, show, size
from cli.session import Session, command
from curator.errors import InputError, SourceError

if TYPE_CHECKING:
    from curator.store import DatasetVersion, Store
    from curator.store.records import EngineUse, StoreStatus
    from curator.types import JsonObject


class Format(StrEnum):
    """Formats of an export."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    TRL = "trl"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "ingest",
        example="goldless ingest\ngoldless ingest more.csv\ncat rows.jsonl | goldless ingest -\n"
        "goldless ingest --traffic traffic/",
    )(ingest)
    command(app, "status", example="goldless status\ngoldless status --json | jq .documents")(status)
    command(
        app,
        "export",
        example="goldless export\ngoldless export 3 --format trl --out train.jsonl",
    )(export)


def ingest(
    session: Session,
    path: Annotated[
        str | None, typer.Argument(help="What to read instead of the settings' source; - for JSONL on stdin.")
    ] = None,
    traffic: Annotated[
        Path | None, typer.Option("--traffic", help="A file, or a folder of files, of what a cascade served.")
    ] = None,
) -> None:
    """Read documents into the store. Rows that are none are kept aside with the reason.

    Doing it again changes nothing; a document whose text changed loses its old labels. With --traffic, served
    queries become documents, and what the tiers answered is not asked again.
    """
    from cli.build import source_of
    from cli.traffic_ingest import ingest_traffic
    from curator.pipeline import ingest as read_in

    if traffic is not None:
        if path is not None:
            raise InputError("give a path or --traffic, not both", hint="ingest them one after the other")
        return ingest_traffic(session, traffic)
    source = source_of(session.settings, session.config.parent, path)
    store = session.store(create=True)
    with store.run("ingest", {"source": source.uri}) as run:
        counts = read_in(store, run, source)
    rejected = dict(source.counts)
    session.out.facts({"source": source.uri, **plain(counts), "rejected": rejected}, title="Ingested")
    if not counts.total:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in rejected.items()) or "there are no rows in it"
        raise SourceError(f"nothing in {source.uri} could be ingested: {reasons}", hint="goldless show rejects")
    return None


def status(session: Session) -> None:
    """Say how far the store is: documents, rejections, answers, labels, versions, runs, cost."""
    found = session.store().status()
    if session.out.json:
        session.out.emit(plain(found))
    else:
        _show_status(session.out, found)


def _show_status(out: Output, found: StoreStatus) -> None:
    facts: dict[str, object] = {
        "store": f"{found.path}, {size(found.size_bytes)}",
        "running": found.running and f"{found.running.command} (process {found.running.pid})",
        "documents": found.documents,
        "rows not ingested": sum(found.rejects.values()),
        "answers": found.completions,
        "answers that failed": sum(found.failures.values()),
        "input tokens": found.input_tokens,
        "output tokens": found.output_tokens,
        "cost": known_cost(found.cost, found.unpriced),
        "audited rows": sum(found.audits.values()),
        "served answers": found.traffic or None,
    }
    if found.pending_bytes:
        facts["not yet in the tables"] = size(found.pending_bytes)
    out.facts(facts)
    if found.rejects:
        out.rows(("reason", "rows"), _counted(found.rejects), title="Rows not ingested")
    if found.verdicts:
        out.rows(("stage", "reason", "count", "settings"), map(plain, found.verdicts), title="Documents rejected")
    if found.failures:
        out.rows(("reason", "rows"), _counted(found.failures), title="Answers that failed")
    if found.engines:
        columns = ("engine", "completions", "failed", "input_tokens", "output_tokens", "cost")
        out.rows(columns, map(_engine, found.engines), title="Engines")
    if found.labels:
        out.rows(("task", "labels"), ({"task": k, "labels": n} for k, n in found.labels.items()), title="Labels")
    if found.datasets:
        out.rows(
            ("version", "kind", "rows", "task", "created_at"), map(describe_version, found.datasets), title="Datasets"
        )
    if found.runs:
        shown = ("id", "command", "status", "started_at", "error")
        out.rows(shown, ({**plain(run), "error": clip(run.error or "", 60)} for run in found.runs[:5]), title="Runs")


def _engine(used: EngineUse) -> JsonObject:
    priced = used.completions - used.failed - used.unpriced
    return {**plain(used), "cost": known_cost(used.cost if priced > 0 else None, used.unpriced)}


def known_cost(cost: float | None, unpriced: int) -> float | str | None:
    """Money for a table: None where no answer has a price, and how many have none where some have."""
    if cost is None or not unpriced:
        return cost
    return f"{show(cost)} ({unpriced:,} unpriced)"


def _counted(counts: dict[str, int]) -> list[dict[str, object]]:
    return [{"reason": reason, "rows": count} for reason, count in counts.items()]


def export(
    session: Session,
    version: Annotated[str, typer.Argument(help="The version's number, or `latest`.")] = "latest",
    kind: Annotated[
        Format,
        typer.Option(
            "--format", "-f", help="trl: messages for TRL, by what the version holds: labels or preference pairs."
        ),
    ] = Format.PARQUET,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write; by default named by version.")
    ] = None,
) -> None:
    """Write a dataset version to a file, with a confidence and a weight per row.

    The file appears whole or not at all.
    """
    from curator.export import export_dataset as write

    store = session.store()
    found = find_version(store, version)
    task = session.task()
    if task.id != found.task_id:
        raise InputError(
            f"version {found.version} was made with task {found.task_id}, the settings describe task {task.id}",
            hint="export it with the settings that it was made with (--config)",
        )
    path = out or Path(f"dataset-v{found.version}.{'parquet' if kind is Format.PARQUET else 'jsonl'}")
    rows = write(store, task, found.version, path, kind.value)
    session.out.facts({"version": found.version, "rows": rows, "format": kind.value, "path": str(path)})


def find_version(store: Store, name: str) -> DatasetVersion:
    """The version called `3`, `v3` or `latest`.

    Raises: InputError if there is none.
    """
    if name == "latest":
        versions = store.datasets()
        if not versions:
            raise InputError("the store has no dataset version yet", hint="`goldless curate` makes one")
        return versions[-1]
    if not (number := re.fullmatch(r"v?(\d+)", name)):
        raise InputError(f"{name!r} is no version", hint="write 3, v3 or latest")
    return store.dataset(int(number[1]))


def describe_version(version: DatasetVersion) -> dict[str, object]:
    """A version as one row of a table."""
    return {**plain(version), "task": version.task_id}
