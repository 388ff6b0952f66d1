"""`goldless evaluate`: the labels against gold. Gold is read here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.data import find_version
from cli.session import Session, command
from curator.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cli.output import Output
    from curator.evaluation.answers import Answers, Gold, Voted
    from curator.evaluation.joined import Evaluation
    from curator.task import Task

LABELS = "labels"
"""What the store's labels are called as an arm."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "evaluate",
        example="goldless evaluate gold.jsonl --out report.md\n"
        "goldless evaluate gold.csv --field topic --version latest --json | jq .findings\n"
        "goldless evaluate gold.jsonl --compare student=student.jsonl --compare ceiling=on-gold.jsonl",
    )(evaluate)


def evaluate(
    session: Session,
    gold: Annotated[str, typer.Argument(help="JSONL, CSV or Parquet with the ids and the right values.")],
    field: Annotated[str | None, typer.Option("--field", "-f", help="Which field, if there are several.")] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Score this dataset version (3 or latest), not all labels.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="NAME=FILE", help="Another arm's name and file; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the report: Markdown, or JSON if it ends in .json.")
    ] = None,
) -> None:
    """Score labels against gold that they were made without, and say what to do about what is found.

    The gold file has an id column (the settings' one, `id` or `document_id`) and one called like the field
    (or `value`); a blank is no gold. It is read for the scores only, and nothing of it is kept.
    A file to compare with looks the same, where it has them with `confidence`, `basis` and
    `probabilities`; what it lacks counts as wrong. Arms called `weak`, `student` and `ceiling` give a PGR,
    in which the labels stand in for `weak`, or for `student`.
    """
    from curator.evaluation.answers import read_gold

    files = _named_files(compare or [])
    keep_inputs(out, [gold, *files.values()])
    task = session.task()
    chosen, column = _field(task, field), id_column(session)
    found = _score(session, task, chosen, read_gold(gold, chosen, id_column=column), (version, files))
    if out is not None:
        from curator.report import write_report

        write_report(found, out)
    _show(session.out, found)
    if out is not None:
        session.out.say(f"the report is in {out}")


def _score(
    session: Session, task: Task[BaseModel], field: Voted, gold: Gold, asked: tuple[str | None, dict[str, str]]
) -> Evaluation:
    from curator.evaluation.answers import read_predictions, stored_labels, stored_version
    from curator.evaluation.joined import join

    (version, files), store, wanted = asked, session.store(), set(gold.values)
    if version is None:
        name, labels = LABELS, stored_labels(store, task.id, field, wanted)
    else:
        made = find_version(store, version)
        if made.task_id != task.id:
            raise InputError(
                f"version {made.version} was made with task {made.task_id}, the settings describe task {task.id}",
                hint="evaluate it with the settings that it was made with (--config)",
            )
        name, labels = f"dataset {made.version}", stored_version(store, made.version, field, wanted)
    arms: dict[str, Answers] = {name: labels}
    for other, path in files.items():
        if other == name:
            raise InputError(f"the store's arm is called {name!r} already", hint=f"--compare other={path}")
        arms[other] = read_predictions(path, field, id_column=id_column(session))
    audited = frozenset(row.document_id for row in store.audits(task.id) if row.field == field.name)
    return join(field, gold, arms, audited=audited)


def _named_files(given: list[str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for item in given:
        name, _, path = item.partition("=")
        if not name.strip() or not path:
            raise InputError(f"--compare {item!r} names no arm and file", hint="--compare student=predictions.jsonl")
        if name in files:
            raise InputError(f"two arms are called {name!r}", hint="give each --compare a name of its own")
        files[name] = path
    return files


def keep_inputs(out: Path | None, inputs: list[str]) -> None:
    """Refuse to write the report over what it is made from."""
    if out is not None and any(out.resolve() == Path(path).resolve() for path in inputs):
        raise InputError(f"--out {out} is a file that is read", hint="name another file for the report")


def _field(task: Task[BaseModel], wanted: str | None) -> Voted:
    """The field to score: the one that is asked for, or the only one there is."""
    known = {item.name: item for item in (*task.closed, *task.voted)}
    if wanted is None and len(known) == 1:
        return next(iter(known.values()))
    names = ", ".join(known)
    if wanted is None:
        raise InputError("the task has several fields", hint=f"--field, one of {names}")
    if wanted not in known:
        raise InputError(f"the task labels no field {wanted!r}", hint=f"one of {names}")
    return known[wanted]


def id_column(session: Session) -> str:
    """The ids' column that the settings name, "" where they name none."""
    source = session.settings.source
    return (source.id or "") if source else ""


def _show(out: Output, found: Evaluation) -> None:
    """The tables and the findings, or all of it as one JSON object."""
    from curator.findings import findings
    from curator.report import arm_rows, class_rows, difference_rows, to_json

    if out.json:
        return out.emit(to_json(found))
    tables = [(f"Evaluation of {found.field}", arm_rows(found))]
    if found.comparison.differences:
        tables.append((f"Differences to {found.comparison.baseline}", difference_rows(found)))
    if found.closed:
        tables.append((f"Classes of {found.subject}", class_rows(found)))
    for title, (head, rows) in tables:
        out.rows(head, [dict(zip(head, row, strict=True)) for row in rows], title=title)
    for sentence in findings(found):
        out.text(f"- {sentence}")
    return None
