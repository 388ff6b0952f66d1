"""Exact paths through scripted tiers: who is asked what, who serves, what is billed."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from route_builders import CHAT, FUN, MOOD, certificate, policy, row, scripted

from cascade.policy import Scorer
from cascade.routed import Outcome, Reason
from cascade.router import Cascade
from curator.engines.base import Engine
from curator.errors import (
    AuthenticationError,
    ConfigError,
    EngineTimeoutError,
    RateLimitError,
    RefusalError,
    ServerError,
)
from curator.pipeline import Plan, curate
from curator.screening import Screening
from curator.sources import open_source
from curator.store import Store
from curator.task import classify
from curator.types import Completion, Decision, Decisions, Document, Sample, Usage

pytestmark = pytest.mark.anyio


def pair(small, strong):
    return {"small": scripted("small", **small), "strong": scripted("strong", **strong)}


def two(small, strong, limit=0.8, asked=None, **settings):
    tiers = pair({"decide": small}, {"decide": strong})
    asked = asked or row()
    names = {question.name: [limit] for question in asked.questions}
    return Cascade(tiers, policy(tiers, asked, names), **settings), tiers


def sure(share):
    return lambda request: {q.name: {q.labels[0]: share, q.labels[1]: 1 - share} for q in request.questions}


async def test_a_sure_answer_is_served_by_the_small_tier_alone():
    cascade, tiers = two(sure(0.9), sure(0.2))
    assert isinstance(cascade, Engine)
    routed = await cascade.route(row())
    (served,) = routed.answers
    assert (served.tier, served.outcome, served.certified) == ("small", Outcome.ACCEPTED, True)
    assert served.answer.top == 0
    assert served.answer.served_by == "small"
    assert (served.confidence, served.basis) == (pytest.approx(0.9), "raw")
    assert not tiers["strong"].requests
    (judged,) = routed.attempts[0].judgements
    assert (judged.reason, judged.threshold) == (Reason.REACHED, 0.8)
    assert judged.signals == {"top_probability": pytest.approx(0.9)}


async def test_an_unsure_answer_is_escalated_and_both_are_billed():
    cascade, _ = two(sure(0.7), sure(0.1))
    routed = await cascade.route(row("quite fine"))
    (served,) = routed.answers
    assert (served.tier, served.outcome, served.answer.top) == ("strong", Outcome.TEACHER, 1)
    assert served.certified
    assert [attempt.tier for attempt in routed.attempts] == ["small", "strong"]
    assert routed.attempts[0].judgements[0].reason is Reason.BELOW
    assert routed.usage == Usage(4, 2, calls=2)
    decided = await cascade.decide(row("quite fine"))
    assert (decided.usage, decided.answers) == (routed.usage, (served.answer,))


async def test_prices_of_the_policy_bill_every_attempt():
    tiers = pair({"decide": sure(0.7)}, {"decide": sure(0.1)})
    made = policy(tiers, row(), {"mood": [0.8]})
    prices = {"small": (1e6, 0.0), "strong": (1e7, 0.0)}
    priced = tuple(record.model_copy(update={"price": prices[record.name]}) for record in made.tiers)
    routed = await Cascade(tiers, made.model_copy(update={"tiers": priced})).route(row("quite fine"))
    assert [attempt.cost for attempt in routed.attempts] == [pytest.approx(2), pytest.approx(20)]
    assert (routed.cost, routed.baseline) == (pytest.approx(22), pytest.approx(20))
    unpriced = await Cascade(tiers, made).route(row("quite fine"))
    assert unpriced.cost is None


async def test_the_baseline_of_an_accepted_answer_is_what_the_certificate_expects():
    tiers = pair({"decide": sure(0.9)}, {"decide": sure(0.1)})
    made = policy(tiers, row(), {"mood": [0.8]}, certified=certificate(baseline_cost=0.5))
    assert (await Cascade(tiers, made).route(row())).baseline == 0.5


async def test_only_the_questions_that_must_are_escalated_and_answers_keep_their_order():
    asked = row("fine", MOOD, FUN)
    small = {"mood": {"good": 0.6, "bad": 0.4}, "fun": {"yes": 0.95, "no": 0.05}}
    cascade, tiers = two([small], [{"mood": {"good": 0.0, "bad": 1.0}}], asked=asked)
    routed = await cascade.route(asked)
    assert [(served.question, served.tier) for served in routed.answers] == [("mood", "strong"), ("fun", "small")]
    (second,) = tiers["strong"].requests
    assert [question.name for question in second.questions] == ["mood"]
    # One question alone would stand before the text; what was certified had the text first.
    assert second.template.order == "state_first"
    assert [served.answer.top for served in routed.answers] == [1, 0]


async def test_each_question_has_its_own_rules_and_a_tier_without_one_is_not_asked():
    asked = row("fine", MOOD, FUN)
    tiers = {name: scripted(name, decide=sure(0.9)) for name in ("tiny", "small", "strong")}
    cascade = Cascade(tiers, policy(tiers, asked, {"mood": [None, 0.5], "fun": [0.5, None]}))
    routed = await cascade.route(asked)
    assert [served.tier for served in routed.answers] == ["small", "tiny"]
    assert [question.name for question in tiers["tiny"].requests[0].questions] == ["fun"]
    assert [question.name for question in tiers["small"].requests[0].questions] == ["mood"]
    assert not tiers["strong"].requests


async def test_a_refusal_is_escalated_and_the_last_ones_stays():
    cascade, _ = two([None, None], ["good", None])
    first, second = [await cascade.route(row()) for _ in range(2)]
    assert first.answers[0].tier == "strong"
    assert first.attempts[0].judgements[0].reason is Reason.REFUSED
    assert (second.answers[0].answer, second.answers[0].outcome) == (None, Outcome.REFUSED)
    assert not second.answers[0].certified
    assert math.isnan(second.answers[0].confidence)


async def test_a_failure_is_escalated_and_counts_as_a_call_of_unknown_cost():
    tiers = pair({"decide": sure(0.9), "faults": [ServerError("down"), RateLimitError("busy")]}, {"decide": sure(0.9)})
    cascade = Cascade(tiers, policy(tiers, row(), {"mood": [0.8]}))
    routed = await cascade.route(row())
    assert routed.answers[0].outcome is Outcome.TEACHER
    assert (routed.attempts[0].error, routed.attempts[0].cost) == ("ServerError", None)
    assert routed.usage.calls == 2
    # What was turned away at the door cannot have been billed.
    assert (await cascade.route(row())).attempts[0].cost == 0.0


async def test_where_the_last_tier_fails_the_strongest_other_answer_is_served_and_marked(caplog):
    tiers = {
        "tiny": scripted("tiny", decide=sure(0.6)),
        "small": scripted("small", decide=sure(0.3)),
        "strong": scripted("strong", decide=sure(0.9), faults=[AuthenticationError("no")] * 2),
    }
    made = policy(tiers, row(), {"mood": [0.8, 0.8]})
    routed = await Cascade(tiers, made).route(row())
    (served,) = routed.answers
    assert (served.tier, served.outcome, served.certified) == ("small", Outcome.FALLBACK, False)
    assert "strong failed" in caplog.text
    with pytest.raises(AuthenticationError):
        await Cascade(tiers, made, fallback=False).route(row())


async def test_a_fallback_asks_tiers_that_were_passed_over():
    tiers = pair({"decide": sure(0.9)}, {"decide": sure(0.9), "faults": [EngineTimeoutError("late")]})
    cascade = Cascade(tiers, policy(tiers, row(), {}))
    routed = await cascade.route(row())
    assert (routed.answers[0].tier, routed.answers[0].outcome) == ("small", Outcome.FALLBACK)
    assert [attempt.tier for attempt in routed.attempts] == ["strong", "small"]
    assert routed.attempts[1].judgements[0].reason is Reason.RESCUED


async def test_where_all_fail_the_last_tiers_error_is_raised():
    tiers = pair(
        {"decide": sure(0.9), "faults": [ServerError("small")]}, {"decide": [], "faults": [RateLimitError("s")]}
    )
    with pytest.raises(RateLimitError):
        await Cascade(tiers, policy(tiers, row(), {"mood": [0.8]})).decide(row())


async def test_an_unknown_signal_never_serves():
    scorer = Scorer(signals=("label_mass",), weights=(1.0,), knots=(0.0, 1.0), values=(1.0, 1.0))
    tiers = pair({"decide": sure(1.0)}, {"decide": sure(0.9)})
    routed = await Cascade(tiers, policy(tiers, row(), {"mood": [0.0]}, scorer=scorer)).route(row())
    assert routed.attempts[0].judgements[0].reason is Reason.UNKNOWN
    assert routed.answers[0].tier == "strong"


async def test_a_calibrated_score_is_the_confidence_and_says_what_it_rests_on():
    scorer = Scorer(signals=("top_probability",), weights=(1.0,), knots=(0.5, 1.0), values=(0.4, 0.8))
    tiers = pair({"decide": sure(0.75)}, {"decide": sure(0.9)})
    for basis, shown in (("vs_teacher", "reference:strong"), ("vs_truth", "audited(500)")):
        made = policy(tiers, row(), {"mood": [0.5]}, scorer=scorer, certified=certificate(basis=basis))
        (served,) = (await Cascade(tiers, made).route(row())).answers
        assert (served.confidence, served.basis) == (pytest.approx(0.6), shown)


@pytest.mark.parametrize("verdict", ["BLOCK", "INCONCLUSIVE"])
async def test_what_is_not_certified_goes_to_the_last_tier(verdict):
    tiers = pair({"decide": sure(0.9)}, {"decide": sure(0.9)})
    made = policy(tiers, row(), {"mood": [0.8]}, certified=certificate(verdict))
    (served,) = (await Cascade(tiers, made).route(row())).answers
    assert (served.tier, served.outcome, served.certified) == ("strong", Outcome.DIRECT, False)
    assert verdict in served.note
    tried = (await Cascade(tiers, made, uncertified="rules").route(row())).answers[0]
    assert (tried.tier, tried.certified) == (("strong" if verdict == "BLOCK" else "small"), False)
    with pytest.raises(ConfigError, match=f"'mood' is not certified: its verdict is {verdict}"):
        await Cascade(tiers, made, uncertified="refuse").route(row())


async def test_another_wording_or_option_list_is_another_question():
    cascade, tiers = two(sure(0.9), sure(0.9))
    for changed in (replace(MOOD, instructions="What mood?"), replace(MOOD, options=MOOD.options[::-1])):
        (served,) = (await cascade.route(row("fine", changed))).answers
        assert (served.outcome, served.certified) == (Outcome.DIRECT, False)
        assert "not those that were certified" in served.note
    (unknown,) = (await cascade.route(row("fine", FUN))).answers
    assert "does not know it" in unknown.note
    assert not tiers["small"].requests


async def test_a_policy_of_other_models_is_refused():
    tiers = pair({"decide": sure(0.9)}, {"decide": sure(0.9)})
    made = policy(tiers, row(), {"mood": [0.8]})
    other = {**tiers, "strong": scripted("another", decide=sure(0.9))}
    with pytest.raises(ConfigError, match="strong is scripted:another, the policy is for scripted:strong"):
        Cascade(other, made)
    with pytest.raises(ConfigError, match="for the tiers small, strong, these are strong, small"):
        Cascade(dict(reversed(tiers.items())), made)


async def test_an_expired_or_newer_policy_is_refused_and_one_that_expires_serves_no_more():
    tiers = pair({"decide": sure(0.9)}, {"decide": sure(0.9)})
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    cascade = Cascade(tiers, policy(tiers, row(), {"mood": [0.8]}, expires=soon))
    assert (await cascade.route(row())).answers[0].tier == "small"
    await asyncio.sleep(0.25)
    (late,) = (await cascade.route(row())).answers
    assert (late.tier, late.certified, late.note) == ("strong", False, "the policy has expired")
    with pytest.raises(ConfigError, match="expired"):
        Cascade(tiers, policy(tiers, row(), {}, expires=soon))
    with pytest.raises(ConfigError, match="newer"):
        Cascade(tiers, policy(tiers, row(), {}, version=2))


async def test_rules_for_tiers_or_signals_that_do_not_exist_are_refused():
    tiers = pair({"decide": sure(0.9)}, {"decide": sure(0.9)})
    made = policy(tiers, row(), {"mood": [0.8]})
    rule = made.questions[0].rules[0]
    for changed, match in (
        (rule.model_copy(update={"tier": "strong"}), "no tier below the last"),
        (rule.model_copy(update={"scorer": Scorer(signals=("margn",), weights=(1.0,))}), "no signal is called 'margn'"),
    ):
        entry = made.questions[0].model_copy(update={"rules": (changed,)})
        with pytest.raises(Exception, match=match):
            Cascade(tiers, made.model_copy(update={"questions": (entry,)}))


async def test_a_cascade_is_a_tier_and_says_which_of_its_own_answered():
    inner, tiers = two(sure(0.9), sure(0.6))
    outer_tiers = {"edge": inner, "remote": scripted("remote", decide=sure(0.3))}
    outer = Cascade(outer_tiers, policy(outer_tiers, row(), {"mood": [0.8]}))
    (served,) = (await outer.route(row())).answers
    assert (served.tier, served.answer.served_by) == ("edge", "edge/small")
    stricter, _ = two(sure(0.7), sure(0.6))
    assert stricter.identity.model == "small>strong"
    other = Cascade(tiers, policy(tiers, row(), {"mood": [0.85]}))
    assert other.identity != inner.identity


async def test_a_tier_that_cannot_do_what_is_asked_is_passed_over():
    tiers = {"head": scripted("head", decide=sure(0.9)), "strong": scripted("strong", generate=["42"])}
    cascade = Cascade(tiers, policy(tiers, CHAT, {"text": [0.5]}))
    assert cascade.capabilities == {"generate"}
    answer = await cascade.generate(CHAT)
    assert (answer.samples[0].text, answer.served_by) == ("42", "strong")


def said(text, logprob=-0.1, finish="stop"):
    return Completion((Sample(text, finish, logprob, (logprob,) * 11),), Usage(3, 2), 0.001, 0.01)


async def test_a_text_is_served_by_its_signal_and_all_attempts_are_billed():
    tiers = pair({"generate": [said("4", -0.05), said("5", -2.0)]}, {"generate": [said("6")]})
    cascade = Cascade(tiers, policy(tiers, CHAT, {"text": [0.8]}))
    first, second = await cascade.generate(CHAT), await cascade.generate(CHAT)
    assert [(one.samples[0].text, one.served_by) for one in (first, second)] == [("4", "small"), ("6", "strong")]
    assert (second.usage, second.cost) == (Usage(6, 4, 0, 2), pytest.approx(0.002))


async def test_a_text_that_breaks_its_schema_is_escalated_whatever_its_score():
    pytest.importorskip("jsonschema")
    asked = replace(CHAT, schema={"type": "object", "required": ["n"]})
    script = [said("{"), said('{"m": 1}'), said('{"n": 1}')]
    tiers = pair({"generate": script}, {"generate": [said('{"n": 2}')] * 2})
    cascade = Cascade(tiers, policy(tiers, asked, {"text": [0.0]}))
    routed = [await cascade.route_text(asked) for _ in script]
    assert [one.answers[0].tier for one in routed] == ["strong", "strong", "small"]
    assert routed[0].attempts[0].judgements[0].reason is Reason.INVALID


async def test_an_invalid_draft_is_no_fallback():
    pytest.importorskip("jsonschema")
    asked = replace(CHAT, schema={"type": "object"})
    tiers = pair({"generate": [said("{")]}, {"generate": [], "faults": [ServerError("down")]})
    with pytest.raises(ServerError):
        await Cascade(tiers, policy(tiers, asked, {"text": [0.0]})).generate(asked)


async def test_refusals_of_texts_are_escalated_and_the_last_ones_raised():
    small = {"generate": [said("no", finish="refusal")], "faults": [RefusalError("no")]}
    tiers = pair(small, {"generate": [said("yes")], "faults": {1: RefusalError("never")}})
    cascade = Cascade(tiers, policy(tiers, CHAT, {"text": [0.0]}))
    assert (await cascade.generate(CHAT)).samples[0].text == "yes"
    with pytest.raises(RefusalError, match="'strong' declined"):
        await cascade.generate(CHAT)


async def test_an_engine_that_gives_too_few_answers_is_passed_over():
    cascade, _ = two([Decisions(())], ["good"])
    routed = await cascade.route(row())
    assert (routed.attempts[0].error, routed.answers[0].tier) == ("InvalidOutputError", "strong")


async def test_a_cancelled_request_leaves_nothing_running():
    tiers = pair({"decide": sure(0.6), "latency": 0.01}, {"decide": sure(0.9), "latency": 30.0})
    cascade = Cascade(tiers, policy(tiers, row(), {"mood": [0.8]}))
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(cascade.decide(row()))
    await asyncio.sleep(0.05)
    assert tiers["strong"].requests
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before


async def test_a_thousand_requests_at_once_keep_their_order_and_all_attempts_are_billed():
    def small(request):
        number = int(request.state)
        return {"good": 0.9, "bad": 0.1} if number % 3 else {"good": 0.6, "bad": 0.4}

    faults = {number: ServerError("down") for number in range(0, 1000, 10)}
    tiers = pair({"decide": small, "latency": 0.001, "faults": faults}, {"decide": sure(0.2), "latency": 0.002})
    cascade = Cascade(tiers, policy(tiers, row(), {"mood": [0.8]}))
    answers = await asyncio.gather(*(cascade.decide(row(str(number))) for number in range(1000)))
    failed = {int(tiers["small"].requests[call].state) for call in faults}
    for number, found in enumerate(answers):
        escalated = number % 3 == 0 or number in failed
        (answer,) = found.answers
        assert (answer.served_by, answer.top) == (("strong", 1) if escalated else ("small", 0))
        assert found.usage.calls == 1 + escalated
    assert len(tiers["strong"].requests) == sum(found.usage.calls for found in answers) - 1000


async def test_closing_closes_every_tier_even_where_one_cannot():
    class Stuck:
        identity, capabilities, concurrency = scripted("small", decide=[]).identity, frozenset({"decide"}), 1

        async def aclose(self):
            raise ServerError("stuck")

    tiers = {"small": Stuck(), "strong": scripted("strong", decide=[])}
    with pytest.raises(ServerError, match="stuck"):
        await Cascade(tiers, policy(tiers, row(), {})).aclose()
    assert tiers["strong"].closed


async def test_the_preview_is_of_the_tier_that_is_asked_first():
    asked = row("fine", MOOD, FUN)
    tiers = pair({"decide": sure(0.9)}, {"decide": sure(0.9)})
    cascade = Cascade(tiers, policy(tiers, asked, {"mood": [0.8]}))
    shown = await cascade.preview(asked)
    assert [preview.question for preview in shown] == ["mood", "fun"]
    assert all(preview.prompt.startswith("fine") for preview in shown)


async def test_no_questions_no_answers():
    cascade, tiers = two(sure(0.9), sure(0.9))
    assert (await cascade.decide(replace(row(), questions=()))).answers == ()
    assert not tiers["small"].requests


async def test_the_thin_answer_is_the_decision_of_the_tier():
    cascade, _ = two([(0.9, 0.1)], [])
    (answer,) = (await cascade.decide(row())).answers
    assert answer == Decision((math.log(0.9), math.log(0.1)), None, "scripted", "small")


async def test_a_cascade_labels_a_corpus_and_its_answers_are_paid_once(tmp_path):
    def small(request):
        sure = 0.95 if "plain" in request.state else 0.55
        return {"good": sure, "bad": 1 - sure} if "fine" in request.state else {"good": 1 - sure, "bad": sure}

    source = tmp_path / "films.jsonl"
    rows = [
        {"id": f"d{i}", "text": f"a {'fine' if i % 2 else 'poor'} film {'plain' if i % 5 else ''} {i}"}
        for i in range(60)
    ]
    source.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    task = classify(["bad", "good"], "How is the film?")
    strong = scripted("strong", decide=lambda request: "good" if "fine" in request.state else "bad")
    tiers = {"small": scripted("small", decide=small), "strong": strong}
    asked = task.decide_request(Document("x", "x"))
    name = asked.questions[0].name
    plan, store = Plan(screening=Screening(near=None)), Store(tmp_path / "films.duckdb")
    for limit, calls, escalated in ((0.8, 72, 12), (0.8, 0, 12), (0.99, 120, 72)):
        cascade = Cascade(tiers, policy(tiers, asked, {name: [limit]}))
        result = await curate(task, cascade, store, source=open_source(str(source)), plan=plan)
        assert (result.progress.usage.calls, len(strong.requests)) == (calls, escalated)
        assert {row.output.label for row in result.rows() if "fine" in row.document.text} == {"good"}
        assert result.version.rows == 60
