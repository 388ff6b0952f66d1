"""Draws of documents for people to check, each with the chance that it had: what an audit's weights are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from curator.database import quoted
from curator.store.base import Part

_COLUMNS = pa.schema([("document_id", pa.string()), ("chance", pa.float64()), ("place", pa.float64())])


@dataclass(frozen=True, slots=True)
class DrawnDocument:
    """One document of the sample. `chance` is that with which it was drawn, None where it could not be. `place`, None
    where it was not, is uniform in [0, 1) and in the order of the sheet: the documents whose place is below t are a
    draw of their own, with t times the chances."""

    document_id: str
    chance: float | None
    place: float | None


class DrawPart(Part):
    """Draws for audits."""

    def add_draw(self, name: str, task_id: str, rows: Sequence[DrawnDocument]) -> None:
        """Keep a draw under a name that none has."""
        with self._database.writing() as connection:
            connection.register("batch", pa.Table.from_pylist([asdict(row) for row in rows], _COLUMNS))
            connection.execute(
                f"INSERT INTO audit_draws SELECT {quoted(name)}, {quoted(task_id)}, *, now()::TIMESTAMP FROM batch"
            )

    def draw(self, name: str, task_id: str) -> list[DrawnDocument]:
        """The documents of a task's draw; none where there is no such draw."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT document_id, chance, place FROM audit_draws WHERE draw = ? AND task_id = ? ORDER BY 1",
                [name, task_id],
            ).fetchall()
        return [DrawnDocument(*row) for row in rows]
