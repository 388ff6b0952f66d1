"""curator/probes.py and the class prior that follows: what a model says of nothing tells its bias from the classes."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from curator.engines.scripted import ScriptedEngine
from curator.errors import ConfigError
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Plan, curate
from curator.prior import prior_from_probes
from curator.probes import PREFIX, make_probes
from curator.screening import Screening
from curator.store import Store
from curator.task import classify
from curator.types import DecideRequest, Document

PLAN = Plan(screening=Screening(exact=False, near=None))
TASK = classify(["bad", "good"], "Is the film good?")


def biased(prior, bias, *, rows=2000, probes=64, strength=1.6, seed=0):
    """Log-probabilities of a model with a bias, on rows of these classes and on probes; and the classes."""
    chance = np.random.default_rng(seed)
    gold = chance.choice(len(prior), rows, p=prior)
    evidence = strength * np.eye(len(prior))[gold] + chance.normal(0, 1, (rows, len(prior)))
    nothing = chance.normal(0, 0.3, (probes, len(prior)))

    def answers(scores):
        values = scores + np.asarray(bias)
        return (values - np.log(np.exp(values).sum(axis=1, keepdims=True)))[:, None, :]

    return answers(evidence), answers(nothing), gold


@pytest.mark.parametrize("prior", [[0.85, 0.15], [0.1, 0.3, 0.6], [0.02, 0.2, 0.28, 0.25, 0.25]])
@pytest.mark.parametrize("seed", range(3))
def test_the_prior_comes_nearer_than_equal_classes(prior, seed):
    bias = np.random.default_rng(seed).normal(0, 2, len(prior))
    rows, empty, _ = biased(prior, bias, seed=seed)
    found = prior_from_probes(rows, empty)
    off = np.abs(np.full(len(prior), 1 / len(prior)) - prior).sum()
    assert np.abs(found.prior - prior).sum() < 0.6 * off
    assert found.prior.sum() == pytest.approx(1)
    assert (found.method, found.identified) == ("probes", False)


def test_equal_classes_stay_about_equal():
    rows, empty, _ = biased([0.25] * 4, [3.0, 0, 0, -2.0])
    assert prior_from_probes(rows, empty).prior == pytest.approx([0.25] * 4, abs=0.08)


def test_views_without_probes_are_left_out():
    rows, empty, _ = biased([0.8, 0.2], [1.0, -1.0])
    alone = prior_from_probes(rows, empty)
    two = prior_from_probes(
        np.concatenate([rows, rows], axis=1), np.concatenate([empty, np.full_like(empty, np.nan)], axis=1)
    )
    np.testing.assert_allclose(two.prior, alone.prior)
    nothing = prior_from_probes(rows, np.full_like(empty, np.nan))
    assert (nothing.prior.tolist(), nothing.method) == ([0.5, 0.5], "uniform")


def test_the_interval_spans_the_views():
    rows, empty, _ = biased([0.8, 0.2], [1.0, -1.0])
    other, blank, _ = biased([0.7, 0.3], [1.0, -1.0], seed=1)
    found = prior_from_probes(np.concatenate([rows, other], axis=1), np.concatenate([empty, blank], axis=1))
    low, high = found.interval
    assert (low < found.prior).all()
    assert (found.prior < high).all()


def critic(request: DecideRequest) -> dict[str, float]:
    """Reads "is good" and "is bad", with noise, and leans to bad by two nats whatever the text says."""
    noise = random.Random(request.state).gauss(0, 0.9)
    evidence = 1.0 * (("is good" in request.state) - ("is bad" in request.state))
    odds = math.exp(-2.0 + evidence + noise)
    return {"good": odds / (1 + odds), "bad": 1 / (1 + odds)}


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "store.duckdb")
    texts = [f"we say that this film is {'bad' if i % 6 == 0 else 'good'} and long {i}" for i in range(600)]
    with found.run("test", {}) as run:
        found.add_documents([[Document(f"d{i}", text) for i, text in enumerate(texts)]], source="test", run_id=run.id)
    return found


def right(result) -> float:
    rows = list(result.rows())
    return sum(f"is {row.output.label}" in row.document.text for row in rows) / len(rows)


def test_probes_are_the_corpus_words_without_its_sentences(store):
    probes = make_probes(store, None, 20)
    assert probes == make_probes(store, None, 40)[:20]
    assert all(probe.id.startswith(PREFIX) for probe in probes)
    words = {word for page in store.documents() for document in page for word in document.text.split()}
    assert {word for probe in probes for word in probe.text.split()} <= words
    assert sum("this film is" in probe.text for probe in probes) < 3


def test_a_store_without_words_has_no_probes(tmp_path):
    assert make_probes(Store(tmp_path / "empty.duckdb"), None, 8) == []


@pytest.mark.anyio
async def test_curate_estimates_the_prior(store):
    plain = await curate(TASK, ScriptedEngine(decide=critic), store, plan=PLAN)
    engine = ScriptedEngine(decide=critic)
    probed = await curate(TASK, engine, store, plan=Plan(screening=PLAN.screening, probes=64))
    assert len(engine.requests) <= 64
    assert plain.report["fields"]["label"]["prior"] == [0.5, 0.5]
    found = probed.report["fields"]["label"]
    assert found["prior_method"] == "probes"
    assert 0.6 < found["prior"][1] < 0.9
    assert right(probed) > right(plain) + 0.05
    # Probes are no documents: they are counted and labelled nowhere.
    assert store.count() == len(list(probed.rows())) == 600
    assert probed.report["annotation"]["requests"] == 600
    again = ScriptedEngine(decide=critic)
    await curate(TASK, again, store, plan=Plan(screening=PLAN.screening, probes=64))
    assert again.requests == []


@pytest.mark.anyio
async def test_shares_that_somebody_knows_spare_the_probes_work(store):
    known = {"label": {"bad": 1 / 6}}
    plan = Plan(screening=PLAN.screening, shares=known, probes=64)
    told = await curate(TASK, ScriptedEngine(decide=critic), store, plan=plan)
    found = told.report["fields"]["label"]
    assert found["prior_method"] == "given"
    assert dict(zip(("bad", "good"), found["prior"], strict=True)) == pytest.approx({"bad": 1 / 6, "good": 5 / 6})
    assert right(told) > 0.75
    rounds = await improve(TASK, ScriptedEngine(decide=critic), store, plan=plan, rounds=Rounds(1, churn=0.0))
    assert rounds.report["fields"]["label"]["prior_method"] == "given"


@pytest.mark.anyio
async def test_shares_of_no_field_are_refused(store):
    with pytest.raises(ConfigError, match="shares of classes of mood"):
        await curate(TASK, ScriptedEngine(decide=critic), store, plan=Plan(shares={"mood": {"bad": 0.1}}))


@pytest.mark.anyio
async def test_rounds_keep_the_prior_that_was_found_without_examples(store):
    plan = Plan(screening=PLAN.screening, probes=32)
    engine = ScriptedEngine(decide=critic)
    result = await improve(TASK, engine, store, plan=plan, rounds=Rounds(2, churn=0.0))
    texts = {probe.text for probe in make_probes(store, plan.screening.key, 32)}
    asked = [request for request in engine.requests if request.state in texts]
    assert 16 <= len(asked) <= 32
    assert not any(request.demonstrations for request in asked)
    found = result.report["fields"]["label"]
    assert found["rounds_averaged"] >= 2
    assert found["prior_method"] == "probes"
    assert found["prior"][1] > 0.6


@pytest.mark.anyio
async def test_a_start_with_random_labels_has_nothing_to_probe(store):
    plan = Plan(screening=PLAN.screening, probes=32)
    engine = ScriptedEngine(decide=critic)
    result = await improve(TASK, engine, store, plan=plan, rounds=Rounds(1, start="random"))
    assert len(engine.requests) == 600
    assert result.report["fields"]["label"]["prior_method"] != "probes"
