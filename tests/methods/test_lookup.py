"""curator/methods/lookup.py: shortlists and nearest examples, on vectors made by hand and on a real encoder."""

from __future__ import annotations

import math

import numpy as np
import pytest

from curator.engines.features import FeatureCache
from curator.engines.scripted import ScriptedEngine
from curator.learning import Answers
from curator.methods.lookup import FieldMap, Pool, Retrieval, Space
from curator.methods.retrieval import Guide
from curator.requests import shard_of
from curator.store import Store
from curator.task import classify
from curator.types import Document

LABELS = ("north", "east", "south", "west")
TASK = classify(LABELS, "Where?")
(ITEM,) = TASK.closed
WORDS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]], dtype=np.float32)
SETTINGS = Retrieval(shortlist=2, examples=2, above=3, temperature=1.0, shards=2)
IDS = [next(f"d{n}" for n in range(99) if shard_of(f"d{n}", 2) == shard) for shard in (0, 1)]


def unit(degrees: float) -> list[float]:
    """Degrees from north, clockwise."""
    return [math.sin(math.radians(degrees)), math.cos(math.radians(degrees))]


def pool(*found: tuple[float, int, int]) -> Pool:
    """(degrees, option, shard) of each example."""
    degrees, options, shards = zip(*found, strict=True)
    texts = tuple(f"at {one:g}" for one in degrees)
    return Pool(np.array([unit(one) for one in degrees], dtype=np.float32), np.array(options), np.array(shards), texts)


def field_map(examples: Pool, before: dict[str, int] | None = None) -> FieldMap:
    return FieldMap(ITEM, np.repeat(WORDS[None], 2, axis=0), examples, before or {})


def looked_up(one: FieldMap, degrees: float, shard: int = 0):
    features = np.array([unit(degrees)], dtype=np.float32)
    ((shortlist, examples),) = one.look_up(SETTINGS, [IDS[shard]], features)
    return shortlist, [example.state for example in examples]


NOTHING = Pool(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))


def test_the_options_that_a_document_resembles_are_shown():
    shortlist, examples = looked_up(field_map(NOTHING), 30)
    assert shortlist.shown == {"north", "east"}
    assert examples == []
    scores = np.exp([unit(30)[1], unit(30)[0], -unit(30)[1], -unit(30)[0]])
    assert np.exp(shortlist.prior) == pytest.approx(scores / scores.sum(), abs=1e-5)


def test_examples_come_from_the_other_shard_and_the_nearest_is_last():
    examples = pool((30, 0, 0), (50, 1, 1), (10, 0, 1), (200, 2, 1))
    assert looked_up(field_map(examples), 31)[1] == ["at 10", "at 50"]
    assert looked_up(field_map(examples), 31, shard=1)[1] == ["at 30"]


def test_an_examples_label_is_shown_however_unlikely_it_is_and_counted():
    one = field_map(pool((28, 2, 1), (33, 3, 1)), before={IDS[0]: 0})
    assert looked_up(one, 30)[0].shown == {"south", "west"}
    report = one.tally.report()
    assert (report["documents"], report["mean_options_shown"]) == (1, 2)
    assert (report["neighbours_outside"], report["labels_before_outside"]) == (1.0, 1.0)
    assert 0 < report["mean_prior_shown"] < 0.5


def test_features_are_unit_vectors_and_cached_as_the_encoder_gave_them(tmp_path, monkeypatch):
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path))

    class Lengths:
        def encode(self, texts):
            return np.array([[len(text), 0.0] for text in texts], dtype=np.float32)

    space = Space(Lengths(), "lengths")
    assert space.encode(["ab", "abcd", ""]).tolist() == [[1, 0], [1, 0], [0, 0]]
    # One cache for all users of an encoder: what one of them encoded, scaled or not, is not encoded again.
    assert len(list((tmp_path / "features" / "lengths").iterdir())) == 1
    assert FeatureCache(Lengths(), "lengths").encode(["abcd"]).tolist() == [[4, 0]]
    assert len(list((tmp_path / "features" / "lengths").iterdir())) == 1


@pytest.mark.engine
def test_a_real_encoder_shows_what_a_text_is_about(tmp_path):
    labels = ["card_swallowed", "top_up_failed", "exchange_rate", "change_pin", "age_limit", "lost_or_stolen_phone"]
    task = classify(labels, "What does the customer want?")
    texts = {
        "The machine ate my card and did not give it back": "card_swallowed",
        "How old do I have to be?": "age_limit",
        "Somebody took my mobile": "lost_or_stolen_phone",
    }
    settings = Retrieval(shortlist=2, above=5)
    guide = Guide(settings, Space.of(settings.encoder))
    answers = Answers(task, Store(tmp_path / "empty.duckdb"), ScriptedEngine(decide="a").identity)
    aids = guide.look_up(answers, None).look_up([Document(str(i), text) for i, text in enumerate(texts)])
    for aid, right in zip(aids, texts.values(), strict=True):
        assert labels[int(np.argmax(aid.shortlists["label"].prior))] == right
        assert right in aid.shortlists["label"].shown
