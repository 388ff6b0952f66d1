"""The soak's auditor: the gateway's ledger against the upstreams' own books, call by call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import pyarrow.parquet as pq

from benchmarks._soak_load import Sent
from benchmarks.mock_soak_upstream import Call
from cascade.gateway.ledger_files import SUFFIX


class Row(TypedDict):
    """What is looked at of a ledger's row."""

    request: str
    tier: str
    kind: str
    input_tokens: int | None
    output_tokens: int | None
    estimated: bool
    error: str
    cost: float | None


@dataclass
class Audit:
    """How ledger and books differ: the last block should be 0.

    Of the upstreams' `calls`, `exact` are in the ledger with all of their tokens. `running` are streams that were given
    up or broke, of which the ledger has the tokens up to the last piece that came. `silent` never told their tokens to
    anyone who still listened: the ledger has an entry without tokens, or with an estimate (`estimated`); a 429 costs
    none (`limited`). `unseen` entries are of calls that were given up before the upstream had read them.
    """

    calls: int = 0
    entries: int = 0
    exact: int = 0
    exact_tokens: tuple[int, int] = (0, 0)
    books_tokens: tuple[int, int] = (0, 0)
    running: int = 0
    silent: int = 0
    limited: int = 0
    estimated: int = 0
    unseen: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    unbilled: int = 0
    billed_twice: int = 0
    wrong_tokens: int = 0
    strangers: int = 0
    """Entries with tokens of another request's call, or of none."""
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        wrong = self.unbilled or self.billed_twice or self.wrong_tokens or self.strangers
        return not wrong and self.exact_tokens == self.books_tokens


def ledger_rows(folder: Path) -> list[Row]:
    """All entries of a ledger."""
    files = sorted(folder.glob(f"*{SUFFIX}"))
    columns = list(Row.__annotations__)
    return [row for file in files for row in pq.read_table(file, columns=columns).to_pylist()]


def audit(books: Mapping[str, Sequence[Call]], rows: Sequence[Row], sent: Iterable[Sent]) -> Audit:
    """Compare. `books` are tier -> calls."""
    known = {call.serial: (tier, call) for tier, calls in books.items() for call in calls}
    owner = {one.request: one.token for one in sent if one.request}
    found = Audit(len(known), len(rows), kinds=dict(Counter(row["kind"] for row in rows)))
    seen: set[int] = set()
    for row in rows:
        if row["input_tokens"] and not row["estimated"]:
            _told(found, row, known, owner, seen)
    found.silent = len(known) - found.exact - found.running
    found.limited = sum(call.limited for _, call in known.values())
    found.estimated = sum(row["estimated"] for row in rows)
    _compare_counts(found, books, rows, owner)
    return found


def _told(
    found: Audit, row: Row, known: Mapping[int, tuple[str, Call]], owner: Mapping[str, str], seen: set[int]
) -> None:
    """An entry whose tokens say which call it is of."""
    serial, output = row["input_tokens"] or 0, row["output_tokens"] or 0
    tier, call = known.get(serial, ("", None))
    asked = owner.get(row["request"])
    if call is None or tier != row["tier"] or (asked is not None and asked != call.token):
        found.strangers += 1
        found.examples.append(f"stranger: {row} {call}")
        return
    found.billed_twice += serial in seen
    seen.add(serial)
    if call.told and output == call.output:
        found.exact += 1
        found.exact_tokens = found.exact_tokens[0] + serial, found.exact_tokens[1] + output
        found.books_tokens = found.books_tokens[0] + call.serial, found.books_tokens[1] + call.output
    elif call.stream and row["error"] and output <= call.output:
        # Pieces that were still on their way when a stream ended are in the upstream's books alone.
        found.running += 1
    else:
        found.wrong_tokens += 1
        found.examples.append(f"tokens: {row} {call}")


def _compare_counts(
    found: Audit, books: Mapping[str, Sequence[Call]], rows: Sequence[Row], owner: Mapping[str, str]
) -> None:
    """Calls and entries per prompt and tier. Prompts whose client never learnt the request's id are taken together."""
    tokens = set(owner.values())
    calls = Counter(
        (tier, call.token if call.token in tokens else "") for tier, calls in books.items() for call in calls
    )
    entries = Counter((row["tier"], owner.get(row["request"], "")) for row in rows)
    for place in calls.keys() | entries.keys():
        difference = calls[place] - entries[place]
        found.unbilled += max(difference, 0)
        found.unseen += max(-difference, 0)
        if difference > 0:
            found.examples.append(f"unbilled: {difference} of {place}")
