"""Every tier asked about the same requests; what fails is unknown and stops nothing."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
from route_builders import CHAT, FUN, MOOD, policy, row, scripted

from cascade.outcomes import serve
from cascade.policy import Scorer
from cascade.record import record, record_texts
from cascade.route import Tier
from cascade.router import Cascade
from curator.errors import InputError, RefusalError, ServerError
from curator.types import Completion, Message, Price, Sample, Template, Usage

pytestmark = pytest.mark.anyio
CENT = Price(1e4, 0.0)
"""A hundredth per input token."""


def reader(share):
    return lambda request: {q.name: {q.labels[0]: share, q.labels[1]: 1 - share} for q in request.questions}


async def test_outcomes_have_answers_signals_costs_and_latencies_of_every_tier():
    small = scripted("small", decide=[(0.9, 0.1), None, (0.4, 0.6)], latency=0.01)
    strong = scripted("strong", decide=["good", "bad", "good"], faults={2: ServerError("down")})
    requests = [row(state) for state in ("fine", "so so", "sad sad sad")]
    found = await record([Tier("small", small, CENT), Tier("strong", strong)], requests, ids=("a", "b", "c"))
    outcomes = found.outcomes["mood"]
    assert outcomes.tiers == ("small", "strong")
    assert outcomes.answers.tolist() == [[0, 0], [-1, 1], [1, -1]]
    assert outcomes.ids == ("a", "b", "c")
    assert outcomes.signals["top_probability"][:, 0] == pytest.approx([0.9, np.nan, 0.6], nan_ok=True)
    assert outcomes.signals["tier_agreement"] == pytest.approx(
        np.array([[np.nan, 1.0], [np.nan, np.nan], [np.nan, np.nan]]), nan_ok=True
    )
    assert "label_mass" not in outcomes.signals
    assert outcomes.cost[:, 0] == pytest.approx([0.01, 0.02, 0.03])
    assert np.isnan(outcomes.cost[:, 1]).all()
    assert outcomes.latency[:, 0] == pytest.approx([0.01] * 3)
    assert np.isnan(outcomes.latency[2, 1])
    assert found.failures == {"small": {"RefusalError": 1}, "strong": {"ServerError": 1}}


async def test_several_questions_share_a_requests_cost():
    tiers = [Tier(name, scripted(name, decide=reader(0.9)), CENT) for name in ("small", "strong")]
    template = Template(order="state_first")
    both, one = (replace(asked, template=template) for asked in (row("one two", MOOD, FUN), row("three", FUN)))
    found = await record(tiers, [both, one])
    assert {name: len(outcomes) for name, outcomes in found.outcomes.items()} == {"mood": 1, "fun": 2}
    assert found.outcomes["fun"].cost[:, 0] == pytest.approx([0.01, 0.01])
    assert found.outcomes["mood"].cost[:, 0] == pytest.approx([0.01])


async def test_signals_that_cost_calls_are_paid_and_not_made_of_the_teacher():
    engines = {name: scripted(name, decide=reader(0.9)) for name in ("small", "strong")}
    tiers = [Tier(name, engine, CENT) for name, engine in engines.items()]
    found = (await record(tiers, [row("one two")], signals=("margin", "order_agreement"))).outcomes["mood"]
    assert found.signals["order_agreement"] == pytest.approx(np.array([[0.0, np.nan]]), nan_ok=True)
    assert found.cost == pytest.approx(np.array([[0.04, 0.02]]))
    assert [len(engine.requests) for engine in engines.values()] == [2, 1]


async def test_no_more_requests_are_in_flight_than_the_engine_takes():
    class Watched:
        def __init__(self):
            self.inner = scripted("w", decide=reader(0.9))
            self.identity, self.capabilities, self.concurrency = self.inner.identity, self.inner.capabilities, 7
            self.busy = self.most = 0

        async def decide(self, request):
            self.busy += 1
            self.most = max(self.most, self.busy)
            await asyncio.sleep(0.001)
            self.busy -= 1
            return await self.inner.decide(request)

    engine = Watched()
    found = await record([Tier("w", engine)], [row(str(number)) for number in range(50)])
    assert (engine.most, len(found.outcomes["mood"])) == (7, 50)


async def test_free_answers_are_alike_where_they_answer_the_same():
    said = {
        "small": ["Answer: 4", "no idea", "", RefusalError("no")],
        "medium": ["Answer: 4.0", "Answer: 5", "Answer: 1", "Answer: 2"],
        "strong": ["2 + 2 = 4. Answer: 4", "Answer: 5", "Answer: 1", "Answer: 2"],
    }
    tiers = []
    for name, texts in said.items():
        faults = [text if isinstance(text, Exception) else None for text in texts]
        script = [text for text in texts if isinstance(text, str)]
        tiers.append(Tier(name, scripted(name, generate=script, faults=faults, concurrency=1)))
    asked = [replace(CHAT, messages=(Message("user", str(number)),)) for number in range(4)]
    found = await record_texts(tiers, asked)
    outcomes = found.outcomes["text"]
    assert outcomes.answers.tolist() == [[0, 0, 0], [0, 1, 1], [-1, 0, 0], [-1, 0, 0]]
    assert outcomes.signals["tier_agreement"][:, 2].tolist() == [1, 1, 1, 1]
    assert found.failures["small"] == {"RefusalError": 1}


async def test_an_invalid_text_has_no_signal_that_could_serve_it():
    pytest.importorskip("jsonschema")
    texts = [Completion((Sample(text, "stop", -0.1),), Usage(1, 1)) for text in ("{", "{}")]
    tiers = [Tier("small", scripted("small", generate=texts)), Tier("strong", scripted("strong", generate=["{}"] * 2))]
    asked = [replace(CHAT, schema={"type": "object"})] * 2
    outcomes = (await record_texts(tiers, asked)).outcomes["text"]
    assert outcomes.signals["sequence_probability"][:, 0] == pytest.approx([np.nan, math.exp(-0.1)], nan_ok=True)
    assert outcomes.signals["valid"][:, 0].tolist() == [0.0, 1.0]


async def test_replaying_a_rule_on_the_record_serves_what_the_cascade_serves():
    def small(request):
        share = int(request.state) / 100
        return None if int(request.state) % 9 == 0 else {"good": share, "bad": 1 - share}

    engines = {"small": scripted("small", decide=small), "strong": scripted("strong", decide=reader(0.9))}
    requests = [row(str(number)) for number in range(1, 100)]
    outcomes = (await record([Tier(*pair) for pair in engines.items()], requests)).outcomes["mood"]
    scorer = Scorer(signals=("margin", "top_probability"), weights=(0.5, 0.5))
    table = np.stack([outcomes.signals[name][:, 0] for name in scorer.signals], axis=1)
    replayed = serve(scorer.score(table)[:, None], np.array([0.6]))
    cascade = Cascade(engines, policy(engines, row(), {"mood": [0.6]}, scorer=scorer))
    served = [(await cascade.route(request)).answers[0].tier for request in requests]
    assert served == [outcomes.tiers[tier] for tier in replayed]
    assert {"small", "strong"} == set(served)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"requests": [row(), row("x", replace(MOOD, instructions="?"))]}, "request 1 asks 'mood' in another way"),
        ({"requests": []}, "nothing to ask"),
        ({"ids": ("a", "b")}, "2 ids for 1 requests"),
        ({"signals": ("margn",)}, "did you mean 'margin'"),
        ({"tiers": []}, "none given"),
        ({"tiers": [Tier("a", scripted("a", decide=[]))] * 2}, "a, a$"),
    ],
)
async def test_bad_input_says_what_is_wrong(change, match):
    given = {"tiers": [Tier("a", scripted("a", decide=["good"]))], "requests": [row()], **change}
    with pytest.raises(InputError, match=match):
        await record(**given)
