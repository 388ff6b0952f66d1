"""What follows an answer: audits, tightening and the traffic record, on a running cascade."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from route_builders import CHAT, FUN, MOOD, certificate, policy, row, scripted

from cascade.live import LiveSettings
from cascade.observer import Observer
from cascade.policy import Policy
from cascade.router import Cascade
from cascade.rulebook import Wish
from cascade.traffic import TrafficRecord
from cascade.traffic_files import read_traffic
from cascade.traffic_writer import TrafficSettings, TrafficWriter
from curator.engines.base import Engine, request_key
from curator.engines.scripted import ScriptedEngine
from curator.errors import RefusalError, ServerError
from curator.types import Completion, DecideRequest, GenerateRequest, Message, Option, Question, Sample, Usage

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ALWAYS = LiveSettings(share=1.0)


def tiers(strong: str = "good") -> dict[str, ScriptedEngine]:
    """The small tier is sure of "good" but where the state says hard."""
    small = scripted("small", decide=lambda r: [0.9, 0.1] if "hard" not in r.state else [0.6, 0.4])
    return {"small": small, "strong": scripted("strong", decide=lambda _: strong)}


def observer(
    engines: dict[str, ScriptedEngine], found: Policy | None = None, settings: LiveSettings = ALWAYS, **more: object
) -> Observer:
    given: dict[str, Engine] = dict(engines)
    found = found or policy(given, row(), {"mood": [0.8]})
    return Observer(lambda made: Cascade(given, made), found, settings, coin=random.Random(1), **more)


async def ask(watched: Observer, name: str, request: DecideRequest | None = None) -> None:
    request = request or row(f"state {name}")
    await watched.follow(name, request, await watched.cascade.route(request), NOW)


async def test_accepted_answers_are_audited_and_escalated_ones_are_not() -> None:
    engines = tiers("bad")
    watched = observer(engines)
    await ask(watched, "q1")
    await ask(watched, "q2", row("hard"))
    (live,) = watched.live.values()
    counts = live.counts
    assert (counts.queries, counts.accepted, counts.audits, counts.disagreed) == (2, 1, 1, 1)
    assert len(engines["strong"].requests) == 2


async def test_an_alarm_makes_another_cascade_which_asks_the_teacher() -> None:
    engines = tiers("bad")
    watched = observer(engines)
    first = watched.cascade
    for number in range(40):
        await ask(watched, f"q{number}")
    assert watched.cascade is not first
    (live,) = watched.live.values()
    assert live.failed_safe
    routed = await watched.cascade.route(row())
    assert (routed.answers[0].tier, len(routed.attempts)) == ("strong", 1)
    # The next process begins where this one stopped.
    again = observer(engines, states=watched.live_states)
    assert (await again.cascade.route(row())).answers[0].tier == "strong"


async def test_agreement_raises_no_alarm() -> None:
    watched = observer(tiers("good"))
    for number in range(200):
        await ask(watched, f"q{number}")
    (live,) = watched.live.values()
    assert not live.alarms
    assert live.estimate().high < 0.1


async def test_an_answer_from_before_the_alarm_is_not_held_against_the_new_thresholds() -> None:
    engines = tiers("bad")
    watched = observer(engines)
    late = await watched.cascade.route(row("late"))
    for number in range(40):
        await ask(watched, f"q{number}")
    (live,) = watched.live.values()
    before = live.counts.queries
    await watched.follow("late", row("late"), late, NOW)
    assert live.counts.queries == before


async def test_a_teacher_that_fails_leaves_the_audit_lost() -> None:
    engines = tiers()
    engines["strong"] = scripted("strong", decide=lambda _: "good", faults=[ServerError("down")] * 3)
    watched = observer(engines)
    for number in range(4):
        await ask(watched, f"q{number}")
    (live,) = watched.live.values()
    assert (live.estimate().lost, live.counts.settled) == (3, 1)


async def test_a_teacher_that_declines_has_not_given_the_answer_that_was_served() -> None:
    engines = tiers()
    engines["strong"] = scripted("strong", decide=[None, "good"], faults={2: RefusalError("no")})
    watched = observer(engines)
    for number in range(3):
        await ask(watched, f"q{number}")
    (live,) = watched.live.values()
    assert (live.counts.settled, live.counts.disagreed, live.estimate().lost) == (3, 2, 0)


STARS = Question("stars", "score", "How many stars?", tuple(map(Option, "12345")))


@pytest.mark.parametrize(("tolerance", "disagreed"), [(0, 2), (1, 1), (2, 0)])
async def test_a_score_within_the_certificates_tolerance_does_not_disagree(tolerance: int, disagreed: int) -> None:
    engines = {
        "small": scripted("small", decide=lambda _: [0.01, 0.01, 0.96, 0.01, 0.01]),
        "strong": scripted("strong", decide=lambda request: {"one": "4", "two": "5", "same": "3"}[request.state]),
    }
    held = certificate(tolerance=tolerance)
    watched = observer(engines, policy(dict(engines), row("", STARS), {"stars": [0.8]}, certified=held))
    for state in ("one", "two", "same"):
        await ask(watched, state, row(state, STARS))
    (live,) = watched.live.values()
    assert (live.counts.settled, live.counts.disagreed) == (3, disagreed)


async def test_what_was_served_because_the_teacher_failed_is_not_counted() -> None:
    engines = tiers()
    engines["strong"] = scripted("strong", decide=lambda _: "good", faults=[ServerError("down")])
    watched = observer(engines)
    await ask(watched, "q1", row("hard"))
    (live,) = watched.live.values()
    assert live.counts.queries == 0


async def test_a_question_without_a_certificate_is_not_watched() -> None:
    engines = tiers()
    watched = observer(engines)
    await ask(watched, "q1", row("fine", FUN))
    (live,) = watched.live.values()
    assert live.counts.queries == 0


async def test_the_record_holds_all_that_was_said(tmp_path: Path) -> None:
    engines = {
        "small": scripted("small", decide=lambda _: {"mood": [0.9, 0.1], "fun": [0.7, 0.3]}),
        "strong": scripted("strong", decide=lambda request: "bad" if request.questions == (MOOD,) else "yes"),
    }
    both = row("fine", MOOD, FUN)
    found = policy(dict(engines), both, {"mood": [0.8], "fun": [0.99]})
    writer = TrafficWriter(TrafficSettings(folder=tmp_path, content=True))
    watched = observer(engines, found, writer=writer)
    await ask(watched, "q1", both)
    writer.close()
    (record,) = [row.record for row in read_traffic(tmp_path)]
    assert isinstance(record, TrafficRecord)
    assert [(one.question, one.tier, one.value, one.audit, one.disagreed) for one in record.served] == [
        ("mood", "small", "good", 1.0, True),
        ("fun", "strong", "yes", None, None),
    ]
    assert [(item.tier, item.questions) for item in record.answers] == [
        ("small", ("mood", "fun")),
        ("strong", ("fun",)),
        ("strong", ("mood",)),
    ]
    asked = [request for request in engines["strong"].requests if isinstance(request, DecideRequest)]
    assert [item.key for item in record.answers[1:]] == [request_key(engines["strong"].identity, r) for r in asked]
    assert record.request == both
    assert record.served[0].fingerprint == found.questions[0].fingerprint


def text(said: str, logprob: float = -0.05) -> Completion:
    return Completion((Sample(said, logprob=logprob),), Usage(3, 2), 0.001)


def prompt(words: str) -> GenerateRequest:
    return replace(CHAT, messages=(Message("system", "Count."), Message("user", words)))


async def tell(watched: Observer, name: str, words: str = "How many?") -> None:
    request = prompt(words)
    await watched.follow(name, request, await watched.cascade.route_text(request), NOW)


def writers(small: list[Completion], strong: list[Completion | Exception]) -> dict[str, ScriptedEngine]:
    faults = [one if isinstance(one, Exception) else None for one in strong]
    said = [text("") if isinstance(one, Exception) else one for one in strong]
    return {"small": scripted("small", generate=small), "strong": scripted("strong", generate=said, faults=faults)}


async def test_texts_are_audited_by_what_they_answer() -> None:
    small = [text("Answer: 4"), text("Answer: 4"), text("4", -2.0), text("4"), text("4")]
    strong = [text("It is 2 + 2.\nAnswer: 4.0"), text("5"), text("5"), RefusalError("no"), ServerError("down")]
    engines = writers(small, strong)
    watched = observer(engines, policy(dict(engines), prompt(""), {"text": [0.8]}))
    for number in range(len(small)):
        await tell(watched, f"q{number}")
    (live,) = watched.live.values()
    counts = live.counts
    # The third answer is not sure enough: the teacher's is served, and there is nothing to audit.
    assert (counts.queries, counts.accepted, counts.audits, counts.settled, counts.disagreed) == (5, 4, 4, 3, 2)
    assert live.estimate().lost == 1


async def test_texts_that_differ_raise_the_alarm_too() -> None:
    engines = writers([text("4")] * 40, [text("5")] * 80)
    watched = observer(engines, policy(dict(engines), prompt(""), {"text": [0.8]}))
    for number in range(40):
        await tell(watched, f"q{number}")
    (live,) = watched.live.values()
    assert live.failed_safe
    routed = await watched.cascade.route_text(prompt("How many?"))
    assert (routed.answers[0].tier, len(routed.attempts)) == ("strong", 1)


async def test_the_record_of_a_text_says_who_answered_what(tmp_path: Path) -> None:
    engines = writers([text("4"), text("3", -2.0)], [text("5"), RefusalError("never")])
    writer = TrafficWriter(TrafficSettings(folder=tmp_path, content=True))
    watched = observer(engines, policy(dict(engines), prompt(""), {"text": [0.8]}), writer=writer)
    await tell(watched, "q1")
    await tell(watched, "q2")
    writer.close()
    first, second = [row.record for row in read_traffic(tmp_path)]
    assert first is not None
    assert second is not None
    (served,) = first.served
    assert (served.question, served.tier, served.value, served.audit, served.disagreed) == (
        "text", "small", "4", 1.0, True
    )  # fmt: skip
    assert served.fingerprint == watched.policy.questions[0].fingerprint
    assert [(item.tier, item.questions, texts(item.answer)) for item in first.answers] == [
        ("small", (), ["4"]),
        ("strong", (), ["5"]),
    ]
    assert [item.key for item in first.answers] == [
        request_key(engine.identity, prompt("How many?")) for engine in engines.values()
    ]
    assert (first.request, first.cost) == (prompt("How many?"), 0.002)
    # Nobody answered the second one: what was declined left no text to keep.
    assert (second.served[0].value, second.served[0].audit) == (None, None)
    assert [(item.tier, texts(item.answer)) for item in second.answers] == [("small", ["3"])]


def texts(answer: object) -> list[str]:
    assert isinstance(answer, Completion)
    return [sample.text for sample in answer.samples]


async def test_without_content_a_texts_record_has_no_words(tmp_path: Path) -> None:
    engines = writers([text("secret")], [text("secret")])
    writer = TrafficWriter(TrafficSettings(folder=tmp_path))
    watched = observer(engines, policy(dict(engines), prompt(""), {"text": [0.8]}), writer=writer)
    await tell(watched, "q1", "private words")
    writer.close()
    (record,) = [row.record for row in read_traffic(tmp_path)]
    assert record is not None
    assert "secret" not in repr(record)
    assert "private" not in repr(record)
    assert (record.served[0].disagreed, record.served[0].tier) == (False, "small")


async def test_an_alarm_in_one_process_tightens_the_others() -> None:
    first, second = observer(tiers("bad")), observer(tiers("bad"))
    for number in range(40):
        await ask(first, f"q{number}")
    second.adopt(second.live_states)
    assert (await second.cascade.route(row())).answers[0].tier == "small"
    second.adopt(first.live_states)
    assert (await second.cascade.route(row())).answers[0].tier == "strong"


async def test_generated_answers_are_audited_as_decisions_are(tmp_path: Path) -> None:
    engines = {
        "small": scripted("small", generate=lambda _: Completion((Sample("Answer: 4", logprob=-0.01),))),
        "strong": scripted("strong", generate=["So it is four. Answer: 4.0", "Answer: 5"]),
    }
    found = policy(dict(engines), CHAT, {"text": [0.9]})
    writer = TrafficWriter(TrafficSettings(folder=tmp_path, content=True))
    watched = observer(engines, found, writer=writer)
    for name in ("q1", "q2"):
        await watched.follow(name, CHAT, await watched.cascade.route_text(CHAT), NOW)
    writer.close()
    (live,) = watched.live.values()
    assert (live.counts.audits, live.counts.settled, live.counts.disagreed) == (2, 2, 1)
    records = [row.record for row in read_traffic(tmp_path)]
    assert [record.served[0].disagreed for record in records] == [False, True]
    assert [[item.tier for item in record.answers] for record in records] == [["small", "strong"]] * 2


async def test_audits_that_there_is_no_time_for_are_lost(tmp_path: Path) -> None:
    engines = tiers("bad")
    watched = observer(engines)
    due = watched.note("q1", row(), await watched.cascade.route(row()), NOW)
    assert due is not None
    watched.lose(due)
    (live,) = watched.live.values()
    assert (live.estimate().lost, live.counts.settled) == (1, 0)
    assert not engines["strong"].requests


async def test_what_the_caller_decided_says_nothing_about_the_thresholds() -> None:
    engines = tiers("bad")
    watched = observer(engines)
    for wish in (Wish("small"), Wish(alpha=0.001)):
        await watched.follow(f"q {wish}", row(), await watched.cascade.route(row(), wish), NOW)
    (live,) = watched.live.values()
    assert live.counts.queries == 0
