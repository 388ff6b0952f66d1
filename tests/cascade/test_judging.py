"""One answer under one rule: what is looked at, in which order, and what it takes."""

from __future__ import annotations

import math

import pytest
from route_builders import CHAT, row, scripted

from cascade.asking import Deciding, Generating
from cascade.judging import judge
from cascade.policy import Rule, Scorer
from cascade.routed import Reason
from curator.engines.exchanges import current_purpose
from curator.errors import ServerError
from curator.types import Completion, Decision, Sample, Usage

pytestmark = pytest.mark.anyio
SURE, OTHER = Decision((math.log(0.9), math.log(0.1)), 0.8, "labels"), Decision((-3.0, -0.1), None, "labels")


def rule(*signals: str, threshold: float | None = 0.5) -> Rule:
    weights = tuple(1 / len(signals) for _ in signals)
    return Rule(tier="small", scorer=Scorer(signals=signals, weights=weights), threshold=threshold)


async def judged(found: Rule, answer=SURE, before=None, engine=None):
    return await judge(Deciding(row()), 0, answer, before, found, engine or scripted("small", decide=[]))


@pytest.mark.parametrize(
    ("limit", "reason"), [(0.9, Reason.REACHED), (math.nextafter(0.9, 1), Reason.BELOW), (None, Reason.BELOW)]
)
async def test_the_threshold_itself_is_reached(limit, reason):
    score = max(SURE.probabilities)
    shifted = None if limit is None else limit - 0.9 + score
    found = (await judged(rule("top_probability", threshold=shifted))).judgement
    assert (found.reason, found.score, found.signals) == (reason, score, {"top_probability": score})
    assert found.threshold == (math.inf if limit is None else shifted)


async def test_no_answer_is_refused_without_a_look():
    found = await judged(rule("top_probability", "order_agreement:1"), None)
    assert (found.judgement.reason, found.judgement.answer, found.probes) == (Reason.REFUSED, None, ())
    assert math.isnan(found.judgement.score)


async def test_an_invalid_text_is_not_scored():
    pytest.importorskip("jsonschema")
    asking = Generating(CHAT.__class__(CHAT.messages, schema={"type": "object"}))
    answer, engine = Completion((Sample("[1]", logprob=0.0),)), scripted("small", generate=[])
    found = await judge(asking, 0, answer, None, rule("agreement:2", "sequence_probability"), engine)
    assert (found.judgement.reason, found.judgement.signals, found.probes) == (Reason.INVALID, {}, ())
    assert not engine.requests


@pytest.mark.parametrize("signal", ["label_mass", "concentration", "sequence_probability", "tier_agreement"])
async def test_an_unknown_signal_is_never_a_low_one_and_nothing_more_is_asked(signal):
    engine = scripted("small", decide=["good"])
    found = await judged(rule("top_probability", signal, "order_agreement:1", threshold=0.0), OTHER, None, engine)
    assert found.judgement.reason is Reason.UNKNOWN
    assert math.isnan(found.judgement.signals[signal])
    assert math.isnan(found.judgement.signals["order_agreement:1"])
    assert not engine.requests


@pytest.mark.parametrize(("before", "value"), [(SURE, 1.0), (OTHER, 0.0)])
async def test_the_tier_before_agrees_or_does_not(before, value):
    found = (await judged(rule("tier_agreement"), SURE, before)).judgement
    assert found.signals == {"tier_agreement": value}


async def test_calls_are_made_once_the_rest_is_known_and_are_billed():
    engine = scripted("small", decide=lambda request: (0.2, 0.8) if request.state == "fine" else None)
    found = await judged(rule("self_verification", "label_mass", "order_agreement:1"), SURE, None, engine)
    assert set(found.judgement.signals) == {"self_verification", "label_mass", "order_agreement:1"}
    assert not math.isnan(found.judgement.score)
    assert sum((probe.usage for probe in found.probes), Usage(calls=0)).calls == len(engine.requests) == 2


async def test_a_call_that_fails_leaves_the_answer_unjudged():
    engine = scripted("small", decide=[], faults=[ServerError("down")])
    found = await judged(rule("order_agreement:1", threshold=0.0), SURE, None, engine)
    assert found.judgement.reason is Reason.UNKNOWN
    assert [probe.cost for probe in found.probes] == [None]


async def test_a_signal_that_is_named_twice_counts_twice():
    found = (await judged(rule("top_probability", "top_probability"))).judgement
    assert found.score == pytest.approx(0.9)


async def test_the_calls_of_signals_are_probes():
    why = []

    def said(request):
        why.append(current_purpose())
        return "good"

    found = await judged(rule("order_agreement:2"), engine=scripted("small", decide=said))
    assert (why, len(found.probes)) == (["probe"] * len(why), 1)
    assert why
    assert current_purpose() == "request"
