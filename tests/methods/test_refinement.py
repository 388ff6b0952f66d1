"""curator/methods/refinement.py on scripted engines, and once on a real one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from curator.annotate import Progress
from curator.datasets import read_rows
from curator.engines import connect
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.errors import ConfigError, InputError, InvalidOutputError, TaskError
from curator.export import export_dataset, to_dataset
from curator.methods.refinement import Refined, Refining, refine
from curator.pipeline import Plan, curate
from curator.screening import Screening
from curator.store import Store
from curator.task import Response, classify, respond
from curator.types import Document, GenerateRequest

pytestmark = pytest.mark.anyio

TASK = respond("Add the numbers.")
PLAN = Plan(screening=Screening(exact=False, near=None))
SUMS = {f"d{i}": (i, 2 * i) for i in range(12)}
STYLE = "The style used is that of a pirate."


def sum_in(text: str) -> int:
    return sum(map(int, re.findall(r"(\d+) and (\d+)", text)[-1]))


def pirate(request: GenerateRequest) -> str:
    """Wrong by one for odd sums, always in style."""
    found = sum_in(request.messages[-1].content)
    return f"Arr, {found + found % 2}."


def strong(request: GenerateRequest) -> str:
    """Right; in style where it is shown or told."""
    asked = request.messages[-1].content
    if asked.startswith("Here are"):
        return f"\n{STYLE}\nMore words."
    shown = any("Arr" in message.content for message in request.messages)
    told = request.messages[0].role == "system" and STYLE in request.messages[0].content
    return f"{'Arr, ' if shown or told else 'It is '}{sum_in(asked)}."


def engine(name: str, script: object, **more: object) -> ScriptedEngine:
    return ScriptedEngine(generate=script, identity=EngineIdentity("scripted", name), **more)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled(tmp_path / "store.duckdb")


def filled(path: Path, **meta: object) -> Store:
    found = Store(path)
    documents = [Document(name, f"{a} and {b}", meta) for name, (a, b) in SUMS.items()]
    with found.run("test", {}) as run:
        found.add_documents([documents], source="test", run_id=run.id)
    return found


async def refined(store: Store, *, plan: Plan = PLAN, **changed: object) -> Refined[Response]:
    given = {"strong": engine("strong", strong), "weak": engine("weak", pirate), **changed}
    return await refine(TASK, store, Refining(**given), plan=plan)


def texts(found: Refined[Response], arm: str) -> dict[str, str]:
    rows = to_dataset(found.store, TASK, found.versions[arm].version)
    return {row["id"]: row["completion"][0]["content"] for row in rows}


async def test_every_arm_becomes_a_version_beside_the_weak_one(store: Store) -> None:
    found = await refined(store)
    assert list(found.versions) == ["weak", "base", "icl", "infer", "improve"]
    assert len({version.hash for version in found.versions.values()}) == 5
    right = {name: a + b for name, (a, b) in SUMS.items()}
    assert texts(found, "weak") == {name: f"Arr, {value + value % 2}." for name, value in right.items()}
    assert texts(found, "base") == {name: f"It is {value}." for name, value in right.items()}
    for method in ("icl", "infer", "improve"):
        assert texts(found, method) == {name: f"Arr, {value}." for name, value in right.items()}
    base = found.report["arms"]["base"]
    assert (base["same_as_weak"], base["annotation"]["sent"], base["missing"]) == (0.0, 12, {})
    assert found.report["arms"]["icl"]["same_as_weak"] == pytest.approx(6 / 12)
    assert set(found.report["concepts"].values()) == {STYLE}
    assert len(found.report["concepts"]) == 3
    # Weak, base, three methods, and a sentence for each of three batches.
    assert found.progress.sent == 12 * 5 + 3


async def test_what_each_method_shows_is_the_papers(store: Store) -> None:
    asked = engine("strong", strong)
    await refined(store, strong=asked)
    requests = [request for request in asked.requests if isinstance(request, GenerateRequest)]
    kinds = {
        "base": [r for r in requests if len(r.messages) == 1 and "Arr" not in r.messages[0].content],
        "icl": [r for r in requests if len(r.messages) > 2],
        "infer": [r for r in requests if r.messages[0].role == "system"],
        "concepts": [r for r in requests if r.messages[0].content.startswith("Here are 4 texts")],
        "improve": [r for r in requests if "Write a better answer" in r.messages[-1].content],
    }
    assert {name: len(found) for name, found in kinds.items()} == {
        "base": 12, "icl": 12, "infer": 12, "concepts": 3, "improve": 12,
    }  # fmt: skip
    for request in kinds["icl"]:
        # The others of a batch of four, never the document's own weak answer.
        examples = [message.content for message in request.messages[:-1:2]]
        assert len(set(examples)) == 3
        assert request.messages[-1].content not in examples
    assert all("Arr" not in message.content for request in kinds["infer"] for message in request.messages)
    assert all("Arr" in request.messages[-1].content for request in kinds["improve"])


async def test_calling_again_asks_nothing_and_makes_the_same_versions(store: Store) -> None:
    first = await refined(store)
    again = await refined(store)
    assert again.progress.sent == 0
    assert again.versions == first.versions


async def test_a_run_that_breaks_off_goes_on_where_it_was(store: Store) -> None:
    """Out of money in the middle of every stage in turn: nothing is asked twice."""
    asked = 0
    for calls in (3, 20, 40):
        model = engine("strong", strong, faults={calls: TaskError("stop here")}, concurrency=1)
        try:
            await refined(store, strong=model)
        except TaskError:
            asked += len(model.requests)
            continue
        asked += len(model.requests)
    assert (await refined(store)).progress.sent == 0
    assert asked >= 12 * 4 + 3


async def test_bad_rows_are_counted_and_never_stop_the_run(store: Store) -> None:
    """A weak answer that is empty, a failure, and texts that are cut off."""

    def gappy(request: GenerateRequest) -> str:
        return "  " if sum_in(request.messages[-1].content) == 3 else pirate(request)

    faults = {2: InvalidOutputError("no"), 14: InvalidOutputError("no")}
    found = await refined(
        store, weak=engine("weak", gappy), strong=engine("strong", strong, faults=faults, concurrency=1)
    )
    missing = {name: arm["missing"] for name, arm in found.report["arms"].items()}
    assert missing["weak"] == {"empty": 1}
    assert missing["base"] == {"invalid_output": 1}
    assert missing["icl"] == {"invalid_output": 1}
    assert missing["improve"] == {}
    assert {name: version.rows for name, version in found.versions.items()} == {
        "weak": 11, "base": 11, "icl": 10, "infer": 11, "improve": 11,
    }  # fmt: skip


async def test_a_batch_without_its_sentence_is_not_asked(store: Store) -> None:
    def mute(request: GenerateRequest) -> str:
        return "" if request.messages[-1].content.startswith("Here are") else strong(request)

    found = await refined(store, strong=engine("strong", mute), methods=("infer",))
    assert list(found.versions) == ["weak", "base"]
    assert found.report["arms"]["infer"]["missing"] == {"not_asked": 12}


async def test_answers_that_stand_in_a_column_need_no_weak_model(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.duckdb", answer="Arr, a column!")
    found = await refined(store, weak=None, column="answer", methods=("improve",))
    assert set(texts(found, "weak").values()) == {"Arr, a column!"}
    assert found.report["arms"]["weak"]["written_by"] == "the column answer"
    assert found.progress.sent == 24
    with pytest.raises(InputError, match="no_answer: 12"):
        await refined(store, weak=None, column="reply")


async def test_what_the_weak_model_is_told_is_its_own(store: Store) -> None:
    weak = engine("weak", pirate)
    found = await refined(store, weak=weak, weak_instruction="Talk like a pirate.", methods=("icl",))
    assert all(request.messages[0].content.startswith("Talk like a pirate.\n\n") for request in weak.requests)
    prompt = to_dataset(found.store, TASK, found.versions["weak"].version)[0]["prompt"][0]["content"]
    assert prompt.startswith("Add the numbers.\n\n")


async def test_another_seed_draws_other_batches(store: Store) -> None:
    first = await refined(store, methods=("icl",))
    second = await refined(store, methods=("icl",), seed=1)
    assert second.progress.sent == 12
    assert second.versions["icl"] != first.versions["icl"]
    assert second.versions["base"].version != 0


async def test_an_arm_is_exported_and_compared_like_any_version(store: Store, tmp_path: Path) -> None:
    found = await refined(store, methods=("improve",))
    version = found.versions["improve"].version
    assert export_dataset(store, TASK, version, tmp_path / "rows.jsonl", "jsonl") == 12
    assert b'"response":"Arr, 3."' in (tmp_path / "rows.jsonl").read_bytes()
    assert export_dataset(store, TASK, version, tmp_path / "rows.parquet") == 12
    diff = store.diff(found.versions["weak"].version, version)
    assert (diff.changed_count, diff.unchanged) == (6, 6)


async def test_limits_and_wrong_settings(store: Store) -> None:
    found = await refined(store, plan=replace(PLAN, limit=3), methods=("icl",))
    assert found.versions["weak"].rows == 3
    model = engine("strong", strong)
    for wrong in ({"weak": None}, {"column": "x"}, {"methods": ()}, {"methods": ("other",)}, {"batch": 1}):
        with pytest.raises(ConfigError):
            await refined(store, strong=model, **wrong)
    with pytest.raises(TaskError, match="respond"):
        await refine(classify(["a", "b"], "Which?"), store, Refining(model, model), plan=PLAN)
    with pytest.raises(TaskError, match="goldless refine"):
        await curate(TASK, model, store, plan=PLAN, progress=Progress())


async def test_a_weak_model_that_says_nothing_is_told(store: Store) -> None:
    with pytest.raises(InputError, match=r"the weak arm .* \(empty: 12\)"):
        await refined(store, weak=engine("weak", lambda request: ""))


@pytest.mark.engine
async def test_a_real_model_refines_answers_that_stand_beside_the_texts(tmp_path: Path, smol: Path) -> None:
    texts = ["Is water wet?", "Is fire hot?", "Is ice cold?", "Is snow white?"]
    store = Store(tmp_path / "store.duckdb")
    documents = [Document(f"d{i}", text, {"reply": "Arr, yes!"}) for i, text in enumerate(texts)]
    with store.run("test", {}) as run:
        store.add_documents([documents], source="test", run_id=run.id)
    model = connect(f"transformers:{smol}")
    task = respond("Answer in a few words.", max_tokens=12)
    found = await refine(task, store, Refining(model, column="reply", batch=4), plan=PLAN)
    await model.aclose()
    arms = found.report["arms"]
    # Twelve tokens are few: what is cut off is no row.
    for name in ("base", "icl", "infer", "improve"):
        assert arms[name]["rows"] + sum(arms[name]["missing"].values()) == 4
        assert arms[name]["annotation"]["sent"] == 4
    # Four examples that all say the same are hard not to follow.
    assert sum("yes" in text.casefold() for text in texts_of(found, "icl").values()) >= 2


def texts_of(found: Refined[Response], arm: str) -> dict[str, str]:
    rows = read_rows(found.store, found.task, found.versions[arm].version)
    return {row.document.id: row.output.response for row in rows}
