"""Large label sets: per document a shortlist of labels and the nearest confident documents as examples.

A small text encoder says which labels a document resembles: at first by the labels' own words, later also by the
documents that are confidently labelled so. The model is asked with these labels only, after the confident documents
that are nearest (Liu et al. 2024, arXiv 2409.12425, for extreme label sets; nearest examples as in Liu et al. 2021,
arXiv 2101.06804). What is looked up for a document comes from the other shards of the corpus.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil

import numpy as np
import orjson

from curator.errors import InputError
from curator.fields import ClosedField
from curator.learning import Answers
from curator.methods.guesses import Found, Guesses
from curator.methods.lookup import Features, FieldMap, LookUp, Pool, Retrieval, Space
from curator.requests import shard_of
from curator.shortlists import BLOCK
from curator.task import Output, Task

logger = logging.getLogger(__name__)

_Row = tuple[Features, int, int, str]


def suited(wanted: Retrieval | str | None, task: Task[Output]) -> Retrieval | None:
    """The retrieval that a task is asked with; `"auto"` is the default one where a label set is large and an
    encoder can be run.

    Raises: InputError if no label set is large enough for the one that was asked for.
    """
    if isinstance(wanted, Retrieval):
        if not wanted.large(task):
            raise InputError(f"no choice has more than {wanted.above} options", hint="lower `above`, or do without")
        return wanted
    large = Retrieval().large(task) if wanted == "auto" else ()
    if large and any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        names = ", ".join(item.name for item in large)
        logger.warning("%s: all options are shown at once; pip install 'goldless[local]' for a shortlist", names)
        return None
    return Retrieval() if large else None


@dataclass(frozen=True, slots=True)
class Guide:
    """Makes what each round looks up, over the first `limit` documents."""

    settings: Retrieval
    space: Space
    limit: int | None = None

    def look_up(self, answers: Answers[Output], found: Found | None) -> LookUp:
        """From the guesses of the round before; by the labels' words alone before any.

        Raises: InputError if there are guesses and none can be shown; GoldlessError from the encoder.
        """
        settings, large = self.settings, self.settings.large(answers.task)
        chosen = {item.name: _surest(settings, found.closed[item.name]) if found else {} for item in large}
        pools = self._pools(answers, chosen)
        if found and not all(pool.texts for pool in pools.values()):
            raise InputError(
                f"no labelled text of at most {settings.longest} characters can be shown as an example",
                hint="raise the longest example, or label more documents",
            )
        maps = []
        for item in large:
            before = found.closed[item.name].labels() if found else {}
            centres = _centres(self.space.encode(_words(item)), pools[item.name], settings.shards)
            maps.append(FieldMap(item, centres, pools[item.name], before))
        decides = [asdict(settings), self.space.key, [sorted(one.items()) for one in chosen.values()]]
        key = hashlib.blake2b(orjson.dumps(decides), digest_size=16).hexdigest()
        return LookUp(settings, self.space, tuple(maps), key)

    def _pools(self, answers: Answers[Output], chosen: Mapping[str, Mapping[str, int]]) -> dict[str, Pool]:
        """Field -> pool. Reads the corpus once, and keeps the features of what was chosen only."""
        rows: dict[str, list[_Row]] = {name: [] for name in chosen}
        kept = answers.store.documents(kept_by=answers.kept_by, limit=self.limit) if any(chosen.values()) else ()
        for block in (page[start : start + BLOCK] for page in kept for start in range(0, len(page), BLOCK)):
            features = self.space.encode([document.text for document in block])
            for vector, document in zip(features, block, strict=True):
                for name, options in chosen.items():
                    if document.id in options and len(document.text) <= self.settings.longest:
                        shard = shard_of(document.id, self.settings.shards)
                        rows[name].append((vector.copy(), options[document.id], shard, document.text))
        return {name: _pool(found) for name, found in rows.items()}


def _words(item: ClosedField) -> list[str]:
    """What each option is called and means."""
    return [
        ": ".join(part for part in (option.label.replace("_", " "), option.description) if part)
        for option in item.question.options
    ]


def _surest(settings: Retrieval, found: Guesses[int]) -> dict[str, int]:
    """Document -> option, for the surest half of every class, at most `pool` of each."""
    ranked: dict[int, list[str]] = defaultdict(list)
    for row in np.argsort(-np.asarray(found.confidence), kind="stable"):
        ranked[found.tops[row]].append(found.ids[row])
    return {
        name: option for option, names in ranked.items() for name in names[: min(settings.pool, ceil(len(names) / 2))]
    }


def _pool(rows: Sequence[_Row]) -> Pool:
    if not rows:
        return Pool(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    vectors, options, shards, texts = zip(*rows, strict=True)
    return Pool(np.stack(vectors), np.array(options), np.array(shards), texts)


def _centres(words: Features, pool: Pool, shards: int) -> Features:
    """Per shard and option (shards, k, d): halfway between its words and the mean of its documents elsewhere."""
    centres = np.repeat(words[None], shards, axis=0)
    for shard in range(shards):
        for option in np.unique(pool.options[pool.shards != shard]):
            documents = pool.features[(pool.shards != shard) & (pool.options == option)]
            centres[shard, option] = _unit(words[option] + _unit(documents.mean(axis=0)))
    return centres


def _unit(vector: Features) -> Features:
    result: Features = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return result
