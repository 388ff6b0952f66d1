"""The `goldless` block and the response headers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import orjson
import pytest

from cascade.routed import Attempt, Outcome, Routed, Served
from cascade.router import Cascade
from cascade.wire.extras import HEADERS, decision_block, headers, text_block
from curator.types import Sample
from tests.cascade.route_builders import CHAT, FUN, MOOD, policy, row, scripted
from tests.cascade.wire.wire_builders import as_json, decision, escalated, served, texts

pytestmark = pytest.mark.anyio


def test_a_texts_block_has_everything_that_is_known():
    block = as_json(text_block(texts(Sample("hi")), "EUR"))
    assert block["tier"] == "strong"
    assert (block["outcome"], block["confidence"], block["basis"], block["certified"]) == (
        "teacher",
        0.9,
        "reference:strong",
        True,
    )
    assert block["certificate"] == {"verdict": "PASS", "alpha": 0.05, "bound": 0.04, "basis": "vs_teacher"}
    assert block["cost"] == {"amount": pytest.approx(0.011), "currency": "EUR", "baseline": 0.01}
    assert [attempt["tier"] for attempt in block["attempts"]] == ["small", "strong"]
    assert "note" not in block


def test_the_total_is_the_sum_of_the_attempts():
    block = as_json(text_block(texts(Sample("hi")), "USD"))
    for key, total in block["usage"].items():
        assert total == sum(attempt["usage"][key] for attempt in block["attempts"])


def test_decisions_are_told_one_by_one_under_the_clients_names():
    parts = [served(decision(0.9, 0.1), "mood", "small"), served(decision(0.9, 0.1), "question_1", certified=False)]
    block = as_json(decision_block(escalated(*parts), "USD", ["mood", None]))
    assert [(one["question"], one["tier"]) for one in block["answers"]] == [("mood", "small"), (None, "strong")]
    assert block["certified"] is False


def test_failed_attempts_and_notes_are_told():
    block = as_json(text_block(escalated(served(None, note="it has expired"), failed="ServerError"), "USD"))
    assert [attempt.get("error") for attempt in block["attempts"]] == ["ServerError", None]
    assert block["note"] == "it has expired"


def test_what_is_unknown_is_null_and_has_no_header():
    one = Served("text", None, "strong", Outcome.REFUSED, math.nan, "raw", certified=False)
    routed = Routed((one,), (Attempt("strong", (), texts().usage, None, 0.1),), 0.1)
    block = as_json(text_block(routed, "USD"))
    assert (block["confidence"], block["certificate"]) == (None, None)
    assert block["cost"] == {"amount": None, "currency": "USD", "baseline": None}
    assert headers(routed, "USD") == {"x-goldless-tier": "strong", "x-goldless-certified": "false"}


def test_the_headers_sum_up_all_answers():
    parts = [served(decision(0.9, 0.1), "a", "small", 0.8), served(decision(0.9, 0.1), "b", certified=False)]
    found = headers(escalated(*parts), "USD")
    assert found == {
        "x-goldless-tier": "small,strong",
        "x-goldless-confidence": "0.8000",
        "x-goldless-certified": "false",
        "x-goldless-cost": "0.01100000 USD",
    }
    assert found.keys() == set(HEADERS)


async def test_the_certificate_of_a_real_route_is_told():
    tiers = {
        "small": scripted("small", decide=[{"mood": {"good": 0.95, "bad": 0.05}, "fun": {"yes": 0.6, "no": 0.4}}]),
        "strong": scripted("strong", decide=[[0.3, 0.7]]),
    }
    asked = row("fine", MOOD, FUN)
    cascade = Cascade(tiers, policy(tiers, asked, {"mood": [0.9], "fun": [0.9]}))
    block = decision_block(await cascade.route(asked), "USD", ["mood", "fun"])
    assert [(one["tier"], one["outcome"], one["certificate"]["verdict"]) for one in block["answers"]] == [
        ("small", "accepted", "PASS"),
        ("strong", "teacher", "PASS"),
    ]


async def test_what_no_certificate_covers_has_none():
    tiers = {name: scripted(name, decide=[[0.3, 0.7]], generate=["42"]) for name in ("small", "strong")}
    cascade = Cascade(tiers, policy(tiers, CHAT, {"text": [0.9]}))
    (one,) = decision_block(await cascade.route(row()), "USD", ["mood"])["answers"]
    assert (one["tier"], one["certified"], one["certificate"]) == ("strong", False, None)
    assert one["note"] == "the policy does not know it"


def test_the_page_shows_the_block_as_it_is():
    page = (Path(__file__).parents[3] / "docs" / "gateway-api.md").read_text(encoding="utf-8")
    shown = orjson.loads(re.search(r"```json\n(.+?)```", page, re.DOTALL)[1])
    assert _keys(shown) == _keys(as_json(text_block(texts(Sample("hi")), "USD")))


def _keys(value):
    if isinstance(value, dict):
        return {key: _keys(inner) for key, inner in value.items()}
    return [_keys(inner) for inner in value] if isinstance(value, list) else None
