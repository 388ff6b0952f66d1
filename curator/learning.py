"""What the confidences rest on: the corpus itself, a stronger model on a sample, or audited rows.

Without a reference or audits, label bias and class prior come from the corpus alone and the basis is
`batch`: corrected, not calibrated. With them, a monotone calibrator per field maps the confidence to
the chance of agreeing with the reference, or of being right.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from typing import Generic

import numpy as np
import pyarrow as pa

from curator.calibration import Calibrator, calibrate_with_audits, calibrate_with_reference
from curator.confidence import Floats
from curator.denoising import Corpus, Denoising, embedder, fit_corpus
from curator.engines.base import EngineIdentity
from curator.labeling import Labeler, Page, fit, in_sample, pages, uniform, vote_correlations
from curator.prior import MOST_OPTIONS, PriorEstimate, prior_from_audits, prior_from_probes
from curator.probes import make_probes
from curator.requests import PLAIN, Prompting
from curator.store import Audit, Store
from curator.task import Output, Task
from curator.types import Demonstration, Document, Json

logger = logging.getLogger(__name__)
Checked = Mapping[str, Mapping[str, Json]]
"""Field -> document -> the checked value."""
Calibrate = Callable[..., Calibrator]
MIN_CHECKED = 20
"""Rows that a reference or people have answered, below which a calibrator would be noise."""


@dataclass(frozen=True, slots=True)
class Answers(Generic[Output]):
    """One engine's answers to a task under one prompting, as the store has them, for the documents that
    `kept_by` keeps. The answers to closed fields under `earlier` promptings count as much: their views
    stand before those of the last. `probes` is how many texts without content were asked about too; `priors`
    holds the class prior of the fields of which somebody knows it."""

    task: Task[Output]
    store: Store
    identity: EngineIdentity
    kept_by: str | None = None
    prompting: Prompting = PLAIN
    earlier: tuple[Prompting, ...] = ()
    probes: int = 0
    priors: Mapping[str, PriorEstimate] = field(default_factory=dict)

    def then(self, prompting: Prompting) -> Answers[Output]:
        """The answers of one more round."""
        return replace(self, prompting=prompting, earlier=(*self.earlier, self.prompting))

    @property
    def rounds(self) -> tuple[int, ...]:
        """How many views each round has."""
        return tuple(len(self.task.views) * len(shots) for shots in self._asked.values())

    @property
    def documents(self) -> int:
        """How many documents there are to answer."""
        return self.store.count(self.kept_by)

    def pages(self) -> Iterator[Page]:
        """The closed fields' answers."""
        tables = self.store.decisions(self._first_views, kept_by=self.kept_by)
        return pages(self.task, tables, sum(self.rounds) // len(self.task.views))

    @property
    def untaught(self) -> Answers[Output] | None:
        """The answers of the round before any examples, if there was one."""
        first = (*self.earlier, self.prompting)[0]
        return None if any(first.shots) else replace(self, prompting=first, earlier=())

    def probe_documents(self) -> list[Document]:
        """The texts without content. They are asked about before any examples: those are chosen evenly among
        the classes, and a prior that was estimated with them would choose the next ones."""
        return make_probes(self.store, self.kept_by, 0 if any(self.prompting.shots) else self.probes)

    def probe_pages(self) -> Iterator[Page]:
        """The closed fields' answers about them, with views as in `pages`."""
        known = [document.id for document in self.probe_documents()]
        return pages(self.task, [self.store.decisions_about(known, self._first_views)])

    def samples(self) -> Iterator[pa.Table]:
        """The sampled fields' texts."""
        return self.store.samples(self.prompting.annotation_id(self.task, self.identity), kept_by=self.kept_by)

    @property
    def _first_views(self) -> dict[str, int]:
        """What the answers are kept under -> the number of its first view."""
        return dict(zip(self._asked, accumulate((0, *self.rounds)), strict=False))

    @property
    def _asked(self) -> dict[str, tuple[tuple[Demonstration, ...], ...]]:
        """What the answers are kept under -> the examples of its shards. A round that repeats another
        one's examples is that one."""
        found = (*self.earlier, self.prompting)
        return {one.annotation_id(self.task, self.identity): one.shots for one in found}


@dataclass(frozen=True)
class Learned(Generic[Output]):
    """The answers of the last round, and what was learned from all rounds."""

    answers: Answers[Output]
    labeler: Labeler


def learn(
    answers: Answers[Output],
    reference: EngineIdentity | None = None,
    denoising: Denoising | None = None,
    reference_share: float = 1.0,
) -> Labeler:
    """Fit the closed fields on the corpus, and denoise them where that is wanted; then calibrate with
    audits where there are enough, else with the reference's answers where there are. `reference_share` of
    the documents were drawn for the reference.

    Raises: MissingExtraError, WeightsError from denoising.
    """
    task = answers.task
    correlations = vote_correlations(task, answers.samples(), answers.documents) if task.sampled else {}
    if not task.closed:
        return Labeler({}, correlations=correlations)
    labeler = fit(task, answers.pages(), answers.documents, answers.priors, answers.rounds)
    if answers.probes and (estimated := probe_priors(answers, labeler)):
        labeler = fit(task, answers.pages(), answers.documents, {**estimated, **answers.priors}, answers.rounds)
    audited = _enough(_by_field(task, answers.store.audits(task.id)))
    if audited:
        # Checked rows tell the class prior too, where the answers alone may not identify it.
        priors = {**_priors(answers, labeler, audited), **answers.priors}
        labeler = fit(task, answers.pages(), answers.documents, priors, answers.rounds)
    if denoising is not None:
        labeler = replace(labeler, corpus=_corpus(answers, labeler, denoising))
    calibrators = _calibrators(answers, labeler, audited, calibrate_with_audits)
    if reference is not None:
        theirs = reference_answers(replace(answers, identity=reference, prompting=PLAIN, earlier=()))
        found = _enough(_drawn(answers.store, theirs, reference_share))
        by_reference = partial(calibrate_with_reference, reference=str(reference))
        calibrators = {**_calibrators(answers, labeler, found, by_reference), **calibrators}
    return replace(labeler, calibrators=calibrators, correlations=correlations)


def _corpus(answers: Answers[Output], labeler: Labeler, denoising: Denoising) -> Corpus:
    """The heads that know the corpus, from a uniform sample of its documents."""
    labels = {item.name: item.question.labels for item in answers.task.closed}
    documents = answers.documents

    def sample() -> Iterator[tuple[list[str], dict[str, Floats]]]:
        for page in answers.pages():
            chosen = np.flatnonzero(in_sample(page, documents, denoising.rows))
            found = {name: labeler.aggregate(page, name).probabilities[chosen] for name in labels}
            yield [page.ids[row] for row in chosen], found

    return fit_corpus(sample(), labels, embedder(answers.store, denoising.encoder), denoising)


def reference_answers(answers: Answers[Output]) -> dict[str, dict[str, Json]]:
    """Field -> document -> the reference engine's answer (bias-corrected like any other engine's)."""
    task, found = answers.task, list(answers.pages())
    chosen: dict[str, dict[str, Json]] = defaultdict(dict)
    if not found:
        return chosen
    labeler = fit(task, found, sum(len(page.ids) for page in found))
    for page in found:
        for item in task.closed:
            for name, top in zip(page.ids, labeler.aggregate(page, item.name).top, strict=True):
                if top is not None:
                    chosen[item.name][name] = item.values[top]
    return chosen


def _drawn(store: Store, theirs: Checked, share: float) -> dict[str, dict[str, Json]]:
    """A reference's answers without those that came with a cascade's traffic and were not drawn uniformly: the
    strong tier was asked about the hard ones, and would make the others look as hard."""
    beyond = {name for rows in theirs.values() for name in rows if uniform(name) >= share}
    served = store.served_documents(sorted(beyond)) if beyond else set()
    return {field: {name: v for name, v in rows.items() if name not in served} for field, rows in theirs.items()}


def _by_field(task: Task[Output], audits: Sequence[Audit]) -> dict[str, dict[str, Json]]:
    """Field -> document -> value. The last word counts where a document was audited twice; what can
    never match an option is said and left out."""
    options = {item.name: item.values for item in task.closed}
    found: dict[str, dict[str, Json]] = defaultdict(dict)
    for audit in audits:
        if audit.field in options and audit.value not in options[audit.field]:
            logger.warning("audit of %s: %r is no option of %s", audit.document_id, audit.value, audit.field)
        elif audit.field in options:
            found[audit.field][audit.document_id] = audit.value
    return found


def _enough(checked: Mapping[str, dict[str, Json]]) -> dict[str, dict[str, Json]]:
    return {name: rows for name, rows in checked.items() if len(rows) >= MIN_CHECKED}


def probe_priors(answers: Answers[Output], labeler: Labeler) -> dict[str, PriorEstimate]:
    """The class prior of each field that the corpus alone does not identify, from probes; of one with many options
    a sample does not tell it."""
    documents, plain = answers.documents, answers.untaught
    fields = [item.name for item in answers.task.closed if len(item.values) <= MOST_OPTIONS]
    unknown = [name for name in fields if not labeler.models[name].prior.identified]
    empty = [page.logprobs for page in plain.probe_pages()] if plain else []
    if plain is None or not empty:
        return {}
    rows: dict[str, list[Floats]] = {name: [] for name in unknown}
    for page in plain.pages():
        chosen = in_sample(page, documents)
        for name, kept in rows.items():
            kept.append(page.logprobs[name][chosen])
    return {
        name: prior_from_probes(np.concatenate(kept), np.concatenate([found[name] for found in empty]))
        for name, kept in rows.items()
        if kept
    }


def _priors(answers: Answers[Output], labeler: Labeler, checked: Checked) -> dict[str, PriorEstimate]:
    """The class prior of each audited field, from the mean answer and the audited rows' mean error."""
    guesses: dict[str, list[Floats]] = defaultdict(list)
    documents = answers.documents
    audited: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for page in answers.pages():
        sampled = in_sample(page, documents)
        for item in answers.task.closed:
            rows = checked.get(item.name, {})
            wanted = [i for i, name in enumerate(page.ids) if sampled[i] or name in rows]
            start = sum(map(len, guesses[item.name]))
            guesses[item.name].append(labeler.aggregate(page, item.name).probabilities[wanted])
            audited[item.name] += [
                (start + at, item.values.index(rows[page.ids[i]]))
                for at, i in enumerate(wanted)
                if page.ids[i] in rows and rows[page.ids[i]] in item.values
            ]
    return {
        name: prior_from_audits(np.concatenate(guesses[name]), *(np.asarray(part) for part in zip(*pairs, strict=True)))
        for name, pairs in audited.items()
        if len(pairs) >= MIN_CHECKED
    }


def _calibrators(
    answers: Answers[Output], labeler: Labeler, checked: Checked, calibrate: Calibrate
) -> dict[str, Calibrator]:
    """One calibrator per checked field whose documents have answers enough."""
    if not checked:
        return {}
    scores = _scores(answers, labeler, checked)
    return {
        name: calibrate(*(np.asarray(part) for part in zip(*pairs, strict=True)))
        for name, pairs in scores.items()
        if len(pairs) >= MIN_CHECKED
    }


def _scores(answers: Answers[Output], labeler: Labeler, checked: Checked) -> dict[str, list[tuple[float, bool]]]:
    """Field -> (confidence, whether the label is the checked one) for the checked documents."""
    ids = {document for rows in checked.values() for document in rows}
    scores: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for page in answers.pages():
        if ids.isdisjoint(page.ids):
            continue
        for item in answers.task.closed:
            aggregated = labeler.aggregate(page, item.name)
            for i, (name, top) in enumerate(zip(page.ids, aggregated.top, strict=True)):
                if top is not None and name in checked.get(item.name, {}):
                    right = item.values[top] == checked[item.name][name]
                    scores[item.name].append((float(aggregated.confidence[i]), right))
    return scores
