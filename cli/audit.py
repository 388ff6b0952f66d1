"""`goldless audit`: what people should check, and what they found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import Session, command
from curator.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from curator.store import Store
    from curator.task import Task
    from curator.types import Document


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "audit",
        example="goldless audit --draw 100 --out sheet.csv\ngoldless audit sheet.csv --auditor ann\n"
        "goldless audit --draw 100 | my-annotation-tool",
    )(audit)


def audit(
    session: Session,
    sheet: Annotated[Path | None, typer.Argument(help="A sheet that somebody filled in: JSONL, or .csv.")] = None,
    draw: Annotated[int | None, typer.Option("--draw", min=1, help="Draw so many labelled documents.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="With --draw: the file to write, CSV if it ends in .csv.")
    ] = None,
    seed: Annotated[int, typer.Option(help="With --draw: another number draws other documents.")] = 0,
    auditor: Annotated[str | None, typer.Option(help="With a sheet: who filled it in.")] = None,
) -> None:
    """Have people check labels, so that confidences become probabilities: draw a sheet, then read it back.

    The draw is uniform, the same every time, and does not show the model's labels. A cell that is
    left empty was not checked. Nothing is added unless every row is right. The same person's
    later answer about a document replaces the earlier one.
    """
    if (sheet is None) == (draw is None):
        raise InputError("say either what to draw or what to read", hint="--draw 100 --out sheet.csv, or SHEET")
    if draw is not None:
        return _draw(session, draw, out, seed)
    if out is not None:
        raise InputError("--out goes with --draw", hint="goldless audit SHEET --auditor NAME")
    if not auditor:
        raise InputError("whose answers are these?", hint="--auditor NAME")
    return _take_in(session, sheet or Path(), auditor)


def _draw(session: Session, count: int, out: Path | None, seed: int) -> None:
    from curator.audits import draw, labelled, sheet_rows, write_sheet

    store, task = session.store(), session.task()
    names = draw(labelled(store, task.id), count, seed=seed)
    if not names:
        raise InputError("the store has no labels of this task", hint="`goldless curate` makes them")
    rows = sheet_rows(_documents(store, names), task.closed)
    if out is None:
        for row in rows:
            session.out.emit(row)
    else:
        written = write_sheet(out, rows)
        session.out.facts({"rows": written, "path": str(out)}, title="To check")
    if len(names) < count:
        session.out.say(f"there are {len(names):,} labelled documents only")
    for field in task.closed:
        session.out.say(f"fill in {field.name}: {', '.join(field.question.labels)}")
    session.out.say(f"then: goldless audit {out or 'SHEET'} --auditor NAME")


def _documents(store: Store, names: list[str]) -> Iterator[Document]:
    return (found for name in names if (found := store.document(name)) is not None)


def _take_in(session: Session, sheet: Path, auditor: str) -> None:
    from curator.audits import ID, check, labelled, read_sheet

    store, task = session.store(), session.task()
    rows = read_sheet(sheet)
    asked = {name for row in rows if isinstance(name := row.values.get(ID), str)}
    known = [name for name in labelled(store, task.id) if name in asked]
    texts = {document.id: document.text for document in _documents(store, known)}
    found = check(rows, task.closed, texts, auditor)
    store.add_audits(task.id, found)
    _report(session, task, Counter(row.field for row in found))


def _report(session: Session, task: Task[BaseModel], added: Counter[str]) -> None:
    from curator.learning import MIN_CHECKED

    checked = {(row.document_id, row.field) for row in session.store().audits(task.id)}
    total = Counter(field for _, field in checked)
    counts = [{"field": item.name, "added": added[item.name], "checked": total[item.name]} for item in task.closed]
    session.out.rows(("field", "added", "checked"), counts, title="Checked documents")
    if not added:
        session.out.say("nothing was filled in")
    session.out.say(
        f"`goldless curate` uses a field's audits from {MIN_CHECKED} checked documents on; no model is asked"
    )
