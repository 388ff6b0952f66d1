"""What the corpus itself knows: texts that lie together should be labelled alike.

A linear head per closed field learns the model's most confident labels from the texts' embeddings, and is asked
about texts that it has not seen (cross-fitting). Its answer and the model's own are averaged: what the model says
of one text is corrected by what it says of texts like it. No gold label is seen.

`Denoising` needs the extra `denoise`, and nothing of it is loaded before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curator.aggregate import Aggregated
from curator.confidence import Bools, Floats, Ints, log_normalise
from curator.engines.known import DEFAULT_ENCODER
from curator.errors import ConfigError, MissingExtraError
from curator.requests import shard_of
from curator.types import Json, JsonObject

if TYPE_CHECKING:
    from curator.store import Store

Features = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Features]
"""Document ids (m) -> features (m, d)."""

FEWEST = 5
"""Confident rows of a class below which a head cannot tell it from the others."""

CONFUSED = 5
"""Pairs of classes that the report names."""


@dataclass(frozen=True, slots=True)
class Denoising:
    """How labels are denoised. The defaults were measured on four data sets (docs/methods.md).

    Of each class the `share` of labels with the highest confidence is learned, from the features of `encoder`
    (all that engines.md lists under weights), in `folds` heads of which each document is asked of the one that
    did not see it. `weight` is the head's share in the average of log-probabilities; `strength` the inverse of
    the heads' L2 penalty. Heads are fitted on a uniform sample of about `rows` documents.

    Raises: ConfigError for values outside their range.
    """

    encoder: str = DEFAULT_ENCODER
    share: float = 0.4
    folds: int = 5
    weight: float = 0.5
    strength: float = 1.0
    rows: int = 20_000

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.weight <= 1 and self.strength > 0):
            raise ConfigError(
                f"share is {self.share}, weight {self.weight}, strength {self.strength}",
                hint="share and weight lie in (0, 1], strength is above 0",
            )
        if self.folds < 2 or self.rows < 1:
            raise ConfigError(f"folds is {self.folds}, rows {self.rows}", hint="folds is 2 or more, rows 1 or more")


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of one field: weight (f, k, d), bias (f, k), and `known` (f, k), the classes that each of the f
    folds could learn. `noise` is what they say about the model's labels."""

    weight: Floats
    bias: Floats
    known: Bools
    noise: JsonObject = field(default_factory=dict)

    def probabilities(self, features: Floats, fold: Ints, own: Floats) -> Floats:
        """Each row's distribution (m, k) from the head of its fold (m,). Of a class that the head does not know,
        the model's `own` probability (m, k) is kept."""
        scores = np.einsum("md,mkd->mk", features, self.weight[fold]) + self.bias[fold]
        known = self.known[fold]
        scores = np.where(known, scores, -np.inf)
        kept = np.where(known, 0.0, own)
        shares = np.exp(scores - np.maximum(scores.max(axis=1, keepdims=True), -1e9))
        total = np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
        result: Floats = shares / total * (1 - kept.sum(axis=1, keepdims=True)) + kept
        return result


@dataclass(frozen=True, slots=True)
class Corpus:
    """All fields' heads. `centre` (d,) is the mean of the features."""

    settings: Denoising
    embed: Embed
    centre: Floats
    heads: Mapping[str, Heads]

    def combine(self, name: str, ids: Sequence[str], found: Aggregated) -> Aggregated:
        """The model's answers on field `name`, averaged with what the documents' neighbourhood says. A row that
        the model did not answer stays unanswered."""
        own, heads = found.probabilities, self.heads[name]
        features = _directions(self.embed(ids), self.centre)
        near = heads.probabilities(features, _folds(ids, self.settings.folds), own)
        mixed = (1 - self.settings.weight) * np.log(np.maximum(own, 1e-12))
        mixed += self.settings.weight * np.log(np.maximum(near, 1e-12))
        probabilities = np.exp(log_normalise(mixed))
        differs = ~np.isnan(own[:, 0]) & (near.argmax(axis=1) != own.argmax(axis=1))
        return replace(found, probabilities=probabilities, confidence=probabilities.max(axis=1), contradicted=differs)

    def report(self, name: str) -> JsonObject:
        """What a person should know about one field's denoising."""
        noise: dict[str, Json] = dict(self.heads[name].noise)
        return {"encoder": self.settings.encoder, "share": self.settings.share, **noise}


def fit_corpus(
    answered: Iterable[tuple[Sequence[str], Mapping[str, Floats]]],
    labels: Mapping[str, Sequence[str]],
    embed: Embed,
    settings: Denoising,
) -> Corpus:
    """Learn the heads from pages of (document ids (m), field -> probabilities (m, k)) of a uniform sample; NaN rows
    are unanswered. `labels` names each field's classes.

    Raises: MissingExtraError; what `embed` raises.
    """
    ids: list[str] = []
    parts: dict[str, list[Floats]] = {name: [] for name in labels}
    for names, fields in answered:
        ids += names
        for name, values in fields.items():
            parts[name].append(values)
    features = embed(ids)
    centre = features.mean(axis=0, dtype=np.float64) if len(ids) else np.zeros(features.shape[1])
    points, fold = _directions(features, centre), _folds(ids, settings.folds)
    tables = {name: np.concatenate(found) for name, found in parts.items() if found}
    heads = {name: _fit_heads(points, table, fold, settings, labels[name]) for name, table in tables.items()}
    return Corpus(settings, embed, centre, heads)


def embedder(store: Store, spec: str) -> Embed:
    """The features of the store's documents under an encoder, computed once per text.

    Raises: MissingExtraError, WeightsError
    """
    try:
        from curator.engines.encoder import Encoder
    except ImportError as error:
        raise _missing(error) from error
    from curator.engines.features import FeatureCache

    encoder = Encoder(spec)
    cache = FeatureCache(encoder, encoder.identity.key)

    def embed(ids: Sequence[str]) -> Features:
        texts = store.texts(ids)
        return cache.encode([texts[name] for name in ids])

    return embed


def _fit_heads(points: Floats, table: Floats, fold: Ints, settings: Denoising, labels: Sequence[str]) -> Heads:
    shape = (settings.folds, table.shape[1])
    weight, bias, known = np.zeros((*shape, points.shape[1])), np.zeros(shape), np.zeros(shape, dtype=np.bool_)
    for number in range(settings.folds):
        rows = _confident(table, fold != number, settings.share)
        _fit_fold(points[rows], table[rows].argmax(axis=1), settings, (weight[number], bias[number], known[number]))
    heads = Heads(weight, bias, known)
    return replace(heads, noise=_noise(heads, points, fold, table, labels))


def _fit_fold(points: Floats, tops: Ints, settings: Denoising, head: tuple[Floats, Floats, Bools]) -> None:
    """Fit one head and write it to `head`; nothing is known where fewer than two classes have rows enough."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise _missing(error) from error
    weight, bias, known = head
    counts = np.bincount(tops, minlength=len(known))
    if (counts >= FEWEST).sum() < 2:
        return
    enough = counts[tops] >= FEWEST
    fitted = LogisticRegression(C=settings.strength, max_iter=1000).fit(points[enough], tops[enough])
    classes = fitted.classes_
    known[classes] = True
    # Two classes have one vector, which is for the second.
    weight[classes[-len(fitted.coef_) :]] = fitted.coef_
    bias[classes[-len(fitted.coef_) :]] = fitted.intercept_


def _confident(table: Floats, allowed: Bools, share: float) -> Ints:
    """The rows to learn from: of those `allowed`, the `share` of each class with the highest confidence, and no
    fewer than a head needs where there are so many."""
    answered = np.flatnonzero(allowed & ~np.isnan(table).any(axis=1))
    tops = table[answered].argmax(axis=1)
    chosen = [np.empty(0, dtype=np.int64)]
    for option in np.unique(tops):
        rows = answered[tops == option]
        ranked = rows[np.argsort(-table[rows, option], kind="stable")]
        chosen.append(ranked[: max(FEWEST, round(share * len(rows)))])
    return np.sort(np.concatenate(chosen))


def _noise(heads: Heads, points: Floats, fold: Ints, table: Floats, labels: Sequence[str]) -> JsonObject:
    """How far the labels and their neighbourhoods differ, and how much noise that shows (confident learning,
    Northcutt et al. 2021, arXiv 1911.00068).

    The heads learned from the same model, so what it is wrong about everywhere stays hidden: the noise is a lower
    bound.
    """
    rows = np.flatnonzero(~np.isnan(table).any(axis=1))
    if not len(rows):
        return {"rows": 0}
    own, near = table[rows], heads.probabilities(points[rows], fold[rows], table[rows])
    tops = own.argmax(axis=1)
    found: JsonObject = {"rows": len(rows), "differ": float((near.argmax(axis=1) != tops).mean())}
    present = np.unique(tops)
    if len(present) < 2:
        return found
    from cleanlab.count import estimate_joint

    inside = near[:, present] / near[:, present].sum(axis=1, keepdims=True)
    joint = estimate_joint(np.searchsorted(present, tops), inside)
    names = [labels[option] for option in present]
    off = [(float(joint[i, j]), names[i], names[j]) for i in range(len(names)) for j in range(len(names)) if i != j]
    worst: list[Json] = [
        {"labelled": given, "looks_like": other, "share": share}
        for share, given, other in sorted(off, reverse=True)[:CONFUSED]
        if share > 0
    ]
    return {**found, "noise_at_least": float(1 - np.trace(joint)), "confused": worst}


def _directions(features: Features, centre: Floats) -> Floats:
    """Features seen from the corpus' mean, at length 1: what all its texts have in common tells nothing."""
    points = features.astype(np.float64) - centre
    directions: Floats = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    return directions


def _folds(ids: Sequence[str], folds: int) -> Ints:
    """The fold of each document, by its id alone."""
    return np.fromiter((shard_of(name, folds) for name in ids), dtype=np.int64, count=len(ids))


def _missing(error: ImportError) -> MissingExtraError:
    return MissingExtraError(
        f"denoising labels needs {error.name or error}", hint="pip install 'goldless[denoise]', or leave it off"
    )
