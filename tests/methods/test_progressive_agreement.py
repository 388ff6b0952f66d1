"""curator/methods/agreement.py: rounds, who is asked how, resuming, and that gold is nowhere."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from curator.annotate import Progress
from curator.datasets import read_rows
from curator.engines import connect
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.errors import BudgetExceededError, InputError, RateLimitError
from curator.evaluation.agreed import grade_kept
from curator.methods.agreement import Agreement, Setup, agree
from curator.methods.demonstrations import Chooser
from curator.methods.replies import replies
from curator.requests import shard_of
from curator.task import solve
from curator.types import Completion, Document, GenerateRequest
from tests.conftest import SMOL
from tests.methods.progressive_builders import DOCUMENTS, GOLD, PLAN, TASK, TRUTH, filled, model, shown

pytestmark = pytest.mark.anyio


def pair(**more: object) -> Setup:
    return Setup(model("weak", 0.5, write="${:,}.00".format), model("strong", 0.6, taught=0.2), **more)


async def test_what_both_answer_the_same_is_more_often_right(tmp_path):
    found = await agree(TASK, pair(), filled(tmp_path), plan=PLAN)
    first, second = (grade_kept(one.kept, GOLD) for one in found.rounds)
    assert first["weak_accuracy"] < 0.65
    assert first["precision"] == second["precision"] == 1.0
    assert first["kept"] > 15
    assert [one.report["examples"] for one in found.rounds] == ["weak", "kept"]
    assert found.version == found.rounds[1].version


async def test_examples_are_the_weak_models_then_kept_ones_from_the_other_shard(tmp_path):
    setup = pair()
    found = await agree(TASK, setup, filled(tmp_path), plan=PLAN)
    requests = [one for one in setup.strong.requests if isinstance(one, GenerateRequest)]
    first, second = requests[: len(DOCUMENTS)], requests[len(DOCUMENTS) :]
    assert all(len(request.messages) == 9 and request.sampling.temperature == 0 for request in requests)
    # The weak model writes dollars, the strong one does not.
    assert all("$" in request.messages[1].content for request in first)
    assert not any("$" in request.messages[1].content for request in second)
    kept = set(found.rounds[0].kept.ids)
    assert all(kept.issuperset(shown(request)) for request in second)
    for request in requests:
        about = request.messages[-1].content.split(":")[0].split()[-1]
        assert all(shard_of(name, 2) != shard_of(about, 2) for name in shown(request))


async def test_the_tuned_model_answers_the_second_round_without_examples(tmp_path):
    setup = pair(tuned=model("tuned", 0.9))
    found = await agree(TASK, setup, filled(tmp_path), plan=PLAN)
    assert [one.report["strong"] for one in found.rounds] == ["scripted:strong", "scripted:tuned"]
    assert found.rounds[1].report["examples"] == "none"
    assert all(len(request.messages) == 1 for request in setup.tuned.requests)
    # Asked the same way again it would say the same.
    assert len((await agree(TASK, pair(tuned=setup.tuned, agreement=Agreement(rounds=5)), found.store)).rounds) == 2


async def test_a_killed_run_goes_on_and_comes_to_the_same_rows(tmp_path):
    whole = await agree(TASK, pair(), filled(tmp_path / "whole"), plan=PLAN)
    store, script = filled(tmp_path / "killed"), pair().strong._generate

    def stops(request: GenerateRequest) -> Completion:
        if len(broken.requests) > 40:
            raise BudgetExceededError("the cap is reached")
        return script(request)

    broken = ScriptedEngine(generate=stops, identity=pair().strong.identity)
    with pytest.raises(BudgetExceededError):
        await agree(TASK, Setup(pair().weak, broken), store, plan=PLAN)
    counts = Progress()
    again = await agree(TASK, pair(), store, plan=PLAN, progress=counts)
    assert again.version.hash == whole.version.hash
    assert counts.reused >= len(DOCUMENTS) + 20
    counts = Progress()
    await agree(TASK, pair(), store, plan=PLAN, progress=counts)
    assert (counts.sent, counts.reused) == (0, 3 * len(DOCUMENTS))


async def test_gold_beside_the_questions_changes_no_row(tmp_path):
    hashes = []
    for name, offset in (("right", 0), ("permuted", 7)):
        documents = [replace(one, meta={"answer": TRUTH[f"d{(i + offset) % 60}"]}) for i, one in enumerate(DOCUMENTS)]
        store = filled(tmp_path / name, documents)
        found = await agree(TASK, pair(), store, plan=PLAN)
        rows = [row for table in store.dataset_rows(found.version.version) for row in table.to_pylist()]
        hashes.append([{key: value for key, value in row.items() if key != "meta"} for row in rows])
    assert hashes[0] == hashes[1]


async def test_no_example_that_is_short_enough_is_said(tmp_path):
    setup = pair(agreement=Agreement(examples=Chooser(count=4, longest=5)))
    with pytest.raises(InputError, match="at most 5 characters"):
        await agree(TASK, setup, filled(tmp_path), plan=PLAN)


async def test_rows_that_fail_are_counted_and_not_kept(tmp_path):
    setup = pair()
    script = setup.weak._generate
    weak = ScriptedEngine(
        generate=lambda request: [] if "d7:" in request.messages[-1].content else script(request),
        identity=setup.weak.identity,
        faults={3: RateLimitError("slow down")},
    )
    found = await agree(TASK, Setup(weak, setup.strong), filled(tmp_path), plan=PLAN)
    assert found.report["weak"]["failed"] == 1
    assert found.rounds[0].kept.forms["d7"][0] is None


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match="rounds is 0"):
        Agreement(rounds=0)


def test_the_identity_says_who_was_asked():
    described = pair(tuned=ScriptedEngine(generate=[], identity=EngineIdentity("scripted", "tuned"))).describe()
    assert (described["weak_engine"], described["engine"], described["tuned"]) == (
        "scripted:weak",
        "scripted:strong",
        "scripted:tuned",
    )


@pytest.mark.engine
async def test_a_real_model_learns_from_itself(tmp_path):
    """SmolLM2-135M adds small numbers, then again after an example of its own; four sums that it gets right."""
    task = solve(int, "Add the numbers. Write the sum first, then a line with Answer: and the total.")
    task = replace(task, sampling=replace(task.sampling, max_tokens=24))
    sums = [Document(f"s{i}", f"What is {i + 2} plus {i + 3}?") for i in (0, 1, 2, 4)]
    assert {shard_of(document.id, 2) for document in sums} == {0, 1}
    store, setup = filled(tmp_path, sums), Agreement(rounds=1, examples=Chooser(count=1, longest=400))
    weak, strong = (connect(f"transformers:{SMOL}") for _ in range(2))
    async with aclosing(strong):
        found = await agree(task, Setup(weak, strong, agreement=setup), store, plan=PLAN)
    assert found.rounds[0].kept.ids
    assert all(reply.sure > 0 for _, reply in replies(found.weak))
    row = next(read_rows(store, task, found.version.version))
    assert row.output.answer == 2 * int(row.document.id[1:]) + 5
    assert "+" in row.output.reasoning
    # All of it is in the store: no model is asked, or loaded, again.
    counts = Progress()
    await agree(task, Setup(weak, strong, agreement=setup), store, plan=PLAN, progress=counts)
    assert (counts.sent, counts.reused) == (0, 8)
