"""`goldless keys`: who may ask a server, for what, and how much."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import Session, command
from curator.errors import InputError

if TYPE_CHECKING:
    from cascade.gateway.key_records import KeyRecord

FILE = Path("keys.jsonl")

KeyFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="The file of keys; by default `serve.keys` of the settings, or keys.jsonl."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="API keys of a server: who may ask, for what, and how much.", no_args_is_help=True)
    shared = ("config", "json")
    command(
        group,
        "add",
        shared=shared,
        example="goldless keys add search-team\n"
        "goldless keys add batch --requests 600 --tokens 200000 --day 5 --month 100\n"
        "goldless keys add trial --expires 2027-01-31 --tier small",
    )(add)
    command(group, "list", shared=shared, example="goldless keys list")(list_keys)
    command(group, "disable", shared=shared, example="goldless keys disable 0f3a9c51d2e7")(disable)
    app.add_typer(group, name="keys")


def add(
    session: Session,
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    file: KeyFile = None,
    expires: Annotated[
        datetime | None, typer.Option("--expires", formats=["%Y-%m-%d"], help="The day (UTC) from which it is no good.")
    ] = None,
    requests: Annotated[int | None, typer.Option("--requests", min=1, help="Requests per minute.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=1, help="Tokens per minute.")] = None,
    in_flight: Annotated[int | None, typer.Option("--in-flight", min=1, help="Requests at once.")] = None,
    day: Annotated[float | None, typer.Option("--day", min=0, help="Money per day.")] = None,
    month: Annotated[float | None, typer.Option("--month", min=0, help="Money per month.")] = None,
    total: Annotated[float | None, typer.Option("--total", min=0, help="Money in all.")] = None,
    currency: Annotated[str, typer.Option("--currency", help="What the money is in.")] = "USD",
    model: Annotated[list[str] | None, typer.Option("--model", help="A model that it may use; by default all.")] = None,
    tier: Annotated[list[str] | None, typer.Option("--tier", help="A tier it may ask for; by default all.")] = None,
) -> None:
    """Make an API key and print it: once, as the file keeps nothing but its hash.

    A running server takes it within a second.
    """
    from cascade.gateway.key_file import changing
    from cascade.gateway.key_records import new_key

    key, record = new_key(
        name,
        datetime.now(UTC).replace(microsecond=0),
        expires=None if expires is None else expires.replace(tzinfo=UTC),
        limits={"requests_per_minute": requests, "tokens_per_minute": tokens, "in_flight": in_flight},
        caps={"day": day, "month": month, "total": total, "currency": currency},
        models=tuple(model or ()),
        tiers=tuple(tier or ()),
    )
    path = _file(session, file)
    with changing(path) as records:
        records.append(record)
    if session.out.json:
        return session.out.emit({"key": key, "id": record.id, "file": str(path)})
    session.out.text(key)
    return session.out.say(f"keep it: {path} holds only its hash, under the id {record.id}")


def list_keys(session: Session, file: KeyFile = None) -> None:
    """List the keys of a file: ids, names, limits and budgets; no secrets, as there are none in it."""
    from cascade.gateway.key_file import read_keys

    now = datetime.now(UTC)
    rows = [_row(record, now) for record in read_keys(_file(session, file))]
    session.out.rows(("id", "name", "state", "created", "expires", "limits", "budgets", "models", "tiers"), rows)


def disable(
    session: Session,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, or the key itself.")],
    file: KeyFile = None,
) -> None:
    """Disable a key: from within a second on, a running server refuses it. What it did stays on the bill."""
    from cascade.gateway.key_file import changing
    from cascade.gateway.key_records import PREFIX

    wanted, path = key_id.removeprefix(PREFIX).partition("-")[0], _file(session, file)
    with changing(path) as records:
        place = next((at for at, record in enumerate(records) if record.id == wanted), None)
        if place is None:
            raise InputError(f"{path} has no key with the id {wanted[:12]!r}", hint="`goldless keys list` shows them")
        records[place] = records[place].model_copy(update={"disabled": True})
    session.out.facts({"id": wanted, "name": records[place].name, "disabled": True})


def _file(session: Session, given: Path | None) -> Path:
    set_ = session.settings.serve.keys
    return given or session.config.parent / (set_ or FILE)


def _row(record: KeyRecord, now: datetime) -> dict[str, object]:
    expired = record.expires is not None and record.expires <= now
    caps = record.caps.model_dump(exclude_none=True, exclude=None if record.caps.any else {"currency"})
    return {
        "id": record.id,
        "name": record.name,
        "state": "disabled" if record.disabled else "expired" if expired else "good",
        "created": f"{record.created:%Y-%m-%d}",
        "expires": None if record.expires is None else f"{record.expires:%Y-%m-%d}",
        "limits": record.limits.model_dump(exclude_none=True),
        "budgets": caps,
        "models": list(record.models),
        "tiers": list(record.tiers),
    }
