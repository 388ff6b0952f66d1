"""curator/methods/retrieval.py, lookup.py: large label sets in rounds, on a scripted engine and an encoder of words."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
from pydantic import BaseModel

from curator.annotate import Progress
from curator.engines.scripted import ScriptedEngine
from curator.errors import InputError
from curator.learning import Answers
from curator.methods import guesses, lookup, retrieval
from curator.methods.lookup import Retrieval, Space
from curator.methods.retrieval import suited
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Plan
from curator.requests import Prompting, shard_of
from curator.screening import Screening
from curator.store import Store
from curator.task import Task, classify
from curator.types import DecideRequest, Document

pytestmark = pytest.mark.anyio

KINDS = [f"kind_{number:02d}" for number in range(24)]
TASK = classify(KINDS, "What is it about?")
PLAN = Plan(screening=Screening(exact=False, near=None))
ROUNDS = Rounds(rounds=2)


def text_of(number: int) -> str:
    """Most texts name their kind, every third only by a word that the others of the kind hold too."""
    kind = number % len(KINDS)
    name = "" if number // len(KINDS) % 3 == 0 else f"{kind:02d}"
    return f"d{number} {name} alias{kind}"


TEXTS = {f"d{number}": text_of(number) for number in range(9 * len(KINDS))}
TRUTH = {name: KINDS[int(name[1:]) % len(KINDS)] for name in TEXTS}


class Words:
    """Texts are sums of their words' random directions."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        words = [[one for one in text.split() if not one.startswith("d")] for text in texts]
        return np.array([np.sum([self.direction(one) for one in row], axis=0) for row in words], dtype=np.float32)

    def direction(self, word: str) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(word.encode())).normal(size=64)


def model(request: DecideRequest) -> dict[str, float]:
    """Knows a kind by its number; else takes the label of an example with the same last word, if one is shown."""
    _, *words = request.state.split()
    labels = request.questions[0].labels
    named = [f"kind_{words[0]}"] if len(words) == 2 else []
    near = (one for one in request.demonstrations if one.state.split()[-1] == words[-1])
    shown = [one.answers["label"] for one in near if "label" in one.answers]
    answer = next((label for label in (*named, *reversed(shown)) if label in labels), labels[0])
    sure = 0.9 if named or shown else 0.2
    return {label: sure if label == answer else (1 - sure) / (len(labels) - 1) for label in labels}


@pytest.fixture(autouse=True)
def words(tmp_path, monkeypatch):
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Space, "of", classmethod(lambda cls, spec: cls(Words(), spec)))


@pytest.fixture
def store(tmp_path):
    return filled(Store(tmp_path / "store.duckdb"))


def filled(store: Store) -> Store:
    with store.run("test", {}) as run:
        store.add_documents([[Document(name, text) for name, text in TEXTS.items()]], source="test", run_id=run.id)
    return store


def accuracy(result) -> float:
    rows = list(result.rows())
    return sum(TRUTH[row.document.id] == row.output.label for row in rows) / len(TRUTH)


async def test_near_confident_documents_teach_what_the_labels_words_do_not_say(store):
    result = await improve(TASK, ScriptedEngine(decide=model), store, plan=PLAN, rounds=ROUNDS)
    assert accuracy(result) > 0.95
    assert result.report["rounds"][1]["churn"] > 0.15
    first, second, *_ = (row["retrieval"]["label"] for row in result.report["rounds"])
    assert first["neighbours_outside"] is first["labels_before_outside"] is None
    assert (first["examples"], first["classes_without_examples"]) == (0, 24)
    assert (second["documents"], second["mean_options_shown"]) == (len(TEXTS), 10)
    assert 0 < second["mean_prior_shown"] < 1
    assert second["classes_without_examples"] < 12
    asked_whole = ScriptedEngine(decide=model)
    alone = await improve(TASK, asked_whole, store, plan=PLAN, rounds=Rounds(1, retrieval=None))
    assert "retrieval" not in alone.report["rounds"][0]
    assert {len(request.questions[0].options) for request in asked_whole.requests} == {24}


async def test_what_is_shown_comes_from_the_other_shards_nearest_last(store):
    engine = ScriptedEngine(decide=model)
    await improve(TASK, engine, store, plan=PLAN, rounds=Rounds(1))
    taught = [request for request in engine.requests if request.demonstrations]
    assert len(taught) == len(TEXTS)
    encoder, settings = Words(), Retrieval()
    for request in taught:
        labels, name = request.questions[0].labels, request.state.split()[0]
        assert list(labels) == sorted(labels)
        assert {one.answers["label"] for one in request.demonstrations} <= set(labels)
        assert len(request.demonstrations) == settings.examples
        shards = [shard_of(one.state.split()[0], settings.shards) for one in request.demonstrations]
        assert shard_of(name, settings.shards) not in shards
        vectors = encoder.encode([request.state, *(one.state for one in request.demonstrations)])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        similar = vectors[1:] @ vectors[0]
        assert (np.diff(similar) > -1e-6).all()


async def test_every_answer_in_the_store_is_about_all_options(store):
    engine = ScriptedEngine(decide=model)
    await improve(TASK, engine, store, plan=PLAN, rounds=Rounds(1))
    assert {len(request.questions[0].options) for request in engine.requests} == {10}
    with store._database.reading() as connection:
        rows = connection.execute("SELECT logprobs FROM completions").fetchall()
    table = np.exp([row[0][0] for row in rows])
    assert table.shape == (len(engine.requests), len(KINDS))
    assert table.sum(axis=1) == pytest.approx(np.ones(len(table)), abs=1e-4)


async def test_an_option_that_was_not_shown_can_still_be_the_label(store):
    def refusing(request: DecideRequest) -> dict[str, float]:
        return dict.fromkeys(request.questions[0].labels, 0.5)

    rounds = Rounds(1, retrieval=Retrieval(shortlist=2, examples=1, temperature=5.0))
    result = await improve(TASK, ScriptedEngine(decide=refusing), store, plan=PLAN, rounds=rounds)
    found = result.report["rounds"][1]["retrieval"]["label"]
    assert found["labels_before_outside"] > 0
    assert found["mean_prior_shown"] < 0.2


async def test_a_kill_in_the_middle_of_a_round_asks_nothing_twice(store):
    sent: list[str] = []

    def failing(request: DecideRequest) -> dict[str, float]:
        if len(sent) == 300:
            raise InputError("stop here")
        sent.append(repr(request))
        return model(request)

    with pytest.raises(InputError, match="stop here"):
        await improve(TASK, ScriptedEngine(decide=failing), store, plan=PLAN, rounds=Rounds(1))
    engine, counts = ScriptedEngine(decide=model), Progress()
    result = await improve(TASK, engine, store, plan=PLAN, rounds=Rounds(1), progress=counts)
    assert not {repr(request) for request in engine.requests} & set(sent)
    assert len(sent) + len(engine.requests) == 2 * len(TEXTS)
    again = Progress()
    same = await improve(TASK, engine, store, plan=PLAN, rounds=Rounds(1), progress=again)
    assert (again.sent, same.version.hash) == (0, result.version.hash)


async def test_a_killed_run_ends_as_one_that_was_not(store, tmp_path):
    faults = {150: InputError("stop here")}
    with pytest.raises(InputError):
        await improve(TASK, ScriptedEngine(decide=model, faults=faults), store, plan=PLAN, rounds=ROUNDS)
    killed = await improve(TASK, ScriptedEngine(decide=model), store, plan=PLAN, rounds=ROUNDS)
    other = filled(Store(tmp_path / "other.duckdb"))
    whole = await improve(TASK, ScriptedEngine(decide=model), other, plan=PLAN, rounds=ROUNDS)
    assert [row["fields"] for row in killed.report["rounds"]] == [row["fields"] for row in whole.report["rounds"]]


@pytest.mark.parametrize("other", [Retrieval(weight=1.0), Retrieval(shortlist=12)])
async def test_other_settings_ask_again(store, other):
    await improve(TASK, ScriptedEngine(decide=model), store, plan=PLAN, rounds=Rounds(1))
    counts = Progress()
    rounds = Rounds(1, retrieval=other)
    await improve(TASK, ScriptedEngine(decide=model), store, plan=PLAN, rounds=rounds, progress=counts)
    assert counts.reused == 0


async def test_small_fields_are_asked_beside_a_large_one(store):
    class Both(BaseModel):
        label: Literal[tuple(KINDS)]  # type: ignore[valid-type]
        even: bool

    def both(request: DecideRequest) -> dict[str, object]:
        return {"label": model(request), "even": int(request.state.split()[0][1:]) % 2 == 0}

    engine = ScriptedEngine(decide=both)
    result = await improve(Task(Both, "About."), engine, store, plan=PLAN, rounds=Rounds(1))
    taught = [request for request in engine.requests if request.demonstrations]
    assert {tuple(len(question.options) for question in request.questions) for request in taught} == {(10, 2)}
    kinds = [[next(iter(one.answers)) for one in request.demonstrations] for request in taught]
    assert all(names == ["even"] * 16 + ["label"] * 8 for names in kinds)
    assert set(result.report["rounds"][1]["retrieval"]) == {"label"}


async def test_sampled_fields_are_taught_beside_a_large_one(store):
    class Both(BaseModel):
        label: Literal[tuple(KINDS)]  # type: ignore[valid-type]
        words: int

    engine = ScriptedEngine(decide=model, generate=lambda request: ['{"words": 3}'] * request.n)
    result = await improve(Task(Both, "About."), engine, store, plan=PLAN, rounds=Rounds(1))
    taught = result.report["rounds"][1]
    assert [len(shard) for shard in taught["solved"]] == [8, 8]
    assert taught["fields"]["words"]["labelled"] == taught["retrieval"]["label"]["documents"] == len(TEXTS)


async def test_gold_in_the_rows_is_not_read(store, tmp_path):
    """The same texts with other columns give the same labels."""
    other = Store(tmp_path / "other.duckdb")
    gold = random.Random(0).sample(list(TRUTH.values()), len(TRUTH))
    rows = [Document(name, text, {"label": wrong}) for (name, text), wrong in zip(TEXTS.items(), gold, strict=True)]
    with other.run("test", {}) as run:
        other.add_documents([rows], source="test", run_id=run.id)
    results = [
        await improve(TASK, ScriptedEngine(decide=model), one, plan=PLAN, rounds=Rounds(1)) for one in (store, other)
    ]
    labels = [{row.document.id: row.output.label for row in result.rows()} for result in results]
    assert labels[0] == labels[1]


async def test_texts_that_are_all_too_long_are_said(store):
    rounds = Rounds(1, retrieval=Retrieval(longest=3))
    with pytest.raises(InputError, match="at most 3 characters"):
        await improve(TASK, ScriptedEngine(decide=model), store, plan=PLAN, rounds=rounds)


async def test_documents_are_looked_up_block_by_block_and_encoded_once(store, monkeypatch):
    sizes: list[int] = []
    encode = Words.encode
    monkeypatch.setattr(Words, "encode", lambda self, texts: (sizes.append(len(texts)), encode(self, texts))[1])
    monkeypatch.setattr("curator.requests.BLOCK", 50)
    monkeypatch.setattr(retrieval, "BLOCK", 50)
    await improve(TASK, ScriptedEngine(decide=model), store, plan=PLAN, rounds=ROUNDS)
    assert sorted(sizes) == [16, len(KINDS), 50, 50, 50, 50]


def test_it_is_on_where_a_label_set_is_large_and_an_encoder_can_run(monkeypatch, caplog):
    small = classify(["a", "b"], "Which?")
    assert suited("auto", TASK) == Retrieval()
    assert suited("auto", small) is suited(None, TASK) is None
    with pytest.raises(InputError, match="no choice has more than 20 options"):
        suited(Retrieval(), small)
    monkeypatch.setattr(retrieval.importlib.util, "find_spec", lambda name: None)
    assert suited("auto", TASK) is None
    assert "goldless[local]" in caplog.text


@pytest.mark.parametrize("wrong", [{"shortlist": 1}, {"examples": 0}, {"shards": 1}, {"above": 5}, {"weight": -1.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match="shortlist and shards 2 or more"):
        Retrieval(**wrong)


def test_annotations_are_kept_under_encoder_settings_and_examples(store):
    identity = ScriptedEngine(decide=model).identity
    answers = Answers(TASK, store, identity)
    found = guesses.Found({"label": guesses.Guesses(["d1"], [1], [0.9])}, {})
    guides = [retrieval.Guide(Retrieval(weight=weight), Space.of(spec)) for weight in (0.3, 1.0) for spec in ("a", "b")]
    looks = [guide.look_up(answers, known) for guide in guides for known in (None, found)]
    ids = [Prompting(1, retriever=one).annotation_id(TASK, identity) for one in looks]
    assert len({*ids, Prompting(1).annotation_id(TASK, identity)}) == 9
    assert ids[0] == Prompting(2, retriever=guides[0].look_up(answers, None)).annotation_id(TASK, identity)


def test_an_empty_store_of_answers_still_looks_labels_up_by_their_words(store):
    answers = Answers(TASK, store, ScriptedEngine(decide=model).identity)
    guide = retrieval.Guide(Retrieval(), Space.of("words"))
    (aid,) = guide.look_up(answers, None).look_up([Document("x", "dx 07 alias7")])
    assert isinstance(aid.shortlists["label"], lookup.Shortlist)
    assert "kind_07" in aid.shortlists["label"].shown
    assert aid.demonstrations == ()
