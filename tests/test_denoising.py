"""curator/denoising.py: neighbours correct a label, no row confirms itself, and nothing is made up."""

from __future__ import annotations

import builtins
import random
from dataclasses import replace

import numpy as np
import pytest

from curator.aggregate import Aggregated
from curator.denoising import Denoising, Heads, fit_corpus
from curator.engines.scripted import ScriptedEngine
from curator.errors import ConfigError, MissingExtraError
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Plan, curate
from curator.screening import Screening
from curator.store import Store
from curator.task import classify
from curator.types import DecideRequest, Document

LABELS = ("x", "y", "z")
ROWS = 600


@pytest.fixture(scope="module")
def world():
    """Three clouds of texts and a model that is right on 65% of them, and surer where it is right."""
    chance = np.random.default_rng(0)
    gold = chance.integers(0, 3, ROWS)
    features = (np.eye(3, 8)[gold] * 2.5 + chance.normal(size=(ROWS, 8)) + 5).astype(np.float32)
    right = chance.random(ROWS) < 0.65
    tops = np.where(right, gold, (gold + chance.integers(1, 3, ROWS)) % 3)
    sure = np.where(right, 0.5, 0.4) + 0.45 * chance.random(ROWS)
    table = np.full((ROWS, 3), 0.0) + ((1 - sure) / 2)[:, None]
    table[np.arange(ROWS), tops] = sure
    return [f"d{i}" for i in range(ROWS)], features, table, gold


def embedding(ids, features):
    places = {name: place for place, name in enumerate(ids)}
    return lambda names: features[[places[name] for name in names]].reshape(len(names), features.shape[1])


def fitted(world, table=None, settings=None, labels=LABELS):
    ids, features, own, _ = world
    answered = [(ids, {"label": own if table is None else table})]
    return fit_corpus(answered, {"label": labels}, embedding(ids, features), settings or Denoising())


def answers(table):
    return Aggregated(table, table.max(axis=1), np.ones(len(table)), np.zeros(len(table)))


def test_neighbours_correct_labels(world):
    ids, _, table, gold = world
    mixed = fitted(world).combine("label", ids, answers(table))
    before, after = (table.argmax(axis=1) == gold).mean(), (mixed.probabilities.argmax(axis=1) == gold).mean()
    assert after > before + 0.1
    np.testing.assert_allclose(mixed.probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(mixed.confidence, mixed.probabilities.max(axis=1))
    wrong = table.argmax(axis=1) != gold
    assert wrong[mixed.contradicted].mean() > 2 * wrong[~mixed.contradicted].mean()


def test_no_row_confirms_itself(world):
    ids, _, table, _ = world
    turned = table.copy()
    turned[7] = np.roll(turned[7], 1)
    own = answers(table)
    before = fitted(world).combine("label", ids, own).probabilities[7]
    np.testing.assert_array_equal(fitted(world, turned).combine("label", ids, own).probabilities[7], before)


def test_the_order_and_company_of_rows_do_not_matter(world):
    ids, _, table, _ = world
    corpus = fitted(world)
    whole = corpus.combine("label", ids, answers(table)).probabilities
    part = corpus.combine("label", ids[9:4:-1], answers(table[9:4:-1])).probabilities
    np.testing.assert_array_equal(part, whole[9:4:-1])


def test_unanswered_rows_stay_unanswered(world):
    ids, _, table, _ = world
    holes = table.copy()
    holes[:50] = np.nan
    mixed = fitted(world, holes).combine("label", ids, answers(holes))
    assert np.isnan(mixed.probabilities[:50]).all()
    assert np.isnan(mixed.confidence[:50]).all()
    assert not mixed.contradicted[:50].any()
    assert not np.isnan(mixed.probabilities[50:]).any()


def test_a_class_that_no_head_could_learn_keeps_its_probability(world):
    ids, _, table, _ = world
    wide = np.concatenate([table * 0.9, np.full((ROWS, 1), 0.1)], axis=1)
    corpus = fitted(world, wide, Denoising(weight=1.0), (*LABELS, "rare"))
    assert not corpus.heads["label"].known[:, 3].any()
    np.testing.assert_allclose(corpus.combine("label", ids, answers(wide)).probabilities[:, 3], 0.1)


def test_one_class_leaves_the_labels_as_they_are(world):
    ids, _, _, _ = world
    same = np.tile([0.8, 0.1, 0.1], (ROWS, 1))
    corpus = fitted(world, same)
    np.testing.assert_allclose(corpus.combine("label", ids, answers(same)).probabilities, same)
    assert corpus.report("label")["differ"] == 0


def test_two_classes(world):
    ids, features, _, gold = world
    two = gold < 2
    table = np.where((gold[two] == 1)[:, None], [0.3, 0.7], [0.7, 0.3])
    names = [name for name, on in zip(ids, two, strict=True) if on]
    embed = embedding(names, features[two])
    corpus = fit_corpus([(names, {"label": table})], {"label": LABELS[:2]}, embed, Denoising())
    mixed = corpus.combine("label", names, answers(table))
    assert (mixed.probabilities.argmax(axis=1) == gold[two]).mean() > 0.95
    assert mixed.confidence.mean() > 0.7


def test_no_answers_at_all(world):
    ids, _, table, _ = world
    nothing = np.full_like(table, np.nan)
    corpus = fitted(world, nothing)
    assert corpus.report("label")["rows"] == 0
    assert np.isnan(corpus.combine("label", ids, answers(nothing)).probabilities).all()


def test_the_noise_that_is_reported_is_there(world):
    _, _, table, gold = world
    report = fitted(world).report("label")
    noise = float((table.argmax(axis=1) != gold).mean())
    assert 0.5 * noise < report["noise_at_least"] < noise + 0.03
    shares = [pair["share"] for pair in report["confused"]]
    assert shares == sorted(shares, reverse=True)
    assert {pair["labelled"] for pair in report["confused"]} <= set(LABELS)


def test_heads_without_known_classes_say_what_the_model_says():
    heads = Heads(np.zeros((2, 2, 3)), np.zeros((2, 2)), np.zeros((2, 2), dtype=bool))
    own = np.array([[0.3, 0.7]])
    np.testing.assert_allclose(heads.probabilities(np.ones((1, 3)), np.array([1]), own), own)


@pytest.mark.parametrize("bad", [{"share": 0}, {"share": 1.1}, {"weight": 0}, {"folds": 1}, {"strength": 0}])
def test_settings_out_of_range(bad):
    with pytest.raises(ConfigError):
        Denoising(**bad)


def test_the_missing_extra_is_named(world, monkeypatch):
    load = builtins.__import__

    def without(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError("No module named 'sklearn'", name="sklearn")
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match="sklearn") as caught:
        fitted(world)
    assert "goldless[denoise]" in caught.value.hint


def sorter(request: DecideRequest) -> dict[str, float]:
    """Right on 75% of the texts."""
    good = "good" in request.state
    right = random.Random(request.state).random() < 0.75
    return {"good": 0.6, "bad": 0.4} if good == right else {"good": 0.4, "bad": 0.6}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path / "cache"))
    found = Store(tmp_path / "store.duckdb")
    words = ("good great fine good", "bad dull poor bad")
    documents = [Document(f"d{i}", f"{words[i % 2]} film {i}") for i in range(200)]
    with found.run("test", {}) as run:
        found.add_documents([documents], source="test", run_id=run.id)
    return found


def share_right(result) -> float:
    rows = list(result.rows())
    return sum(row.output.label == ("good" if "good" in row.document.text else "bad") for row in rows) / len(rows)


@pytest.mark.anyio
async def test_curate_denoises_labels(store, tiny_encoder):
    task = classify(["good", "bad"], "Is the film good?")
    screening = Screening(exact=False, near=None)
    plain = await curate(task, ScriptedEngine(decide=sorter), store, plan=Plan(screening=screening))
    plan = Plan(screening=screening, denoising=Denoising(str(tiny_encoder)))
    denoised = await curate(task, ScriptedEngine(decide=sorter), store, plan=plan)
    assert denoised.progress.sent == 0
    assert share_right(denoised) > share_right(plain) + 0.1
    fields = denoised.report["fields"]["label"]
    assert fields["basis"] == "corpus"
    assert fields["denoised"]["encoder"] == str(tiny_encoder)
    assert fields["denoised"]["differ"] > 0.1
    flags = [flag for row in denoised.rows() for flag in row.fields["label"]["flags"]]
    assert flags.count("neighbours_differ") == round(fields["denoised"]["differ"] * 200)
    assert not any("neighbours_differ" in row.fields["label"]["flags"] for row in plain.rows())
    assert denoised.report["plan"]["denoising"]["share"] == 0.4


@pytest.mark.anyio
async def test_improve_denoises_the_last_labels(store, tiny_encoder):
    plan = Plan(screening=Screening(exact=False, near=None))
    task, rounds = classify(["good", "bad"], "Is the film good?"), Rounds(2, churn=0.0)
    plain = await improve(task, ScriptedEngine(decide=sorter), store, plan=plan, rounds=rounds)
    plan = replace(plan, denoising=Denoising(str(tiny_encoder)))
    denoised = await improve(task, ScriptedEngine(decide=sorter), store, plan=plan, rounds=rounds)
    assert denoised.progress.sent == 0
    assert denoised.report["rounds"][-1]["examples"] == plain.report["rounds"][-1]["examples"]
    assert share_right(denoised) > share_right(plain) + 0.1
    assert denoised.report["fields"]["label"]["basis"] == "corpus"
