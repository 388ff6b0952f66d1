"""curator/methods/agreed_rows.py: what is kept, and the rows that come of it."""

from __future__ import annotations

import orjson
import pytest

from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.errors import InputError
from curator.methods.agreed_rows import Kept
from curator.methods.agreement import Agreement, Setup, agree
from curator.types import GenerateRequest
from tests.methods.progressive_builders import PLAN, TASK, asked, filled, model

pytestmark = pytest.mark.anyio


def test_only_answers_that_are_there_can_agree():
    kept = Kept({"a": ("1", "1"), "b": (None, None), "c": ("1", "2"), "d": (None, "2")}, documents=4)
    assert kept.ids == ["a"]
    assert kept.report() == {
        "documents": 4,
        "answered_by_weak": 2,
        "answered_by_strong": 3,
        "kept": 1,
        "kept_share": 0.25,
        "agreement": 0.5,
    }


async def rows_of(tmp_path, weak, strong, **settings):
    store = filled(tmp_path)
    found = await agree(TASK, Setup(weak, strong, agreement=Agreement(rounds=1, **settings)), store, plan=PLAN)
    return found, [row for table in store.dataset_rows(found.version.version) for row in table.to_pylist()]


async def test_both_rationales_of_a_kept_question_are_rows(tmp_path):
    found, rows = await rows_of(tmp_path, model("weak", 0.5, write="${:,}.00".format), model("strong", 0.8))
    kept = found.rounds[0].kept.ids
    names = [row["document_id"] for row in rows]
    assert list(dict.fromkeys(names)) == kept
    written = [orjson.loads(row["fields"])["written_by"] for row in rows]
    # The scripted models reason alike where both are right: one row then, the weak model's.
    assert set(written) == {"scripted:weak"}
    assert len(rows) == len(kept) == found.rounds[0].report["rows"]
    assert all(row["weight"] == 1.0 and 0 < row["confidence"] < 1 for row in rows)


def slowly(name: str, wrong: bool) -> ScriptedEngine:
    """Right always, and says so in words of its own; its arithmetic may be wrong."""

    def answer(request: GenerateRequest) -> str:
        number = int(asked(request)[1:])
        return f"{name}: {number} + {2 * number} = {3 * number + wrong}\nAnswer: {3 * number}"

    return ScriptedEngine(generate=answer, identity=EngineIdentity("scripted", name))


@pytest.mark.parametrize(("arithmetic", "wanted"), [(False, 120), (True, 60)])
async def test_a_rationale_that_calculates_wrongly_can_be_left_out(tmp_path, arithmetic, wanted):
    found, rows = await rows_of(tmp_path, slowly("weak", True), slowly("strong", False), arithmetic=arithmetic)
    assert len(rows) == wanted
    assert found.rounds[0].report["rationales_left_out"] == 120 - wanted
    assert [orjson.loads(row["output"])["reasoning"].split(":")[0] for row in rows[:2]] == (
        ["strong", "strong"] if arithmetic else ["weak", "strong"]
    )


async def test_nothing_in_common_is_said(tmp_path):
    with pytest.raises(InputError, match="agree on 0 of 60"):
        await rows_of(tmp_path, model("weak", 0.0), model("strong", 0.0))
