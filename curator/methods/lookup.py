"""What is looked up for a document in one round: the likeliest options, and confident documents near it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from curator.confidence import Floats, Ints, log_normalise
from curator.engines.features import Encodes, FeatureCache
from curator.engines.known import DEFAULT_ENCODER
from curator.errors import InputError, MissingExtraError
from curator.fields import ClosedField
from curator.requests import shard_of
from curator.shortlists import Aid, Shortlist
from curator.task import Output, Task
from curator.types import Demonstration, Document, JsonObject

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How choices among more than `above` options are asked.

    `shortlist` options are shown, or as many as the `examples` have different labels. Examples come from the surest
    half of a class, at most `pool` documents of each, from texts of at most `longest` characters. Similarities of
    the `encoder` (see `curator.engines.weights.resolve`) become probabilities at `temperature`, beside which an
    answer counts with `weight`: more than the default where the model is much better than the encoder.
    `shards` parts of the corpus look things up in the others. Weight and temperature were chosen on banking77 with
    the default encoder and a model of 0.5B; another encoder's similarities may want another temperature.
    """

    shortlist: int = 10
    examples: int = 8
    encoder: str = DEFAULT_ENCODER
    above: int = 20
    weight: float = 0.3
    temperature: float = 0.05
    pool: int = 32
    longest: int = 600
    shards: int = 8

    def __post_init__(self) -> None:
        wrong = {name: value for name, value in asdict(self).items() if name != "encoder" and value <= 0}
        if wrong or self.shortlist < 2 or self.shards < 2 or self.above < self.shortlist:
            raise InputError(
                f"retrieval with {asdict(self)}",
                hint="all numbers are above 0, shortlist and shards 2 or more, above no less than shortlist",
            )

    def large(self, task: Task[Output]) -> tuple[ClosedField, ...]:
        """The fields that it is for. A scale is never cut: its levels only mean something together."""
        return tuple(item for item in task.closed if item.question.kind == "choice" and len(item.values) > self.above)


class Space:
    """A corpus as the encoder sees it: normalised features, block by block, each encoded once.

    `key` names the encoder. Raises: MissingExtraError, WeightsError, ConfigError.
    """

    def __init__(self, encoder: Encodes, key: str) -> None:
        self.key = key
        self._cache = FeatureCache(encoder, key)

    @classmethod
    def of(cls, spec: str) -> Space:
        try:
            from curator.engines.encoder import Encoder
        except ImportError:
            raise MissingExtraError("a shortlist needs an encoder", hint="pip install 'goldless[local]'") from None
        encoder = Encoder(spec)
        return cls(encoder, encoder.identity.key)

    def encode(self, texts: Sequence[str]) -> Features:
        """Unit vectors (n, d)."""
        features = self._cache.encode(texts)
        norms: Features = np.linalg.norm(features, axis=1, keepdims=True)
        unit: Features = features / np.maximum(norms, 1e-12)
        return unit


@dataclass(frozen=True, slots=True)
class Pool:
    """Confident documents of one field: features (p, d), the places of their options (p,), their shards (p,)."""

    features: Features
    options: Ints
    shards: Ints
    texts: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """What was looked up for one field, counted."""

    documents: int = 0
    shown: int = 0
    share: float = 0.0
    neighbours: int = 0
    neighbours_outside: int = 0
    before: int = 0
    before_outside: int = 0

    def report(self) -> JsonObject:
        """`mean_prior_shown` is the probability that the encoder gives to the shown options; the others are how
        often a label was not among the options that the encoder ranks first: those of the nearest examples (they
        are shown all the same), and the document's own of the round before."""
        asked = max(self.documents, 1)
        return {
            "documents": self.documents,
            "mean_options_shown": self.shown / asked,
            "mean_prior_shown": self.share / asked,
            "neighbours_outside": self.neighbours_outside / self.neighbours if self.neighbours else None,
            "labels_before_outside": self.before_outside / self.before if self.before else None,
        }


@dataclass(frozen=True, slots=True)
class FieldMap:
    """One field: per shard what its options look like (shards, k, d), and examples with their features."""

    item: ClosedField
    centres: Features
    pool: Pool
    before: Mapping[str, int]
    tally: Tally = field(default_factory=Tally)

    def look_up(
        self, settings: Retrieval, ids: Sequence[str], features: Features
    ) -> Iterator[tuple[Shortlist, tuple[Demonstration, ...]]]:
        """A shortlist and examples for each of some documents with features (n, d)."""
        shards = np.array([shard_of(name, settings.shards) for name in ids])
        scores = np.zeros((len(ids), len(self.item.values)))
        for shard in np.unique(shards):
            scores[shards == shard] = features[shards == shard] @ self.centres[shard].T
        priors = np.round(log_normalise(scores / settings.temperature), 6)
        nearest = self._nearest(settings.examples, shards, features)
        for name, prior, near in zip(ids, priors, nearest, strict=True):
            labels = self.item.question.labels
            shown = self._shown(settings, name, prior, near)
            examples = tuple(
                Demonstration(self.pool.texts[at], {self.item.name: labels[self.pool.options[at]]}) for at in near
            )
            yield Shortlist(labels, prior, frozenset(labels[at] for at in shown), settings.weight), examples

    def _nearest(self, count: int, shards: Ints, features: Features) -> list[list[int]]:
        """Places in the pool of each document's nearest examples of other shards, the nearest one last."""
        if not self.pool.texts:
            return [[] for _ in shards]
        similar = np.where(shards[:, None] == self.pool.shards[None, :], -np.inf, features @ self.pool.features.T)
        order = np.argsort(-similar, axis=1, kind="stable")[:, :count]
        pairs = zip(order[:, ::-1].tolist(), similar, strict=True)
        return [[at for at in row if scores[at] > -np.inf] for row, scores in pairs]

    def _shown(self, settings: Retrieval, name: str, prior: Floats, near: Sequence[int]) -> list[int]:
        """The options to show: the examples' own, then the likeliest ones."""
        ranked = np.argsort(-prior, kind="stable").tolist()
        first = set(ranked[: settings.shortlist])
        examples = [int(self.pool.options[at]) for at in reversed(near)]
        shown = list(dict.fromkeys([*examples, *ranked]))[: max(settings.shortlist, len(set(examples)))]
        self._count(name, prior, first, examples, shown)
        return shown

    def _count(self, name: str, prior: Floats, first: set[int], examples: list[int], shown: list[int]) -> None:
        self.tally.documents += 1
        self.tally.shown += len(shown)
        self.tally.share += float(np.exp(prior[shown]).sum())
        self.tally.neighbours += len(examples)
        self.tally.neighbours_outside += sum(option not in first for option in examples)
        if (option := self.before.get(name)) is not None:
            self.tally.before += 1
            self.tally.before_outside += option not in shown


@dataclass(frozen=True, slots=True)
class LookUp:
    """The `Retriever` of one round."""

    settings: Retrieval
    space: Space
    maps: tuple[FieldMap, ...]
    key: str

    def look_up(self, documents: Sequence[Document]) -> list[Aid]:
        """One aid per document."""
        features = self.space.encode([document.text for document in documents])
        ids = [document.id for document in documents]
        columns = [list(one.look_up(self.settings, ids, features)) for one in self.maps]
        return [
            Aid(
                {one.item.name: shortlist for one, (shortlist, _) in zip(self.maps, row, strict=True)},
                tuple(example for _, examples in row for example in examples),
            )
            for row in zip(*columns, strict=True)
        ]

    def report(self) -> JsonObject:
        """Field -> what was looked up."""
        return {
            one.item.name: {
                **one.tally.report(),
                "examples": len(one.pool.texts),
                "classes_without_examples": len(one.item.values) - len(set(one.pool.options.tolist())),
            }
            for one in self.maps
        }
