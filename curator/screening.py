"""Which documents are worth a model's time: duplicates and quality, each rejection with its reason."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from curator.dedup import exact_duplicates, near_duplicates
from curator.filters import Filter, build_filters, guarded, judge, settings_hash
from curator.store import Run, Store
from curator.telemetry import stage_span
from curator.types import Json, JsonObject, Verdict

logger = logging.getLogger(__name__)
KEPT = Verdict(True)
NEAR = 0.8
"""Jaccard similarity from which on two texts are near-duplicates by default."""
Judged = tuple[str, str, Verdict]


def near_where_possible(threshold: float = NEAR) -> float | None:
    """`threshold` where near-duplicates can be found, None where the `dedup` extra is not installed,
    which is said once."""
    if find_spec("rensa"):
        return threshold
    _say_that_near_duplicates_stay()
    return None


@functools.cache
def _say_that_near_duplicates_stay() -> None:
    logger.warning(
        'near-duplicates stay: removing them needs pip install "goldless[dedup]" '
        "(near = false under [dedup], or Screening(near=None), settles it)"
    )


@dataclass(frozen=True, slots=True)
class Screening:
    """What to remove before anything is labelled.

    `exact` removes texts that are equal but for case and space, `near` those whose Jaccard similarity
    to an earlier one reaches it, equal ones among them; None is off. It needs the `dedup` extra: by
    default it is 0.8 where that is installed and off elsewhere.
    `filters` is a `[filters]` table, see `curator.filters`; `own` are filters of yours, by name. What
    one raises on a document rejects that document, with the reason `filter.error:<Type>`. A filter's
    name is part of what its verdicts are kept under, so rename it when you change what it does.
    `folder` is where modules and files that `filters` names are looked for first.
    """

    exact: bool = True
    near: float | None = field(default_factory=near_where_possible)
    filters: Mapping[str, Json] = field(default_factory=dict)
    own: tuple[tuple[str, Filter], ...] = ()
    folder: Path | None = None

    def describe(self) -> JsonObject:
        """The settings as JSON."""
        return {
            **self.filters,
            "dedup": {"exact": self.exact, "near": self.near},
            "own": [name for name, _ in self.own],
        }

    @property
    def key(self) -> str:
        """Names these settings; verdicts are kept under it."""
        return settings_hash(self.describe(), self.folder)


def screen(store: Store, run: Run, screening: Screening) -> JsonObject:
    """Judge every document that these settings have not judged yet, and count what is left.

    A new document can only be told to be a duplicate beside all others, so all are read again
    whenever there are new ones; nothing is when there are none.
    """
    with stage_span("screen") as span:
        total = store.count()
        if store.judged(screening.key) != total:
            store.add_verdicts(screening.key, _verdicts(store, screening), run.id, replace=True)
        kept = store.count(screening.key)
        span.set_attribute("goldless.rows", total)
    rejected: dict[str, Json] = dict(store.rejections(screening.key).items())
    return {"documents": total, "kept": kept, "rejected": rejected}


def _verdicts(store: Store, screening: Screening) -> Iterator[Judged]:
    """One verdict per document. Duplicates are told first: a text that a filter rejects still is the
    first of its kind."""
    duplicates = {name: (name, "duplicates", verdict) for name, verdict in _duplicates(store, screening)}
    own = [(name, guarded(name, check)) for name, check in screening.own]
    filters = [*build_filters(screening.filters, screening.folder), *own]
    for batch in store.documents():
        fresh = [document for document in batch if document.id not in duplicates]
        rejected = {row[0]: row for row in judge(filters, fresh)}
        for document in batch:
            found = duplicates.get(document.id) or rejected.get(document.id)
            yield found or (document.id, "kept", KEPT)


def _duplicates(store: Store, screening: Screening) -> Iterator[tuple[str, Verdict]]:
    if screening.near is not None:
        return near_duplicates(store.documents(), threshold=screening.near)
    return exact_duplicates(store.documents()) if screening.exact else iter(())
