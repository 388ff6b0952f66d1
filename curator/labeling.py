"""Annotations -> labels: every field of every document, with its confidence and what that rests on.

What is learned (label bias, class prior, calibrators) is learned from a uniform sample of the corpus
and then applied page by page, so that memory does not grow with the corpus.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa

from curator.aggregate import Aggregated, DecisionModel, Ensemble, fit_decisions
from curator.calibration import Calibrator
from curator.confidence import Bools, Floats
from curator.denoising import Corpus
from curator.fields import ClosedField, ReasoningField
from curator.parsing import MISSING
from curator.prior import PriorEstimate
from curator.store import LABELS
from curator.task import Output, Task, View
from curator.types import Json, JsonObject
from curator.votes import VoteResult, vote, vote_correlation

FIT_ROWS = 20_000
"""Documents in the uniform sample: the label bias is then known to about a hundredth of a nat."""

AGREEMENT = "agreement"
"""The basis of labels that one model's samples voted for."""

CORPUS = "corpus"
"""The basis of labels that were denoised: corrected for the label bias, averaged with the neighbourhood."""

LOW_MASS = 0.1
"""Below this share of the vocabulary's probability, the model wanted to say something else."""


@dataclass(frozen=True, slots=True)
class Page:
    """Answers of m documents: per closed field the log-probabilities (m, views, options), NaN where
    missing, and the label mass (m, views), NaN where unknown. With several shards the views of the
    first stand first; a document has answers under those of its own shard only."""

    ids: tuple[str, ...]
    logprobs: Mapping[str, Floats]
    mass: Mapping[str, Floats]
    truncated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Labeler:
    """What was learned about each closed field, and how much the votes on each sampled one repeat each
    other."""

    models: Mapping[str, DecisionModel | Ensemble]
    calibrators: Mapping[str, Calibrator] = field(default_factory=dict)
    correlations: Mapping[str, float] = field(default_factory=dict)
    corpus: Corpus | None = None

    def aggregate(self, page: Page, name: str) -> Aggregated:
        """Probabilities of one field, before calibration against a reference or audits."""
        found = self.models[name].transform(page.logprobs[name])
        return found if self.corpus is None else self.corpus.combine(name, page.ids, found)

    def confidence(self, name: str, aggregated: Aggregated) -> tuple[Floats, str]:
        """Confidence (m,) and its basis."""
        if (calibrator := self.calibrators.get(name)) is not None:
            return calibrator.transform(aggregated.confidence), calibrator.basis
        return aggregated.confidence, self._basis(name)

    def _basis(self, name: str) -> str:
        return CORPUS if self.corpus is not None else self.models[name].basis

    def report(self) -> JsonObject:
        """Per field: bias, prior, whether it could be identified, and the calibration if any."""
        found: JsonObject = {}
        for name, model in self.models.items():
            calibrator = self.calibrators.get(name)
            found[name] = {
                **model.report(),
                **({} if self.corpus is None else {"denoised": self.corpus.report(name)}),
                "calibrated": calibrator is not None,
                "calibration": calibrator.to_json() if calibrator else None,
                "basis": calibrator.basis if calibrator else self._basis(name),
            }
        for name, correlation in self.correlations.items():
            found[name] = {"basis": AGREEMENT, "calibrated": False, "vote_correlation": correlation}
        return found


def pages(task: Task[Output], tables: Iterable[pa.Table], shards: int = 1) -> Iterator[Page]:
    """The store's decision tables (ordered by document) as arrays, options in the task's order."""
    for table in _whole_documents(tables):
        yield _page(task, table, task.views * shards)


def _whole_documents(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, cut where a document ends, so that its views stay together."""
    held: pa.Table | None = None
    for table in tables:
        if held is None or not table.num_rows:
            held = table if held is None else held
            continue
        first = table["document_id"][0].as_py()
        ids = held["document_id"].to_pylist()
        cut = next((i for i in range(len(ids), 0, -1) if ids[i - 1] != first), 0)
        if cut:
            yield held.slice(0, cut)
        held = pa.concat_tables([held.slice(cut), table])
    if held is not None and held.num_rows:
        yield held


def _page(task: Task[Output], table: pa.Table, asked: Sequence[View]) -> Page:
    names = table["document_id"].to_pylist()
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    rows = np.fromiter((order[name] for name in names), dtype=np.int64, count=len(names))
    views = table["view"].to_numpy()
    logprobs = {item.name: np.full((len(order), len(asked), len(item.values)), np.nan) for item in task.closed}
    mass = {item.name: np.full((len(order), len(asked)), np.nan) for item in task.closed}
    answers, masses = table["logprobs"].to_pylist(), table["label_mass"].to_pylist()
    for index, (row, view) in enumerate(zip(rows, views, strict=True)):
        if answers[index] is None or not 0 <= view < len(asked):
            continue
        for item, values, share in zip(task.closed, answers[index], masses[index], strict=True):
            if values is not None and len(values) == len(item.values):
                logprobs[item.name][row, view] = values
                mass[item.name][row, view] = np.nan if share is None else share
    for item in task.closed:
        for number, view in enumerate(asked):
            # Shown position -> the task's option: what a view shuffled is put back.
            shown = np.argsort(view.permutation(item.question))
            logprobs[item.name][:, number] = logprobs[item.name][:, number][:, shown]
    cut = {name for name, flag in zip(names, table["truncated"].to_pylist(), strict=True) if flag}
    return Page(tuple(order), logprobs, mass, frozenset(cut))


def uniform(document_id: str) -> float:
    """A number in [0, 1) that depends on the id alone: the same documents are sampled every time."""
    return int.from_bytes(hashlib.blake2b(document_id.encode(), digest_size=7).digest()) / 2**56


def in_sample(page: Page, documents: int, rows: int = FIT_ROWS) -> Bools:
    """Which of the page's documents belong to the uniform sample of about `rows` of `documents`."""
    share = min(1.0, rows / max(documents, 1))
    return np.fromiter((uniform(name) < share for name in page.ids), dtype=np.bool_, count=len(page.ids))


def fit(
    task: Task[Output],
    found: Iterable[Page],
    documents: int,
    priors: Mapping[str, PriorEstimate] | None = None,
    rounds: Sequence[int] | None = None,
) -> Labeler:
    """Learn each closed field's bias, and its prior unless `priors` knows it, from a uniform sample of
    the `documents`. `rounds` says how many of the views each round has, where there are several."""
    kept: dict[str, list[Floats]] = {item.name: [] for item in task.closed}
    for page in found:
        chosen = in_sample(page, documents)
        for name, values in page.logprobs.items():
            kept[name].append(values[chosen])
    known = priors or {}
    return Labeler(
        {name: _fit_field(np.concatenate(parts), rounds, known.get(name)) for name, parts in kept.items() if parts}
    )


def _fit_field(values: Floats, rounds: Sequence[int] | None, prior: PriorEstimate | None) -> DecisionModel | Ensemble:
    cut = np.split(values, np.cumsum(rounds)[:-1], axis=1) if rounds else [values]
    models = tuple(fit_decisions(part, prior=prior or "auto") for part in cut)
    return models[0] if len(models) == 1 else Ensemble(models)


def closed_labels(task: Task[Output], labeler: Labeler, found: Iterable[Page]) -> Iterator[pa.Table]:
    """One table of labels per page: the closed fields."""
    for page in found:
        for item in task.closed:
            yield _closed_table(item, page, labeler)


def _closed_table(item: ClosedField, page: Page, labeler: Labeler) -> pa.Table:
    aggregated = labeler.aggregate(page, item.name)
    confidence, basis = labeler.confidence(item.name, aggregated)
    tops = aggregated.top
    shown = [orjson.dumps(value).decode() for value in item.values]
    mass = page.mass[item.name]
    known = ~np.isnan(mass)
    mean_mass = np.where(known.any(axis=1), np.where(known, mass, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1), 1)
    nowhere = np.zeros(len(tops), dtype=np.bool_)
    raised: dict[str, Sequence[bool] | Bools] = {
        "truncated": [name in page.truncated for name in page.ids],
        "low_label_mass": mean_mass < LOW_MASS,
        "views_differ": aggregated.flip > 0,
        "neighbours_differ": nowhere if aggregated.contradicted is None else aggregated.contradicted,
        "unanswered": [top is None for top in tops],
    }
    flags = [[name for name, on in raised.items() if on[i]] for i in range(len(tops))]
    columns = [
        pa.array(page.ids),
        pa.array([item.name] * len(page.ids)),
        pa.array([None if top is None else shown[top] for top in tops]),
        pa.array(confidence, from_pandas=True),
        pa.array([basis] * len(page.ids)),
        pa.array([None if top is None else row for top, row in zip(tops, aggregated.probabilities, strict=True)]),
        pa.array(aggregated.effective_votes),
        pa.array(flags, type=pa.list_(pa.string())),
    ]
    return pa.table([column.cast(kind.type) for column, kind in zip(columns, LABELS, strict=True)], LABELS)


def vote_correlations(task: Task[Output], tables: Iterable[pa.Table], documents: int) -> dict[str, float]:
    """How much the votes on each sampled field repeat each other, over the uniform sample."""
    share = min(1.0, FIT_ROWS / max(documents, 1))
    counts: dict[str, list[Counter[str]]] = {item.name: [] for item in task.voted}
    for table in tables:
        for name, parsed in zip(table["document_id"].to_pylist(), _parsed(task, table), strict=True):
            if uniform(name) < share:
                for field_name, found in counts.items():
                    votes = (_ballot(values[field_name]) for values in parsed)
                    found.append(Counter(vote for vote in votes if vote is not None))
    return {name: vote_correlation(found) for name, found in counts.items()}


def _parsed(task: Task[Output], table: pa.Table) -> list[list[JsonObject]]:
    return [[task.parse(text) for text in row or [] if text is not None] for row in table["samples"].to_pylist()]


def sampled_labels(task: Task[Output], labeler: Labeler, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """One table of labels per page: the sampled fields, voted; reasoning is kept from a sample that
    gave the winning answer."""
    for table in tables:
        ids = table["document_id"].to_pylist()
        parsed = _parsed(task, table)
        rows: list[JsonObject] = []
        winners: list[JsonObject] = [{} for _ in ids]
        for voted in task.voted:
            votes = [[_ballot(values[voted.name]) for values in row] for row in parsed]
            options = len(voted.values) if isinstance(voted, ClosedField) else None
            result = vote(votes, options=options, correlation=labeler.correlations.get(voted.name))
            rows.extend(_voted_rows(voted.name, ids, result, table["truncated"].to_pylist(), winners))
        for kept in task.sampled:
            if isinstance(kept, ReasoningField):
                found = (_supporting(kept.name, *pair) for pair in zip(parsed, winners, strict=True))
                rows.extend(_row(name, kept.name, text, None, "kept") for name, text in zip(ids, found, strict=True))
        yield pa.Table.from_pylist(rows, LABELS)


def _voted_rows(
    field_name: str, ids: Sequence[str], result: VoteResult, truncated: Sequence[bool], winners: Sequence[JsonObject]
) -> Iterator[JsonObject]:
    """One row per document; each winning value is noted in `winners`."""
    for i, name in enumerate(ids):
        value = result.values[i]
        if value is not None:
            winners[i][field_name] = orjson.loads(value)
        row = _row(name, field_name, value, float(result.confidence[i]), result.basis)
        row["effective_votes"] = float(result.effective_votes[i])
        named = {"truncated": truncated[i], "unanswered": value is None}
        row["flags"] = [flag for flag, on in named.items() if on]
        yield row


def _ballot(value: Json) -> str | None:
    return None if value == MISSING else orjson.dumps(value).decode()


def _supporting(name: str, samples: Sequence[JsonObject], winner: JsonObject) -> str | None:
    """The reasoning of the first sample whose voted answers all won."""
    for values in samples:
        if winner and all(values[key] == value for key, value in winner.items()) and values[name] != MISSING:
            return orjson.dumps(values[name]).decode()
    return None


def _row(document_id: str, name: str, value: str | None, confidence: float | None, basis: str) -> JsonObject:
    return {
        "document_id": document_id,
        "field": name,
        "value": value,
        "confidence": None if confidence is None or np.isnan(confidence) else confidence,
        "basis": basis,
        "probabilities": None,
        "effective_votes": None,
        "flags": [],
    }
