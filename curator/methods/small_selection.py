"""Data selection by a small model: it scores the rows, the strong model trains on what is kept or by weight.

Scores are comparable within one corpus only. Every selection comes with its control: the same weights, shuffled among
the rows of each class, which is a random subset of the same size and the same classes ("Foundations of Large Language
Models", ch. 4: small models that select data for large ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from curator.confidence import Floats, Ints
from curator.errors import ConfigError, InputError
from curator.selection import SelectionPolicy, select
from curator.types import Question, Template

if TYPE_CHECKING:
    from curator.engines.likelihood import Likelihood
    from curator.methods.students import Pool, Teacher

ScoreName = Literal["confidence", "perplexity", "difficulty", "disagreement"]
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Score:
    """`values` (n,): the higher, the sooner a row is kept; NaN is never kept."""

    name: str
    values: Floats


def confidence(teacher: Teacher) -> Score:
    """The probability that the teacher gives its own label."""
    return Score("confidence", teacher.probabilities.max(axis=1))


def perplexity(model: Likelihood, texts: Sequence[str]) -> Score:
    """Texts that the small model finds likely come first: noise, markup and broken encodings come last. The score is
    minus the log of the perplexity, in nats per token."""
    return Score("perplexity", -model.mean_nll(texts))


def difficulty(model: Likelihood, texts: Sequence[str], teacher: Teacher, asked: tuple[Question, Template]) -> Score:
    """Instruction-following difficulty, IFD = ppl(answer | text) / ppl(answer) (Li et al., arXiv 2308.12032): near 1
    the text says little about its label, which makes the row hard; above 1 it speaks against it, and the label is
    likely wrong. As in the paper the hardest below 1 come first, and what is above 1 is never kept.

    `asked` renders the prompt; a row's answer is the teacher's label.
    """
    question, template = asked
    prompts = model.prompts(texts, question, template)
    classes = teacher.classes()
    answers = [question.labels[top] if top >= 0 else question.labels[0] for top in classes]
    alone = {answer: float(model.mean_nll([answer])[0]) for answer in dict.fromkeys(answers)}
    ratio = np.exp(model.mean_nll(answers, prompts) - np.array([alone[answer] for answer in answers]))
    return Score("difficulty", np.where((classes >= 0) & (ratio <= 1), ratio, np.nan))


def disagreement(pool: Pool, teacher: Teacher, seed: int = 0) -> Score:
    """How far the strong model takes the teacher's side: the log-probability of the teacher's label under heads that
    were trained on the other folds (confident learning, arXiv 1911.00068). Rows on which the strong model disagrees
    come last.

    Raises: InputError for labels that cannot be learnt from.
    """
    from curator.methods.students import train
    from curator.training.head_settings import HeadSettings

    classes, known = teacher.classes(), teacher.labelled(pool) & ~pool.held
    fold = np.full(len(pool.ids), -1)
    fold[known] = _folds(classes[known], seed)
    found = np.full(len(pool.ids), np.nan)
    targets = np.where(known[:, None], teacher.probabilities, 1.0 / len(pool.options))
    for number in range(FOLDS):
        student = train(pool, targets, known & (fold != number), ("disagreement", HeadSettings(seed=seed)))
        rows = np.flatnonzero(fold == number)
        found[rows] = student.head.linear.logprobs(pool.features[rows])[np.arange(len(rows)), classes[rows]]
    return Score("disagreement", found)


def _folds(classes: Ints, seed: int) -> Ints:
    """A fold per row; every class is spread over all of them."""
    order = np.random.default_rng(seed).permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    folds = np.empty(len(classes), dtype=np.int64)
    folds[order] = np.arange(len(classes)) % FOLDS
    return folds


@dataclass(frozen=True, slots=True)
class Choice:
    """How scores become weights.

    Hard: the best `share` of every class is kept, so that no class vanishes; with `balanced` no class may have more
    rows than the smallest. `weighted` keeps all rows, and a row's weight is its rank within its class, from
    2 (the best) down to almost 0; `share` does not count then.
    Raises: ConfigError for a share out of range, or balance with weights.
    """

    share: float = 0.5
    balanced: bool = False
    weighted: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"the share of rows to keep is {self.share}", hint="above 0 and at most 1; 0.5 is usual")
        if self.weighted and self.balanced:
            raise ConfigError("weights keep every row: classes cannot be balanced", hint="leave one of the two out")

    def weights(self, ids: Sequence[str], classes: Ints, score: Score) -> Floats:
        """A weight (n,) per row, 0 for a row that is left out or has class -1.

        Raises: InputError if nothing is left.
        """
        known = (classes >= 0) & ~np.isnan(score.values)
        if not known.any():
            raise InputError(f"{score.name} scores no labelled row", hint="select by another score")
        if self.weighted:
            return _ranked(np.where(known, classes, -1), score.values)
        policy = SelectionPolicy(coverage=self.share, coverage_of="class", balanced=self.balanced)
        named = [str(label) if use else None for label, use in zip(classes.tolist(), known, strict=True)]
        # A selection takes confidences, which are never negative; only the order counts.
        shifted = score.values - np.nanmin(score.values)
        return select(ids, named, shifted, policy).keep.astype(np.float64)


def _ranked(classes: Ints, values: Floats) -> Floats:
    weights = np.zeros(len(classes))
    for number in np.unique(classes[classes >= 0]):
        rows = np.flatnonzero(classes == number)
        rows = rows[np.argsort(values[rows], kind="stable")]
        weights[rows] = 2 * (np.arange(len(rows)) + 1) / (len(rows) + 1)
    return weights


def control(weights: Floats, classes: Ints, seed: int) -> Floats:
    """The same weights on rows that chance picks within each class: what a selection has to beat."""
    random = np.random.default_rng(seed)
    shuffled = np.zeros_like(weights)
    for number in np.unique(classes[classes >= 0]):
        rows = np.flatnonzero(classes == number)
        shuffled[rows] = random.permutation(weights[rows])
    return shuffled
