"""benchmarks/gateway_soak.py: seconds of it against the real server; and that it sees what it is there to see."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from benchmarks import _soak_words as words
from benchmarks._soak_bill import Row, audit
from benchmarks._soak_load import Sent, read
from benchmarks.mock_soak_upstream import Call

ROOT = Path(__file__).parents[2]


def test_seconds_of_it_are_clean(tmp_path: Path) -> None:
    """Every fault of the upstreams comes about ten times as often as in the long run."""
    path = tmp_path / "soak.json"
    command = [sys.executable, "-m", "benchmarks.gateway_soak", "--minutes", "0.05", "--ramp-seconds", "0.3"]
    done = subprocess.run(
        [*command, "--faults", "5", "--json", str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    found = orjson.loads(path.read_bytes())
    assert found["clean"]
    assert {kind for kind, outcomes in found["outcomes"].items() if outcomes["right"]} == set(found["outcomes"])
    bill = found["bill"]
    assert bill["exact"] > 100
    assert bill["exact"] + bill["running"] + bill["silent"] == bill["calls"] == bill["entries"] - bill["unseen"]
    assert {"answer", "draft", "retry", "aborted"} <= set(bill["kinds"])
    assert sum(found["drained"].values()) == 64


TEXT = "".join(words.pieces("small", "t1"))


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (TEXT, "right"),
        (TEXT[:-9], "wrong"),
        ("".join(words.pieces("small", "t2")), "wrong"),
        ("".join(words.pieces("strong", "t1")), "wrong"),
        (TEXT[:30] + "".join(words.pieces("strong", "t1"))[30:], "mixed"),
        ("", "wrong"),
    ],
)
def test_a_text_is_right_to_the_last_letter_or_not_at_all(said: str, verdict: str) -> None:
    assert words.judge_text(said, "small", "t1", whole=True) == verdict


def test_the_beginning_of_a_text_is_any_tiers() -> None:
    assert words.judge_text(TEXT[:33], "", "t1", whole=False) == "right"
    assert words.judge_text(TEXT[:33] + "x", "", "t1", whole=False) == "wrong"


def reply(asked: str, answered: str, tier: str = "small") -> Sent:
    """The verdict on the decision about `answered` for a request about `asked`."""
    one, found = Sent(asked, "decisions", False), words.distribution("small", answered, hard=False)
    chances = [{"value": name, "probability": chance} for name, chance in found.items()]
    answer = {"choice": max(found, key=found.__getitem__), "probabilities": chances}
    block = {"answers": [{"tier": tier, "outcome": "accepted"}]}
    read(one, 200, orjson.dumps({"answers": [answer], "goldless": block}))
    return one


def test_a_decision_about_another_prompt_or_of_another_tier_is_seen() -> None:
    assert reply("t1", "t1").outcome == "right"
    assert {reply("t1", f"t{number}").outcome for number in range(2, 50)} == {"wrong"}
    assert reply("t1", "t1", tier="strong").outcome == "wrong"


def test_errors_are_documented_or_the_answer_is_lost() -> None:
    def outcome(status: int, code: str) -> str:
        one = Sent("t1", "chat", False)
        read(one, status, orjson.dumps({"error": {"code": code}}))
        return one.outcome

    assert outcome(503, "upstream_failed") == "error:upstream_failed"
    assert outcome(504, "timeout") == "error:timeout"
    assert outcome(500, "internal_error") == "lost"
    assert outcome(200, "timeout") == "lost"


CALLS = [Call(1, "t1", False, "", 20, told=True), Call(2, "t2", True, "truncated", 9), Call(3, "t2", False, "hang", 1)]
SENT = [Sent("t1", "chat", False, "right", "r1"), Sent("t2", "stream", False, "left", "r2")]


def entry(request: str, tokens: int | None, output: int | None, error: str = "") -> Row:
    return {
        "request": request, "tier": "small", "kind": "answer", "input_tokens": tokens, "output_tokens": output,
        "estimated": False, "error": error, "cost": None,
    }  # fmt: skip


ROWS = [entry("r1", 1, 20), entry("r2", 2, 7, "ServerError"), entry("r2", None, None, "EngineTimeoutError")]


def test_a_ledger_that_has_every_call_is_clean() -> None:
    found = audit({"small": CALLS}, ROWS, SENT)
    assert found.clean
    assert (found.exact, found.running, found.silent, found.unseen) == (1, 1, 1, 0)
    assert found.exact_tokens == (1, 20)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (ROWS[:2], "unbilled"),
        ([*ROWS, ROWS[0]], "billed_twice"),
        ([entry("r1", 1, 19), *ROWS[1:]], "wrong_tokens"),
        ([entry("r1", 1, 20), entry("r2", 2, 10, "ServerError"), ROWS[2]], "wrong_tokens"),
        ([entry("r2", 1, 20), *ROWS[1:]], "strangers"),
        ([entry("r1", 77, 20), *ROWS[1:]], "strangers"),
    ],
)
def test_what_is_wrong_with_a_ledger_is_seen(rows: list[Row], fault: str) -> None:
    found = audit({"small": CALLS}, rows, SENT)
    assert not found.clean
    assert getattr(found, fault) == 1


def test_calls_of_clients_that_left_early_are_counted_together() -> None:
    unknown = [replace(SENT[0], request=""), replace(SENT[1], request="")]
    assert audit({"small": CALLS}, ROWS, unknown).clean
    assert audit({"small": CALLS}, ROWS[1:], unknown).unbilled == 1
