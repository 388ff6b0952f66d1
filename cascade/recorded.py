"""Recorded outcomes from a table: CSV, JSONL or Parquet, long or wide.

Long is a row per query and tier:

    query,tier,answer,quality,cost,currency,latency,confidence
    q1,small,yes,1,0.0002,USD,0.08,0.93
    q1,strong,yes,1,0.0110,USD,0.90,

Wide is a row per query, and a column per tier and figure, parted by the last dot:

    query,small.answer,small.quality,small.cost,small.confidence,strong.answer,strong.quality,strong.cost
    q1,yes,1,0.0002,0.93,yes,1,0.0110

`query` may be called `query_id` or `id`, `tier` `model`, `quality` `correct`. Quality is from 0 to 1, or true and
false; cost is money per query in one currency, latency seconds. Every other column whose filled cells are all numbers
is a signal, higher is safer. A blank is unknown and stays so; NaN and infinity are mistakes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from cascade.outcomes import NO_ANSWER, Outcomes
from cascade.recorded_rows import Values, rows
from curator.confidence import Floats
from curator.errors import SourceError

QUERY: Final = ("query", "query_id", "id")
TIER: Final = ("tier", "model")
QUALITY: Final = ("quality", "correct")
FIGURES: Final = ("quality", "cost", "latency")
KNOWN: Final = (*FIGURES, "answer", "currency")


@dataclass(frozen=True, slots=True)
class Recorded:
    """Outcomes as they were recorded. `currency` is "" where none is named.

    `incomplete` queries lack a tier and were left out; `lacking` says how many of them lack which. `ignored` columns
    are neither known nor all numbers.
    """

    outcomes: Outcomes
    currency: str
    incomplete: int
    lacking: Mapping[str, int]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Cell:
    """What one tier did with one query: where it stands, and the filled columns by their names here and in the file."""

    row: str
    query: str
    tier: str
    values: Values
    columns: Mapping[str, str]

    def number(self, name: str) -> float:
        """The number in a column, NaN where it is blank. Raises: SourceError naming row and column."""
        if name not in self.values:
            return math.nan
        found = _number(self.values[name])
        if found is None or not math.isfinite(found):
            raise self.wrong(name, "is no number", "leave a cell blank where a figure is unknown")
        if name == "quality" and not 0 <= found <= 1:
            raise self.wrong(name, "is no quality", "from 0 (wrong) to 1 (right)")
        if name in ("cost", "latency") and found < 0:
            raise self.wrong(name, "is below zero", "money and seconds are counted from 0")
        return found

    def wrong(self, name: str, what: str, hint: str) -> SourceError:
        return SourceError(f"{self.row}, column {self.columns[name]}: {self.values[name]!r} {what}", hint=hint)


def read_outcomes(path: Path, *, tiers: Sequence[str] = (), signals: Sequence[str] = ()) -> Recorded:
    """Outcomes of `tiers`, or of all that the table names, the cheapest first where all costs are known, else in the
    order of their appearance. Signals are those named, or every column of numbers.

    A query that lacks a tier is left out and counted.

    Raises: SourceError for a file that cannot be read, naming the row and the column of a value that cannot be, of a
    second currency, and of a query that has a tier twice.
    """
    cells = _checked(path, list(_cells(rows(path))))
    present = list(dict.fromkeys(cell.tier for cell in cells))
    if missing := [name for name in tiers if name not in present]:
        raise SourceError(f"{path} holds nothing of {', '.join(missing)}", hint=f"it holds {', '.join(present)}")
    wanted = list(tiers) or present
    cells = [cell for cell in cells if cell.tier in wanted]
    by_query: dict[str, dict[str, _Cell]] = {}
    for cell in cells:
        by_query.setdefault(cell.query, {})[cell.tier] = cell
    full = {query: found for query, found in by_query.items() if len(found) == len(wanted)}
    lacking = Counter(name for found in by_query.values() for name in wanted if name not in found)
    if not full:
        raise SourceError(f"{path} has no query that all of {', '.join(wanted)} answered", hint=_short(lacking))
    chosen, ignored = _signals(path, cells, signals)
    outcomes = _table(full, wanted, chosen)
    ordered = outcomes if tiers else outcomes.only(*_cheapest_first(outcomes))
    return Recorded(ordered, _currency(cells), len(by_query) - len(full), dict(lacking), ignored)


def _short(lacking: Mapping[str, int]) -> str:
    return ", ".join(f"{count} lack {name}" for name, count in lacking.items())


def _table(full: Mapping[str, Mapping[str, _Cell]], tiers: Sequence[str], signals: Sequence[str]) -> Outcomes:
    groups: dict[str, int] = {}
    grid = [[found[tier] for tier in tiers] for found in full.values()]

    def numbers(name: str) -> Floats:
        return np.array([[cell.number(name) for cell in row] for row in grid], dtype=np.float64)

    def group(cell: _Cell) -> int:
        return groups.setdefault(_text(cell.values["answer"]), len(groups)) if "answer" in cell.values else NO_ANSWER

    return Outcomes(
        tiers=tuple(tiers),
        answers=np.array([[group(cell) for cell in row] for row in grid], dtype=np.int64),
        signals={name: numbers(name) for name in signals},
        cost=numbers("cost"),
        latency=numbers("latency"),
        quality=numbers("quality"),
        ids=tuple(full),
    )


def _cheapest_first(outcomes: Outcomes) -> tuple[str, ...]:
    means = outcomes.cost.mean(axis=0)
    order = np.argsort(means, kind="stable") if not np.isnan(means).any() else np.arange(len(means))
    return tuple(outcomes.tiers[at] for at in order)


def _checked(path: Path, cells: list[_Cell]) -> list[_Cell]:
    """The cells, of which no query has a tier twice and all are in one currency."""
    if not cells:
        raise SourceError(f"{path} holds no outcomes")
    seen: dict[tuple[str, str], str] = {}
    for cell in cells:
        if before := seen.get((cell.query, cell.tier)):
            raise SourceError(
                f"{cell.row}: query {cell.query} has tier {cell.tier} already, in {before}",
                hint="one answer per query and tier",
            )
        seen[cell.query, cell.tier] = cell.row
    first = next((cell for cell in cells if "currency" in cell.values), None)
    for cell in cells:
        if first and cell.values.get("currency", first.values["currency"]) != first.values["currency"]:
            raise cell.wrong(
                "currency", f"after {first.values['currency']!r} in {first.row}", "convert to one currency"
            )
    return cells


def _currency(cells: Iterable[_Cell]) -> str:
    return next((_text(cell.values["currency"]) for cell in cells if "currency" in cell.values), "")


def _signals(path: Path, cells: Sequence[_Cell], named: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The signals to read, and the columns that are none."""
    others = dict.fromkeys(name for cell in cells for name in cell.values if name not in KNOWN)
    if missing := [name for name in named if name not in others]:
        raise SourceError(
            f"{path} has no signal {', '.join(missing)}", hint=f"its other columns: {', '.join(others) or 'none'}"
        )
    if named:
        return list(named), tuple(name for name in others if name not in named)
    worded = {
        name for cell in cells for name, value in cell.values.items() if name in others and _number(value) is None
    }
    return [name for name in others if name not in worded], tuple(name for name in others if name in worded)


def _number(value: object) -> float | None:
    """A number, or one written out; None for what is none."""
    if isinstance(value, bool | int | float):
        return float(value)
    word = str(value).strip().lower()
    if word in ("true", "false"):
        return float(word == "true")
    try:
        return float(word)
    except ValueError:
        return None


def _text(value: object) -> str:
    """What two answers are compared by."""
    return value.strip() if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _filled(value: object) -> bool:
    return value is not None and not (isinstance(value, str) and not value.strip())


def _cells(table: Iterable[tuple[str, Values]]) -> Iterator[_Cell]:
    """Rows of either shape as cells; blank ones are dropped."""
    for row, values in table:
        id_column = _named(row, values, QUERY)
        query = values[id_column]
        if not _filled(query):
            raise SourceError(f"{row}, column {id_column}: the query has no id")
        filled = {name: value for name, value in values.items() if _filled(value) and name != id_column}
        if any(name in values for name in TIER):
            yield _long(row, _text(query), filled)
        else:
            yield from _wide(row, _text(query), filled)


def _long(row: str, query: str, filled: Values) -> _Cell:
    column = next((name for name in TIER if name in filled), "")
    if not column:
        raise SourceError(f"{row}, column tier: no tier is named", hint="which model answered?")
    return _cell(row, query, _text(filled[column]), {name: name for name in filled if name != column}, filled)


def _wide(row: str, query: str, filled: Values) -> Iterator[_Cell]:
    by_tier: dict[str, dict[str, str]] = {}
    for name in filled:
        tier, dot, figure = name.rpartition(".")
        if dot and tier and figure:
            by_tier.setdefault(tier, {})[figure] = name
    shared = {"currency": "currency"} if "currency" in filled else {}
    for tier, columns in by_tier.items():
        yield _cell(row, query, tier, {**shared, **columns}, filled)


def _cell(row: str, query: str, tier: str, columns: Mapping[str, str], filled: Values) -> _Cell:
    """`columns` maps what a figure is called here to the file's column."""
    known = {"quality" if name in QUALITY else name: column for name, column in columns.items()}
    return _Cell(row, query, tier, {name: filled[column] for name, column in known.items()}, known)


def _named(row: str, values: Values, names: Sequence[str]) -> str:
    found = next((name for name in names if name in values), None)
    if found is None:
        raise SourceError(f"{row}: no column is called {' or '.join(names)}", hint=f"its columns: {', '.join(values)}")
    return found
