"""curator/methods/contrast.py: the published rules, caps, chance that repeats, and what a pair carries."""

from __future__ import annotations

import pytest

from curator.annotate import Progress
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.errors import InputError
from curator.methods.agreement import Agreement, Setup, agree
from curator.methods.contrast import OVERRULED, UPHELD, Contrast, contrast
from curator.pipeline import Plan
from curator.preferences import read_preferences
from curator.types import Document, GenerateRequest
from tests.methods.progressive_builders import DOCUMENTS, PLAN, TASK, filled, model

pytestmark = pytest.mark.anyio


def said(value: int | str, by: str) -> str:
    return f"{by} says so.\nAnswer: {value}"


def votes(**counts: int) -> list[str]:
    """Ten samples, each with words of its own: n7=6 is six times the answer 7, e=2 two without an answer."""
    found = []
    for name, count in counts.items():
        found += [said(name[1:], f"{name}-{i}") if name[0] == "n" else "no idea" + "!" * i for i in range(count)]
    assert len(found) == 10
    return found


CASES: dict[str, tuple[str, list[str], str]] = {
    "upheld": ("7", votes(n7=6, n8=4), UPHELD),
    "sure": ("7", votes(n7=10), f"{UPHELD}_without_pair"),
    "unsure": ("7", votes(n7=5, n8=5), "low_vote"),
    "overruled": ("9", votes(n7=8, n9=2), OVERRULED),
    "nearly": ("9", votes(n7=7, n9=3), "vote_too_low_to_overrule"),
    "silent": ("7", votes(e=6, n7=4), "majority_empty"),
    "emptied": ("7", votes(n7=6, e=4), f"{UPHELD}_without_pair"),
    "weakless": ("hm", votes(n7=10), "weak_empty"),
    "dollars": ("$7.00", votes(n7=6, n8=4), UPHELD),
}


def name_of(request: GenerateRequest) -> str:
    return request.messages[-1].content.split("\n\n")[1].split()[0]


async def world(tmp_path, cases):
    """The weak model answers as the case says; the strong one alike when it is asked once, and votes when sampled.
    Some more documents are there to be shown as examples; they make no pair."""
    cases = {**cases, **{f"more{i}": ("1", votes(n1=5, n2=5), "low_vote") for i in range(6)}}
    weak = ScriptedEngine(
        generate=lambda request: said(cases[name_of(request)][0], "weak"), identity=EngineIdentity("scripted", "weak")
    )
    strong = ScriptedEngine(
        generate=lambda request: cases[name_of(request)][1] if request.n > 1 else said(cases[name_of(request)][0], "s"),
        identity=EngineIdentity("scripted", "strong"),
    )
    store = filled(tmp_path, [Document(name, f"{name} is asked") for name in cases])
    return await agree(TASK, Setup(weak, strong, agreement=Agreement(rounds=1)), store, plan=PLAN), strong


async def contrasted(tmp_path, cases=CASES, **settings):
    agreed, strong = await world(tmp_path, cases)
    found = await contrast(agreed, strong, plan=PLAN, settings=Contrast(**settings))
    return found, list(read_preferences(agreed.store, found.version.version))


async def test_every_question_goes_by_the_published_rules(tmp_path):
    found, pairs = await contrasted(tmp_path)
    assert {pair.document.id: pair.details["rule"] for pair in pairs} == {
        name: rule for name, (_, _, rule) in CASES.items() if rule in (UPHELD, OVERRULED)
    }
    outcomes = found.report["outcomes"]
    assert {rule: outcomes[rule] for _, _, rule in CASES.values()} == {
        rule: sum(rule == other for _, _, other in CASES.values()) + 6 * (rule == "low_vote")
        for _, _, rule in CASES.values()
    }
    assert (outcomes["pairs"], found.version.rows) == (3, 3)


async def test_a_pair_holds_whole_texts_the_plain_prompt_and_where_they_came_from(tmp_path):
    _, pairs = await contrasted(tmp_path)
    by_name = {pair.document.id: pair for pair in pairs}
    upheld, overruled = by_name["upheld"], by_name["overruled"]
    assert (upheld.chosen, overruled.rejected) == (said(7, "weak"), said(9, "weak"))
    assert upheld.rejected.startswith("n8-")
    assert overruled.chosen.startswith("n7-")
    assert upheld.prompt == TASK.generate_request(upheld.document).messages
    assert upheld.details["vote_share"] == 0.6
    assert upheld.details["chosen"] == {"engine": "scripted:weak", "sample": 0, "answer": "7"}
    rejected = upheld.details["rejected"]
    assert (rejected["engine"], rejected["answer"]) == ("scripted:strong", "8")
    assert CASES["upheld"][1][rejected["sample"]] == upheld.rejected
    # Samples of one model repeat each other: the confidence is the discounted share.
    assert all(0 < pair.confidence < pair.details["vote_share"] for pair in pairs)


async def test_equal_samples_are_one_candidate_and_caps_hold(tmp_path):
    cases = {
        "same": ("7", [said(7, "a")] * 6 + [said(8, "b")] * 4, UPHELD),
        "many": ("7", votes(n7=6, n8=2, n9=2), UPHELD),
    }
    _, pairs = await contrasted(tmp_path, cases, pairs=3)
    counted = [pair.document.id for pair in pairs]
    assert (counted.count("same"), counted.count("many")) == (1, 3)
    assert len({pair.rejected for pair in pairs}) == 4


async def test_chance_repeats_and_follows_the_seed(tmp_path):
    agreed, strong = await world(tmp_path, CASES)
    drawn = []
    for seed in (0, 0, 1, 2):
        found = await contrast(agreed, strong, plan=PLAN, settings=Contrast(seed=seed))
        pairs = read_preferences(agreed.store, found.version.version)
        drawn.append((found.version.hash, tuple(pair.rejected for pair in pairs)))
    assert drawn[0] == drawn[1]
    assert len({rejected for _, rejected in drawn}) > 1


async def test_a_wrong_calculation_is_never_chosen_where_arithmetic_is_checked(tmp_path):
    wrong, right = "2 + 2 = 5\nAnswer: 7", "3 + 4 = 7\nAnswer: 7"
    agreed, strong = await world(tmp_path, {"strong": ("9", [wrong] * 5 + [right] * 5, OVERRULED)})
    for arithmetic, chosen in ((False, {wrong, right}), (True, {right})):
        found = await contrast(agreed, strong, plan=PLAN, settings=Contrast(pairs=2, arithmetic=arithmetic))
        assert {pair.chosen for pair in read_preferences(agreed.store, found.version.version)} == chosen


async def test_the_first_documents_alone_and_nothing_twice(tmp_path):
    weak, strong = model("weak", 0.6), model("strong", 0.7)
    agreed = await agree(TASK, Setup(weak, strong), filled(tmp_path), plan=PLAN)
    before = len(strong.requests)
    some = Plan(screening=PLAN.screening, limit=20)
    found = await contrast(agreed, strong, plan=some, settings=Contrast(least=0.3, overrule=0.5))
    sampled = strong.requests[before:]
    assert len(sampled) == len(found.ballots.ids) == 20
    # As the last round asked, ten texts in one request.
    assert all(len(request.messages) == 9 and request.n == 10 for request in sampled)
    counts = Progress()
    again = await contrast(agreed, strong, plan=some, settings=Contrast(least=0.3, overrule=0.5), progress=counts)
    assert (counts.sent, again.version) == (0, found.version)
    assert found.report["annotation"]["sent"] == 20


async def test_another_engine_than_the_last_rounds_is_refused(tmp_path):
    agreed = await agree(TASK, Setup(model("weak", 0.6), model("strong", 0.7)), filled(tmp_path), plan=PLAN)
    with pytest.raises(InputError, match="answered by scripted:strong, not by scripted:other"):
        await contrast(agreed, model("other", 0.5), plan=PLAN)
    with pytest.raises(InputError, match="not one preference pair"):
        await contrast(agreed, model("strong", 1.0), plan=Plan(screening=PLAN.screening, limit=1))


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match=r"overrule 0\.5"):
        Contrast(overrule=0.5)
    assert len(DOCUMENTS) == 60
