"""`goldless bill`: what a server's ledger adds up to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.failures import Exit
from cli.session import Session, command
from curator.errors import InputError


class By(StrEnum):
    """What a bill can be split by."""

    TIER = "tier"
    KEY = "key"
    DAY = "day"
    KIND = "kind"
    MODEL = "model"


SUMS = {
    "attempts": "count(*)",
    "input_tokens": "coalesce(sum(input_tokens), 0)",
    "output_tokens": "coalesce(sum(output_tokens), 0)",
    "cached_tokens": "coalesce(sum(cached_tokens), 0)",
    "cost": "sum(cost)",
    "unknown": "count(*) FILTER (input_tokens IS NULL)",
    "estimated": "count(*) FILTER (estimated)",
    "unpriced": "count(*) FILTER (cost IS NULL AND input_tokens IS NOT NULL)",
}


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "bill",
        shared=("config", "json"),
        example="goldless bill ledger/\ngoldless bill ledger/ --by key --by day --since 2026-11-01\n"
        "goldless bill ledger/ --by kind --key 0f3a9c51d2e7",
    )(bill)


def bill(
    session: Session,
    folder: Annotated[
        Path | None, typer.Argument(help="The ledger: a file of it, or its folder; by default `serve.ledger`.")
    ] = None,
    by: Annotated[list[By] | None, typer.Option("--by", help="Split by this; may be given again.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="The first day (UTC).")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="The last day (UTC).")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Only what the API key with this id asked for.")] = None,
) -> None:
    """Add up the ledger: tokens and money of every attempt, drafts, retries, hedges, probes and audits included.

    `unknown` attempts never told their usage (a timeout, a dropped connection) and are in no sum; `estimated` ones are
    streams that were closed early; of `unpriced` ones the tokens are known and the price is not. A file that cannot be
    read is said, left out, and makes the exit code 3.
    """
    files, broken = _files(session, folder)
    for name, why in broken:
        session.out.complain(f"left out: {name}: {why}")
    groups = [one.value for one in dict.fromkeys(by or [By.TIER])]
    rows = _rows(files, groups, _where(since, until, key)) if files else []
    columns = [*groups, *SUMS, "currency"]
    if not session.out.json and len(rows) > 1 and len({row["currency"] for row in rows}) == 1:
        rows.append({groups[0]: "total", **_total(rows), "currency": rows[0]["currency"]})
    session.out.rows(columns, rows, title="The bill")
    if broken:
        raise typer.Exit(Exit.PARTIAL)


def _files(session: Session, folder: Path | None) -> tuple[list[Path], list[tuple[str, str]]]:
    """The ledger's files, and those that are none. Raises: InputError, SourceError if there is nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cascade.gateway.ledger_files import SCHEMA
    from cascade.gateway.ledger_merge import ledger_files

    set_ = session.settings.serve.ledger
    if folder is None and set_ is None:
        raise InputError("which ledger?", hint="goldless bill FOLDER, or set serve.ledger")
    good, broken = [], []
    for file in ledger_files(folder or session.config.parent / (set_ or "")):
        try:
            absent = sorted(set(SCHEMA.names) - set(pq.read_schema(file).names))
        except (OSError, pa.ArrowException) as error:
            broken.append((file.name, str(error).splitlines()[0]))
            continue
        if absent:
            broken.append((file.name, f"it has no column {absent[0]!r}"))
        else:
            good.append(file)
    return good, broken


def _where(since: datetime | None, until: datetime | None, key: str | None) -> dict[str, object]:
    """Conditions and their values."""
    given = {
        "day >= ?": None if since is None else f"{since:%Y-%m-%d}",
        "day <= ?": None if until is None else f"{until:%Y-%m-%d}",
        "key = ?": key,
    }
    return {condition: value for condition, value in given.items() if value is not None}


def _rows(files: Sequence[Path], groups: Sequence[str], where: dict[str, object]) -> list[dict[str, object]]:
    import duckdb

    names = ", ".join(groups)
    sums = ", ".join(f"{sql} AS {name}" for name, sql in SUMS.items())
    conditions = " AND ".join(where) or "true"
    query = f"""
        WITH entries AS (
            SELECT *, strftime(make_timestamp(epoch_us(time)), '%Y-%m-%d') AS day FROM read_parquet(?)
        )
        SELECT {names}, {sums}, currency FROM entries WHERE {conditions}
        GROUP BY {names}, currency ORDER BY {names}, currency
    """
    with duckdb.connect() as database:
        found = database.execute(query, [[str(file) for file in files], *where.values()])
        columns = [column[0] for column in found.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


def _total(rows: Sequence[dict[str, object]]) -> dict[str, object]:
    """The sums of all rows; money is unknown where no row has any."""
    found: dict[str, object] = {}
    for name in SUMS:
        known = [value for row in rows if isinstance(value := row[name], int | float)]
        found[name] = sum(known) if known else None
    return found
