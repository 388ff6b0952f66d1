"""curator/learning.py: what the confidences rest on."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from curator.annotate import annotate
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.labeling import uniform
from curator.learning import Answers, learn, reference_answers
from curator.store import Audit, ServedQuestion, Store
from curator.task import classify
from curator.types import DecideRequest, Document

pytestmark = pytest.mark.anyio

TASK = classify(["ham", "spam"], "What is it?")
ROWS = 400
SPAM = 40
"""The corpus is skewed: one row in ten is spam."""


def truth(name: str) -> str:
    return "spam" if int(name[1:]) < SPAM else "ham"


def weak(request: DecideRequest) -> dict[str, float]:
    """Knows spam a little better than chance, on top of a strong taste for it."""
    pick = random.Random(request.state)
    score = pick.gauss(0.9 if truth(request.state) == "spam" else 0.6, 0.15)
    return {"spam": min(max(score, 0.02), 0.98), "ham": 1 - min(max(score, 0.02), 0.98)}


async def answered(folder: Path, engine: ScriptedEngine, store: Store | None = None) -> Answers:
    store = store or Store(folder / "s.duckdb")
    documents = [Document(f"d{i}", f"d{i}") for i in range(ROWS)]
    with store.run("annotate", {}) as run:
        store.add_documents([documents], source="t", run_id=run.id)
        await annotate([documents], TASK, engine, run)
    return Answers(TASK, store, engine.identity)


async def test_the_corpus_alone_is_never_called_calibrated(tmp_path):
    report = learn(await answered(tmp_path, ScriptedEngine(decide=weak))).report()["label"]
    assert (report["basis"], report["calibrated"]) == ("batch", False)


async def test_audits_tell_the_prior_and_calibrate(tmp_path):
    answers = await answered(tmp_path, ScriptedEngine(decide=weak))
    checked = random.Random(1).sample(range(ROWS), 100)
    answers.store.add_audits(TASK.id, [Audit(f"d{i}", "label", truth(f"d{i}")) for i in checked])
    report = learn(answers).report()["label"]
    assert (report["basis"], report["calibrated"]) == ("audited(100)", True)
    assert report["prior_method"] == "audited"
    assert report["prior_identified"] is True
    assert 0.02 < report["prior"][1] < 0.25


async def test_too_few_audits_change_nothing(tmp_path):
    answers = await answered(tmp_path, ScriptedEngine(decide=weak))
    answers.store.add_audits(TASK.id, [Audit(f"d{i}", "label", truth(f"d{i}")) for i in range(5)])
    assert learn(answers).report()["label"]["basis"] == "batch"


async def test_the_last_word_of_two_audits_counts(tmp_path):
    answers = await answered(tmp_path, ScriptedEngine(decide=weak))
    for auditor, value in (("first", "spam"), ("second", "ham")):
        answers.store.add_audits(TASK.id, [Audit(f"d{i}", "label", value, auditor) for i in range(100, 160)])
    assert learn(answers).report()["label"]["prior"][1] < 0.1


async def test_a_reference_calibrates_and_its_answers_stay_apart(tmp_path):
    answers = await answered(tmp_path, ScriptedEngine(decide=weak))
    strong = ScriptedEngine(decide=lambda r: truth(r.state), identity=EngineIdentity("scripted", "strong"))
    await answered(tmp_path, strong, answers.store)
    labeler = learn(answers, strong.identity)
    assert labeler.report()["label"]["basis"] == "reference:scripted:strong"
    found = reference_answers(Answers(TASK, answers.store, strong.identity))
    assert {name: value == truth(name) for name, value in found["label"].items()} == {
        f"d{i}": True for i in range(ROWS)
    }
    # The weak engine's own pages hold its answers only.
    assert sum(len(page.ids) for page in answers.pages()) == ROWS


async def test_what_a_cascade_escalated_does_not_make_the_rest_look_hard(tmp_path):
    """The strong tier answered in service where the weak one was wrong; only its uniform sample may calibrate."""
    engine = ScriptedEngine(decide=weak)
    answers = await answered(tmp_path, engine)
    strong = ScriptedEngine(decide=lambda r: truth(r.state), identity=EngineIdentity("scripted", "strong"))
    labeler = learn(answers)
    page = next(iter(answers.pages()))
    tops = labeler.aggregate(page, "label").top
    wrong = {name for name, top in zip(page.ids, tops, strict=True) if ["ham", "spam"][top] != truth(name)}
    drawn = {f"d{i}" for i in range(ROWS) if uniform(f"d{i}") < 0.25}
    assert len(wrong - drawn) > 20
    with answers.store.run("annotate", {}) as run:
        documents = [Document(name, name) for name in sorted(drawn | wrong)]
        await annotate([documents], TASK, strong, run)
    row = ServedQuestion("", "", "label", "f", "p", "strong", None, None, "raw", None, None, None, 0.0, "2026-05-01")
    answers.store.add_traffic([replace(row, request_id=name, document_id=name) for name in sorted(wrong)], "r")

    def confidence(share: float) -> float:
        learned = learn(answers, strong.identity, None, share)
        return float(learned.confidence("label", learned.aggregate(page, "label"))[0].mean())

    right = 1 - len(wrong) / ROWS
    assert confidence(0.25) == pytest.approx(right, abs=0.08)
    assert confidence(1.0) < right - 0.1
