"""What the weak-to-strong methods share: the rows, the teachers that label them, the students that learn from them.

Nothing in here takes gold. Students are linear heads on the frozen features of a strong encoder or language model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from curator.confidence import Bools, Floats, Ints, tops
from curator.engines.encoder import Encoder, Features
from curator.engines.features import FeatureCache
from curator.engines.heads import Head, HeadModel, HeadSpec, save_heads
from curator.errors import InputError
from curator.labeling import uniform
from curator.training.classifier import head_encoder
from curator.training.failures import training_errors
from curator.training.head_settings import HeadSettings
from curator.training.heads import TrainedHead, train_head
from curator.training.supervision import FEWEST
from curator.types import Question, Template


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows of an experiment: `ids` (n,), `features` (n, d), the question's `options` (k,).

    `held` (n,) marks the rows that no student is trained on. Misfit and, where there is gold, accuracy are taken there.
    Raises: InputError for shapes that do not match, or where either side has fewer than 10 rows.
    """

    ids: tuple[str, ...]
    features: Features
    options: tuple[str, ...]
    held: Bools

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.features) == len(self.held):
            raise InputError(f"{len(self.ids)} ids, {len(self.features)} features, {len(self.held)} marks do not match")
        self.check(self.held)

    @staticmethod
    def check(held: Bools) -> None:
        """Raises: InputError where either side has too few rows."""
        test, train = int(held.sum()), int((~held).sum())
        if min(train, test) < FEWEST:
            raise InputError(
                f"{train} rows to train on and {test} to test on are too few; {FEWEST} of each is the least",
                hint="label more documents, or change the share that is held out",
            )

    @classmethod
    def split(cls, ids: Sequence[str], features: Features, options: Sequence[str], held: float = 0.3) -> Pool:
        """Hold out about a share of the rows, by a hash of their ids: growing a corpus moves no row from one side to
        the other."""
        return cls(tuple(ids), features, tuple(options), held_out(ids, held))

    @property
    def test(self) -> Ints:
        """Numbers of the held-out rows."""
        return np.flatnonzero(self.held)


def held_out(ids: Sequence[str], share: float) -> Bools:
    """Which rows are held out. The hash is not the one by which a reference's sample is drawn."""
    if not 0 < share < 1:
        raise InputError(f"the share of rows held out is {share}", hint="above 0 and below 1; 0.3 is usual")
    return np.array([uniform(f"held out\0{name}") < share for name in ids], dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Teacher:
    """A weak model's answers: `probabilities` (n, k), NaN in rows that it did not label.

    `seen` are the ids that the teacher itself was trained on: what it says of them is memory, so they are used neither
    to teach nor to test. `basis` says what its confidence rests on (see `curator.types.Label`).
    """

    name: str
    probabilities: Floats
    basis: str = "raw"
    seen: frozenset[str] = frozenset()

    def fresh(self, pool: Pool) -> Bools:
        """Rows (n,) of the pool that the teacher was not trained on.

        Raises: InputError if its answers are not for these rows.
        """
        if self.probabilities.shape != (len(pool.ids), len(pool.options)):
            raise InputError(
                f"{self.name} answers {self.probabilities.shape}, the pool has {len(pool.ids)} rows and "
                f"{len(pool.options)} options"
            )
        return np.array([name not in self.seen for name in pool.ids], dtype=np.bool_)

    def labelled(self, pool: Pool) -> Bools:
        """Rows (n,) that it labelled and was not trained on."""
        return self.fresh(pool) & ~np.isnan(self.probabilities).any(axis=1)

    def classes(self) -> Ints:
        """The most probable option (n,) of every row, -1 where there is none."""
        return tops(self.probabilities)


@dataclass(frozen=True, slots=True)
class Student:
    """One trained student. `rows` carried a weight; `probabilities` (t, k) are its answers to the pool's `test`;
    `dataset` is a hash of what it learnt from."""

    arm: str
    loss: str
    seed: int
    rows: int
    head: TrainedHead
    probabilities: Floats
    dataset: str = ""


def train(pool: Pool, targets: Floats, weights: Floats, named: tuple[str, HeadSettings]) -> Student:
    """A student of `targets` (n, k), row by row times `weights` (n,); held-out rows are left out whatever theirs are.
    `named` is the arm and how to train.

    Raises: InputError for labels that cannot be learnt from; TrainingError.
    """
    arm, settings = named
    used = np.flatnonzero(~pool.held & (weights > 0))
    try:
        with training_errors():
            head = train_head(pool.features[used], targets[used], weights[used], settings)
    except InputError as error:
        raise InputError(f"the {arm} arm: {_by_name(error.message, pool.options)}", hint=error.hint) from None
    answers = head.probabilities(pool.features[pool.test])
    learnt = _digest([pool.ids[row] for row in used], targets[used], weights[used])
    return Student(arm, settings.loss.name, settings.seed, len(used), head, answers, learnt)


def _digest(ids: Sequence[str], targets: Floats, weights: Floats) -> str:
    """Hash (hex, 128 bit) of rows with their labels and weights."""
    digest = hashlib.blake2b(orjson.dumps(ids), digest_size=16)
    for part in (targets, weights):
        digest.update(np.ascontiguousarray(part, dtype=np.float64).tobytes())
    return digest.hexdigest()


def _by_name(message: str, options: Sequence[str]) -> str:
    """A message of `train_head`, which knows options by number."""
    for place, option in enumerate(options):
        message = message.replace(f"'{place}'", repr(option))
    return message


def mean_answer(students: Sequence[Student]) -> Floats:
    """The mean distribution (t, k) of students that differ in their seed only."""
    mean: Floats = np.mean([student.probabilities for student in students], axis=0)
    return mean


def keep(
    student: Student, folder: Path, encoder: Encoder, question: Question, template: Template | None = None
) -> HeadModel:
    """Write a student to `folder`, which `connect("head:<folder>")` serves. Encoder, question and template are those
    that its features were made with.

    Raises: WeightsError for a full or read-only disk, or an encoder whose features are of another width.
    """
    spec = HeadSpec(question, template, student.loss, student.dataset, {"arm": student.arm}, student.head.metrics)
    model = HeadModel(head_encoder(encoder), (Head(spec, student.head.linear),))
    model.check_width(encoder.width)
    return save_heads(folder, model)


def encode(texts: Sequence[str], encoder: Encoder, question: Question, template: Template | None = None) -> Features:
    """Features (n, d) of texts, from the cache where they are known. A causal model should see the question: with a
    `template` it reads the whole prompt, as `Supervision` describes.

    Raises: WeightsError, TaskError; TrainingError where memory runs out.
    """
    cache = FeatureCache(encoder, encoder.identity.key)
    with training_errors():
        return cache.encode(encoder.render(texts, question, template))
