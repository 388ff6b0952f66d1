"""The whole life of one question's live risk: audits, an alarm, tightening, a restart."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import numpy as np
import pytest

from cascade.live import MOST_PENDING, AuditRecord, LiveRisk, LiveSettings, ladder
from cascade.live_state import LiveState
from cascade.policy import Certificate, QuestionPolicy, Rule, Scorer, Verdict
from curator.errors import ConfigError, InputError

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SETTINGS = LiveSettings(share=0.2, delta=0.1)


def policy(*path: float | None, alpha: float = 0.1, threshold: float | None = 0.5) -> QuestionPolicy:
    certificate = Certificate(
        basis="vs_teacher", verdict=Verdict.PASS, reason="", alpha=alpha, delta=0.1, rows=500, risk=0.05, bound=0.09,
        shares=(0.8, 0.2),
    )  # fmt: skip
    rule = Rule(tier="small", scorer=Scorer(signals=("margin",), weights=(1.0,)), threshold=threshold)
    steps = tuple((step,) for step in path)
    return QuestionPolicy(name="label", fingerprint="f1", rules=(rule,), certificate=certificate, path=steps)


def watch(found: QuestionPolicy, settings: LiveSettings = SETTINGS, seed: int = 0, **more: LiveState) -> LiveRisk:
    return LiveRisk(found, settings, coin=random.Random(seed), **more)


def stream(live: LiveRisk, queries: int, risk: float, *, seed: int = 1, begin: int = 0) -> int:
    """Serve accepted answers of which a share `risk` is not the teacher's; returns how many before an alarm."""
    rng, alarms = np.random.default_rng(seed), len(live.alarms)
    for number in range(queries):
        audit = live.serve(f"q{begin + number}", "small", 0.9, NOW)
        if audit is not None:
            live.settle(audit, bool(rng.random() < risk))
        if len(live.alarms) > alarms:
            return number + 1
    return queries


def test_an_audit_says_what_it_is_about() -> None:
    live = watch(policy(), LiveSettings(share=1.0))
    audit = live.serve("q1", "small", 0.7, NOW)
    assert audit == AuditRecord("q1", "f1", "small", 0.7, 1.0, NOW)
    assert live.settle(audit, True).disagreed is True
    assert live.serve("q2", "strong", float("nan"), NOW) is None
    counts = live.counts
    assert (counts.queries, counts.accepted, counts.audits, counts.settled, counts.disagreed) == (2, 1, 1, 1, 1)
    assert live.estimate().risk == 0.5


def test_the_share_is_kept_and_may_be_raised_for_one_answer() -> None:
    live = watch(policy(), LiveSettings(share=0.1))
    drawn = sum(live.serve(f"q{n}", "small", 0.9, NOW) is not None for n in range(4000))
    assert 330 < drawn < 470
    audit = live.serve("near the threshold", "small", 0.51, NOW, probability=1.0)
    assert audit is not None
    assert audit.probability == 1.0
    for impossible in (0.05, 1.1):
        with pytest.raises(InputError, match="audit probability"):
            live.serve("q", "small", 0.9, NOW, probability=impossible)


def test_the_estimate_holds_the_risk() -> None:
    live = watch(policy())
    stream(live, 5000, 0.06)
    found = live.estimate()
    assert found.low < 0.06 < found.high < 0.1
    assert found.risk == pytest.approx(0.06, abs=0.02)
    assert not live.alarms


def test_an_alarm_goes_down_the_certified_path_and_ends_at_the_teacher() -> None:
    live = watch(policy(0.6, 0.7, 0.8, 0.9, 0.95))
    seen = []
    for step in range(3):
        assert not live.failed_safe
        seen.append(live.thresholds)
        assert stream(live, 3000, 0.4, begin=step * 3000) < 1000
        assert live.counts.queries == 0
    assert seen == [(0.5,), (0.8,), (0.95,)]
    assert live.thresholds == (None,)
    assert live.failed_safe
    assert [alarm.level for alarm in live.alarms] == [0, 3, 5]
    assert all(0.2 < alarm.risk < 0.7 for alarm in live.alarms)


def test_without_a_path_the_teacher_is_next() -> None:
    live = watch(policy())
    stream(live, 3000, 0.4)
    assert live.failed_safe
    assert ladder(policy()) == ((0.5,), (None,))


def test_thresholds_do_not_come_back_when_the_risk_does() -> None:
    live = watch(policy(0.7))
    stream(live, 3000, 0.4)
    stream(live, 3000, 0.0, begin=5000)
    assert live.thresholds == (0.7,)


def test_answers_in_any_order_come_to_the_same() -> None:
    """The test goes by the order of serving, whenever the teacher answers."""
    values = []
    for late in (1, 40):
        live, rng, open_audits = watch(policy(), seed=5), np.random.default_rng(6), []
        order = random.Random(7)
        for number in range(600):
            if (audit := live.serve(f"q{number}", "small", 0.9, NOW)) is not None:
                open_audits.append((audit, bool(rng.random() < 0.1)))
            if len(open_audits) >= late:
                live.settle(*open_audits.pop(order.randrange(len(open_audits))))
        order.shuffle(open_audits)
        for audit, disagreed in open_audits:
            live.settle(audit, disagreed)
        values.append((live.estimate(), live.state.wealth))
    assert values[0] == values[1]


def test_audits_without_an_answer_are_in_the_interval_only() -> None:
    lost, whole = watch(policy(), seed=8), watch(policy(), seed=8)
    for number in range(500):
        for live in (lost, whole):
            if (audit := live.serve(f"q{number}", "small", 0.9, NOW)) is not None:
                live.settle(audit, None if live is lost and number % 4 == 0 else False)
    found, other = lost.estimate(), whole.estimate()
    assert found.lost == lost.counts.audits - lost.counts.settled > 10
    assert other.lost == 0
    assert found.high > other.high
    assert found.evidence == other.evidence


def test_what_waits_is_bounded() -> None:
    live = watch(policy(), LiveSettings(share=1.0))
    audits = [live.serve(f"q{number}", "small", 0.9, NOW) for number in range(MOST_PENDING + 5)]
    assert live.estimate().lost == 5
    assert audits[0] is not None
    live.settle(audits[0], True)
    assert live.counts.settled == 0


def test_an_audit_from_before_the_alarm_changes_nothing() -> None:
    live = watch(policy(0.7), LiveSettings(share=1.0))
    late = live.serve("late", "small", 0.9, NOW)
    others = [live.serve(f"q{number}", "small", 0.9, NOW) for number in range(60)]
    first, *rest = [audit for audit in (late, *others) if audit is not None]
    live.settle(first, True)
    for audit in rest[:40]:
        live.settle(audit, True)
    assert live.level == 1
    before = live.state
    live.settle(rest[-1], True)
    assert live.state == before


def test_an_id_whose_audit_is_on_its_way_is_refused() -> None:
    live = watch(policy(), LiveSettings(share=1.0))
    live.serve("q1", "small", 0.9, NOW)
    with pytest.raises(InputError, match="'q1' is not unique"):
        live.serve("q1", "small", 0.9, NOW)


def test_a_restart_goes_on_where_it_was() -> None:
    """Half a stream, a restart through JSON, the other half: the same as the whole."""
    whole = watch(policy(0.7), seed=9)
    stream(whole, 400, 0.15, seed=10)
    middle = LiveState.model_validate_json(whole.state.model_dump_json())
    again = watch(policy(0.7), seed=11, state=middle)
    assert again.state == whole.state
    whole._coin = random.Random(11)
    for live in (whole, again):
        stream(live, 800, 0.15, seed=12, begin=400)
    assert again.state == whole.state
    assert len(whole.state.model_dump_json()) < 1000


def test_a_restart_loses_what_was_on_its_way() -> None:
    live = watch(policy(), LiveSettings(share=1.0))
    audit = live.serve("q1", "small", 0.9, NOW)
    again = watch(policy(), LiveSettings(share=1.0), state=live.state)
    assert audit is not None
    again.settle(audit, True)
    assert again.estimate().lost == 1
    assert again.estimate().high == 1.0


def test_only_a_new_certificate_brings_the_thresholds_back() -> None:
    live = watch(policy(0.7))
    stream(live, 3000, 0.4)
    assert watch(policy(0.7), state=live.state).thresholds == (0.7,)
    recertified = watch(policy(0.7, threshold=0.6), state=live.state)
    assert recertified.thresholds == (0.6,)
    assert not recertified.alarms


def test_the_state_of_another_question_is_refused() -> None:
    other = policy().model_copy(update={"fingerprint": "f2"})
    with pytest.raises(InputError, match="is of the question f1, the policy of f2"):
        watch(other, state=watch(policy()).state)


def test_another_share_counts_anew_and_stays_tight() -> None:
    live = watch(policy(0.7))
    stream(live, 3000, 0.4)
    stream(live, 100, 0.0)
    again = watch(policy(0.7), LiveSettings(share=0.5), state=live.state)
    assert again.thresholds == (0.7,)
    assert again.counts.queries == 0
    assert again.alarms == live.alarms


def test_a_certificate_against_the_truth_needs_an_alpha_of_its_own() -> None:
    found = policy()
    truth = found.model_copy(update={"certificate": found.certificate.model_copy(update={"basis": "vs_truth"})})
    with pytest.raises(ConfigError, match="certified against the truth"):
        watch(truth)
    assert watch(truth, LiveSettings(alpha=0.2)).bets.alpha == 0.2


def test_a_risk_of_nothing_cannot_be_watched() -> None:
    with pytest.raises(ConfigError, match="alpha is 0"):
        watch(policy(alpha=0.0))


def test_settings_out_of_range_are_refused() -> None:
    for bad in ({"share": 0.0}, {"share": 1.5}, {"delta": 1.0}, {"delta": 0.0}):
        with pytest.raises(ValueError, match="Input should be"):
            LiveSettings(**bad)
