"""What `goldless w2s` works on: the labelled documents, and the teachers that its options name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.data import find_version
from cli.evaluate import id_column
from cli.session import Session
from curator.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Set

    from pydantic import BaseModel

    from curator.evaluation.answers import Answers
    from curator.fields import ClosedField
    from curator.methods.students import Teacher
    from curator.task import Task

LABELS = "labels"
"""The store's labels as a teacher."""


@dataclass(frozen=True)
class Corpus:
    """Texts by id that some teacher has labelled, and the teachers on them."""

    task: Task[BaseModel]
    field: ClosedField
    texts: dict[str, str]
    teachers: list[Teacher]

    @classmethod
    def read(
        cls,
        session: Session,
        item: ClosedField,
        named: Mapping[str, str],
        seen: Mapping[str, str],
        limit: int | None,
    ) -> Corpus:
        """All of the store's documents with a label; `named` says which teachers, `seen` on which dataset versions they
        were trained. Raises: InputError."""
        from curator.methods.teachers import teacher, trained_on

        store, task = session.store(), session.task()
        texts = {one.id: one.text for batch in store.documents() for one in batch}
        answers = {name: _answers(session, item, what, texts.keys()) for name, what in named.items()}
        known = [name for name in texts if any(name in found for found in answers.values())][:limit]
        if not known:
            raise InputError("no document has a label of these teachers", hint="`goldless curate` makes labels")
        teachers = []
        for name, found in answers.items():
            own = trained_on(store, find_version(store, seen[name]).version) if name in seen else frozenset()
            teachers.append(teacher(name, found, known, item, own | _seen_by(session, named[name])))
        return cls(task, item, {name: texts[name] for name in known}, teachers)


def _answers(session: Session, item: ClosedField, what: str, ids: Set[str]) -> Answers:
    """The answers that WHAT of `--teacher NAME=WHAT` names."""
    import asyncio

    from cascade.opening import SCHEME
    from cli.settings import EngineSettings
    from curator.engines import SCHEMES
    from curator.evaluation.answers import read_predictions, stored_labels, stored_version
    from curator.methods.teachers import engine_answers

    store, task, settings = session.store(), session.task(), session.settings
    if what == LABELS:
        return stored_labels(store, task.id, item, ids)
    if what == "latest" or what.removeprefix("v").isdigit():
        made = find_version(store, what)
        return stored_version(store, made.version, item, ids)
    if what.partition(":")[0] in (*SCHEMES, SCHEME):
        configured = (one for one in (settings.engine, settings.reference) if one and one.spec == what)
        engine = session.engine(next(configured, EngineSettings(spec=what)))
        asyncio.run(engine.aclose())
        return engine_answers(store, task, engine.identity, item)
    return read_predictions(what, item, id_column=id_column(session))


def _seen_by(session: Session, what: str) -> frozenset[str]:
    """What a head that was trained here has seen: the store knows from which dataset version it was made. The labels
    are taken to be those of the settings' engine."""
    from curator.methods.teachers import trained_on

    engine = session.settings.engine
    spec = engine.spec if what == LABELS and engine else what
    if not spec.startswith("head:"):
        return frozenset()
    store, folder = session.store(), Path(spec.removeprefix("head:")).expanduser().resolve()
    made = [model for model in store.models() if Path(model.path).expanduser().resolve() == folder]
    return frozenset(name for model in made for name in trained_on(store, model.dataset_version))


def closed_field(task: Task[BaseModel], wanted: str | None) -> ClosedField:
    """The closed field to teach: the one that is asked for, or the only one there is."""
    known = {item.name: item for item in task.closed}
    if not known:
        raise InputError("the task has no closed field", hint="bool, Literal or Enum is closed: a class to choose")
    if wanted is None and len(known) == 1:
        return next(iter(known.values()))
    if wanted is None:
        raise InputError("the task has several closed fields", hint=f"--field, one of {', '.join(known)}")
    if wanted not in known:
        raise InputError(f"the task has no closed field {wanted!r}", hint=f"one of {', '.join(known)}")
    return known[wanted]


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE options as a mapping. Raises: InputError."""
    found: dict[str, str] = {}
    for item in given:
        name, _, what = item.partition("=")
        if not name.strip() or not what:
            raise InputError(f"{option} {item!r} is no NAME=VALUE", hint=f"for example {option} small=v2")
        if name in found:
            raise InputError(f"{option} names {name!r} twice", hint="give each a name of its own")
        found[name] = what
    return found


def check_names(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises: InputError for a name that nobody has."""
    names = list(known)
    if unknown := [name for name in given if name not in names]:
        raise InputError(f"{option} names {unknown[0]!r}, which is none of {', '.join(names)}")
