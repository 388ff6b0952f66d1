"""Signals by name: in [0, 1], higher is surer, NaN where unknown."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from route_builders import CHAT, MOOD

from cascade.signals import (
    KNOWN,
    concentration,
    decision_signals,
    decision_table,
    free_signals,
    parse_signal,
    text_signals,
)
from curator.confidence import SIGNALS, log_normalise
from curator.errors import InputError
from curator.types import Completion, Decision, Option, Question, Sample

SCALE = Question("stars", "score", "How many stars?", tuple(Option(str(n)) for n in range(1, 6)))
ALL = [parse_signal(name) for name in ("top_probability", "margin", "certainty", "label_mass", "concentration")]


def decided(*probabilities, mass=None):
    logs = tuple(math.log(p) if p else -math.inf for p in probabilities)
    return Decision(logs, mass, "labels")


def test_the_signals_of_a_decision():
    found = decision_table(ALL, [decided(0.45, 0.05, mass=0.5), None, decided(1.0, 0.0)], MOOD)
    assert found["top_probability"] == pytest.approx([0.9, np.nan, 1.0], nan_ok=True)
    assert found["margin"] == pytest.approx([0.8, np.nan, 1.0], nan_ok=True)
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
    assert found["certainty"] == pytest.approx([1 - entropy, np.nan, 1.0], nan_ok=True)
    assert found["label_mass"] == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)
    assert np.isnan(found["concentration"]).all()


def test_concentration_knows_that_neighbours_nearly_agree():
    near, far = decided(0.5, 0.5, 0, 0, 0), decided(0.5, 0, 0, 0, 0.5)
    found = decision_table(ALL, [near, far, decided(0, 0, 1, 0, 0)], SCALE)
    assert found["top_probability"][:2] == pytest.approx([0.5, 0.5])
    assert found["concentration"] == pytest.approx([0.75, 0.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5).filter(lambda row: sum(row) > 0.01))
def test_concentration_lies_in_the_unit_interval(row):
    assert 0 <= concentration([value / sum(row) for value in row]) <= 1


LOGPROBS = st.floats(-40, 0) | st.just(-math.inf)
DECISIONS = st.none() | st.builds(
    lambda logs, mass: Decision(tuple(logs), mass, "labels"),
    st.lists(LOGPROBS, min_size=5, max_size=5),
    st.none() | st.floats(0, 1.1),
)


@given(st.lists(DECISIONS, max_size=6))
def test_a_table_holds_to_the_last_bit_what_a_router_sees_of_one_answer(decisions):
    table = decision_table(ALL, decisions, SCALE)
    assert list(table) == [spec.name for spec in ALL]
    for row, decision in enumerate(decisions):
        alone = decision_signals(ALL, decision, SCALE)
        assert {name: alone[name].hex() for name in alone} == {name: float(table[name][row]).hex() for name in table}


@given(st.lists(LOGPROBS, min_size=2, max_size=6))
def test_they_are_the_curators_own_signals(logs):
    found = decision_signals(ALL, Decision(tuple(logs), None, "labels"), MOOD)
    chances = np.exp(log_normalise(np.array([logs])))
    for name, signal in SIGNALS.items():
        assert found[name] == pytest.approx(signal(chances)[0], abs=1e-11, nan_ok=True)
    assert math.isnan(found["label_mass"])


@pytest.mark.parametrize("logs", [(math.nan, -1.0), (-1.0, math.nan), (-math.inf, -math.inf), (math.inf, -1.0)])
def test_what_is_no_distribution_has_no_signal(logs):
    found = decision_signals(ALL, Decision(logs, 0.5, "labels"), MOOD)
    assert {name for name, value in found.items() if not math.isnan(value)} == {"label_mass"}


def test_the_signals_of_a_text():
    specs = [parse_signal(name) for name in ("sequence_probability", "token_quantile:0.1", "token_quantile:0.25")]
    deciles = tuple(np.linspace(-5, 0, 11).tolist())
    found = text_signals(specs, Completion((Sample("x", "stop", -1.0, deciles), Sample("y"))), CHAT)
    logs = {name: math.log(value) for name, value in found.items()}
    assert logs == pytest.approx(
        {"sequence_probability": -1.0, "token_quantile:0.1": -4.5, "token_quantile:0.25": -3.75}
    )
    unknown = text_signals(specs, Completion((Sample("x"),)), CHAT)
    assert all(math.isnan(value) for value in unknown.values())
    assert all(math.isnan(value) for value in text_signals(specs, None, CHAT).values())


def test_validity_is_of_all_samples():
    pytest.importorskip("jsonschema")
    asked, spec = replace(CHAT, schema={"type": "object"}), [parse_signal("valid")]
    assert text_signals(spec, Completion((Sample("{}"), Sample("{}"))), asked) == {"valid": 1.0}
    assert text_signals(spec, Completion((Sample("{}"), Sample("{"))), asked) == {"valid": 0.0}
    assert text_signals(spec, Completion((Sample("{"),)), CHAT) == {"valid": 1.0}


def test_a_name_says_what_it_needs():
    assert parse_signal("agreement").count == 5
    assert parse_signal("agreement:3").count == 3
    assert parse_signal("agreement:3").needs == "samples"
    assert parse_signal("order_agreement").needs == "calls"
    assert parse_signal("margin").needs == "answer"
    assert {spec for spec in KNOWN if "order" in spec} == {"order_agreement"}


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("margn", "did you mean 'margin'"),
        ("zzz", "known signals: top_probability"),
        ("margin:2", "takes no parameter"),
        ("agreement:1", "a whole number from 2 to 64"),
        ("agreement:2.5", "a whole number"),
        ("token_quantile:1.5", "a number from 0 to 1"),
        ("token_quantile:nan", "a number from 0 to 1"),
    ],
)
def test_a_name_that_is_none_says_so(name, match):
    with pytest.raises(InputError, match=match):
        parse_signal(name)


def test_free_signals_cost_no_call():
    for kind in ("decide", "generate"):
        assert all(parse_signal(name).needs in ("answer", "tier") for name in free_signals(kind))
    assert "concentration" in free_signals("decide", "score")
    assert "concentration" not in free_signals("decide")
