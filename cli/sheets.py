"""Sheets for a certificate against the truth: which documents people check, and what their answers are worth.

Documents whose answers are doubtful are drawn more often, so every document's chance is kept in the store. Such answers
never become audits of `goldless audit`, whose draw is uniform.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from curator.audits import ID, SHOWN, SheetRow, answers_in, read_sheet, sheet_rows, write_sheet
from curator.errors import InputError
from curator.store import DrawnDocument
from curator.types import Document, Json

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cascade.halves import CertifySettings
    from cascade.outcomes import Outcomes
    from cli.output import Output
    from curator.confidence import Floats
    from curator.store import Store
    from curator.task import Task

DRAW: Final = "draw"
"""The column that says which draw a row is of."""

Truth = Mapping[str, Mapping[str, Json]]
"""Field -> document -> the checked value."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What people found. Field -> document -> value in `truth`; of a weighted draw also the `chance` of every document
    that could be drawn, and the `missed` documents: those that were drawn and passed over, which count as wrong.
    `documents` is the whole sample; empty: it is still to be drawn."""

    truth: Truth
    chance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    missed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    documents: tuple[str, ...] = ()

    def weights(self, name: str, ids: Sequence[str]) -> Floats | None:
        """The chances (n,) of the documents `ids`, as `cascade.certify.certify` takes them; None for a plain sample."""
        if name not in self.chance:
            return None
        return np.array([self.chance[name].get(one, np.nan) for one in ids])


def drawn(
    outcomes: Mapping[str, Outcomes], ids: Sequence[str], settings: Mapping[str, CertifySettings], count: int
) -> tuple[list[DrawnDocument], float]:
    """About `count` of the documents that may test a certificate (`ids` are all, in the order of the outcomes), and how
    much oftener the doubtful ones were drawn than the others. A document is as doubtful as its most doubtful field.

    Raises: InputError for a count that could show nothing, or that there are not so many documents for.
    """
    from cascade.certify import audit_plan
    from cascade.risk import audit_chances, best_ratio, drawn_places, fewest_audits

    plans = [audit_plan(outcomes[name], given) for name, given in settings.items()]
    rows, wrong = plans[0][0], np.max([np.nan_to_num(one, nan=1.0) for _, one in plans], axis=0)
    first = next(iter(settings.values()))
    if count > len(rows):
        raise InputError(
            f"{count} of {len(rows)} documents cannot be drawn: the other {len(ids) - len(rows)} are for learning",
            hint="a larger --sample, or fewer with --draw",
        )
    ratio = best_ratio(len(rows), count, first.alpha, first.delta)
    if ratio is None:
        least = fewest_audits(len(rows), first.alpha, first.delta)
        hint = (
            f"--draw {least}, or a greater --alpha" if least <= len(rows) else "a larger --sample, or a greater --alpha"
        )
        raise InputError(
            f"{count} documents cannot show a risk of {first.alpha:.1%}, were all answers right", hint=hint
        )
    chance = audit_chances(wrong, count, ratio)
    places = drawn_places(chance, first.seed)
    known = {int(row): (float(odds), float(place)) for row, odds, place in zip(rows, chance, places, strict=True)}
    made = []
    for number, name in enumerate(ids):
        odds, place = known.get(number, (None, np.nan))
        made.append(DrawnDocument(name, odds, None if np.isnan(place) else place))
    return made, ratio


def write(path: Path, task: Task[BaseModel], draw: str, rows: Sequence[DrawnDocument], texts: Mapping[str, str]) -> int:
    """Write the sheet of a draw, in the order of the places. Returns how many rows."""
    chosen = sorted((row.place, row.document_id) for row in rows if row.place is not None)
    documents = (Document(name, texts[name]) for _, name in chosen)
    return write_sheet(path, ({**row, DRAW: draw} for row in sheet_rows(documents, task.closed)))


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet that came back: its draw, its rows, and what is wrong with some of them."""

    draw: str
    rows: tuple[SheetRow, ...]
    wrong: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Sheet:
        """The rows of the draw that most rows name. Raises: InputError for a file that is no such sheet."""
        rows = read_sheet(path)
        named = Counter(str(row.values.get(DRAW) or "") for row in rows)
        named.pop("", None)
        if not named:
            raise InputError(
                f"{path} has no column {DRAW!r} that says which draw it is",
                hint="goldless certify --draw 100 --sheet sheet.csv writes a sheet; goldless audit reads its own",
            )
        draw = named.most_common(1)[0][0]
        own = tuple(row for row in rows if row.values.get(DRAW) == draw)
        other = tuple(f"row {row.number}: it is of no draw, or of another one" for row in rows if row not in own)
        return cls(draw, own, other)

    def checked(self, store: Store, task: Task[BaseModel], texts: Mapping[str, str], out: Output) -> Checked:
        """What its answers say of the draw; what is wrong is told, row by row. `texts` are of all documents.

        Raises: InputError where the store does not know the draw, or nothing is filled in.
        """
        drawn = store.draw(self.draw, task.id)
        if not drawn:
            raise InputError(
                f"this store knows no draw {self.draw!r} of this task", hint="use the store and the task of the draw"
            )
        sample = [row for row in drawn if row.document_id in texts]
        asked = sorted((row for row in sample if row.place is not None), key=lambda row: row.place or 0.0)
        found, wrong = answers_in(
            self.rows, task.closed, {row.document_id: texts[row.document_id] for row in asked}, (DRAW,)
        )
        listed = {row.values.get(ID) for row in self.rows}
        absent = [
            f"the document {row.document_id!r} was drawn and has no row"
            for row in asked
            if row.document_id not in listed
        ]
        _tell(out, [*self.wrong, *wrong, *absent], len(drawn) - len(sample))
        made = {item.name: Reached.of(item.name, asked, found) for item in task.closed}
        known = {name: one for name, one in made.items() if one.answered}
        if not known:
            raise InputError("nothing is filled in", hint=f"fill in {', '.join(made)}, then read the sheet again")
        for name in made.keys() - known.keys():
            out.complain(f"{name} is left out: no row has an answer")
        return Checked(
            {name: one.answered for name, one in known.items()},
            {name: one.chances(sample) for name, one in known.items()},
            {name: one.missed for name, one in known.items()},
            {name: one.note(sample) for name, one in known.items()},
            tuple(row.document_id for row in sample),
        )


@dataclass(frozen=True, slots=True)
class Reached:
    """How far people came in one field. `share` of the draw was reached: 1, or the place of the last answer, which is a
    little too low, so that the answers weigh a little more than they should."""

    answered: Mapping[str, Json]
    missed: frozenset[str]
    share: float

    @classmethod
    def of(cls, name: str, asked: Sequence[DrawnDocument], found: Mapping[tuple[str, str], Json]) -> Reached:
        answered = {row.document_id: found[row.document_id, name] for row in asked if (row.document_id, name) in found}
        last = max((number for number, row in enumerate(asked) if row.document_id in answered), default=-1)
        reached, whole = asked[: last + 1], last == len(asked) - 1
        missed = frozenset(row.document_id for row in reached) - answered.keys()
        return cls(answered, missed, 1.0 if whole or not reached else reached[-1].place or 0.0)

    def chances(self, sample: Sequence[DrawnDocument]) -> dict[str, float]:
        """The chance with which each document that could be drawn was drawn and reached."""
        return {row.document_id: row.chance * self.share for row in sample if row.chance is not None}

    def note(self, sample: Sequence[DrawnDocument]) -> str:
        """What the certificate is to say of it."""
        drawn = sum(row.place is not None for row in sample)
        how = "uniformly" if len({row.chance for row in sample} - {None}) == 1 else "the doubtful more often"
        passed = f"; {len(self.missed)} that were passed over count as wrong" if self.missed else ""
        return f"{len(self.answered)} of {drawn} rows that were drawn, {how}, were checked{passed}"


def _tell(out: Output, wrong: Sequence[str], gone: int) -> None:
    for line in wrong[:SHOWN]:
        out.complain(line)
    if len(wrong) > SHOWN:
        out.complain(f"and {len(wrong) - SHOWN} more")
    if gone:
        out.complain(
            f"{gone} documents of the draw are not there any more; name the same --traffic, if they were of one"
        )
