"""goldless replay: what it prints, draws and refuses."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner, Result

from cascade.policy import Certificate, Policy, QuestionPolicy, Rule, Scorer, TierRecord, Verdict
from cli.main import app

COLUMNS = ("query", "tier", "answer", "quality", "cost", "currency", "latency", "confidence")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, arguments)])


def ok(*arguments: str | Path) -> Result:
    done = run(*arguments, "--draws", "100")
    assert done.exit_code == 0, (done.stdout, done.stderr, done.exception)
    return done


def rows(count: int = 300) -> list[dict[str, object]]:
    """A small tier that is right two times in three and knows when, before a strong one."""
    random = np.random.default_rng(0)
    made: list[dict[str, object]] = []
    for number in range(count):
        right = bool(random.random() < 0.67)
        shared = {"query": f"q{number}", "currency": "EUR"}
        made.append(
            {**shared, "tier": "small", "answer": "a" if right else "b", "quality": int(right), "cost": 0.001,
             "latency": 0.1, "confidence": round(0.5 * right + 0.5 * random.random(), 4)}
        )  # fmt: skip
        made.append({**shared, "tier": "strong", "answer": "a", "quality": 1, "cost": 0.01, "latency": 1.0})
    return made


def table(path: Path, made: list[dict[str, object]], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(made)
    return path


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    return table(tmp_path / "outcomes.csv", rows())


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    certificate = Certificate(
        basis="vs_teacher", verdict=Verdict.PASS, reason="", alpha=0.05, delta=0.1, rows=300, risk=0.01, bound=0.04,
        shares=(0.6, 0.4),
    )  # fmt: skip
    rule = Rule(tier="small", scorer=Scorer(signals=("confidence",), weights=(1.0,)), threshold=0.5)
    made = Policy(
        created=datetime.now(UTC),
        tiers=(TierRecord(name="small", identity="a"), TierRecord(name="strong", identity="b")),
        questions=(QuestionPolicy(name="topic", fingerprint="f", rules=(rule,), certificate=certificate),),
    )
    path = tmp_path / "policy.json"
    path.write_text(made.model_dump_json(), encoding="utf-8")
    return path


def test_every_signal_is_replayed_beside_random_routing_and_the_oracle(outcomes):
    done = ok(outcomes)
    lines = done.stdout.splitlines()
    assert "300 queries, quality vs_truth: small 0.6" in lines[0]
    assert [line.split()[0] for line in lines[3:6]] == ["confidence", "random", "oracle"]
    assert "saved at equal quality" in lines[2]


def test_json_holds_figures_points_and_curves(outcomes, policy):
    arguments = ("--policy", policy, "--signal", "confidence=0.9", "--json")
    found = orjson.loads(ok(outcomes, *arguments).stdout)
    assert (found["basis"], found["currency"]) == ("vs_truth", "EUR")
    assert [arm["name"] for arm in found["replay"]["arms"]] == ["policy", "confidence", "random", "oracle"]
    ours, other, random, oracle = found["replay"]["arms"]
    assert ours["apgr"] == other["apgr"]
    assert random["apgr"]["high"] < ours["apgr"]["value"] < oracle["apgr"]["high"]
    loose, strict = found["points"]
    assert (loose["name"], strict["name"]) == ("policy", "confidence=0.9")
    assert loose["shares"][0] > strict["shares"][0] > 0
    assert strict["change"]["value"] == 0.0
    assert loose["cost"]["value"] == pytest.approx(0.001 + 0.01 * loose["shares"][1])
    assert found["curves"][0]["calls"][0] == 0.0
    assert found["curves"][0]["threshold"][-1] is None


def test_the_curves_are_drawn(outcomes, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curve.png"
    assert f"the plot is in {picture}" in ok(outcomes, "--plot", picture).stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_is_left_out_is_said(tmp_path):
    made = [row for row in rows() if not (row["query"] == "q7" and row["tier"] == "strong")]
    made[0]["quality"] = None
    done = ok(table(tmp_path / "o.csv", made))
    assert "298 queries" in done.stdout
    assert "left out, for want of an answer of every tier: 1 queries" in done.stderr
    assert "without an answer of strong: 1" in done.stderr
    assert "left out, for want of a known quality: 1 queries" in done.stderr


def test_without_quality_the_strong_tier_is_the_measure(tmp_path):
    path = table(tmp_path / "o.csv", rows(), tuple(name for name in COLUMNS if name != "quality"))
    found = orjson.loads(ok(path, "--json").stdout)
    assert found["basis"] == "vs_teacher"
    assert found["replay"]["strong"]["value"] == 1.0


def test_missing_costs_are_undefined_until_they_are_given(tmp_path):
    path = table(tmp_path / "o.csv", rows(), tuple(name for name in COLUMNS if name != "cost"))
    assert "undefined: the cost of small, strong is unknown" in ok(path).stdout
    found = orjson.loads(ok(path, "--cost", "small=0.001", "--cost", "strong=0.01", "--json").stdout)
    assert found["replay"]["arms"][0]["savings"][0]["saved"]["value"] > 0.2


def test_three_tiers_need_thresholds_or_a_pair(tmp_path):
    made = rows()
    made += [{**row, "tier": "head", "cost": 0.0001} for row in made if row["tier"] == "small"]
    path = table(tmp_path / "o.csv", made)
    done = run(path)
    assert done.exit_code == 2
    assert "every threshold is tried between two tiers, not 3" in done.stderr
    assert ok(path, "--tier", "small", "--tier", "strong").stdout.startswith("300 queries")
    found = orjson.loads(ok(path, "--signal", "confidence=0.6", "--json").stdout)
    assert found["replay"] is None
    assert found["points"][0]["tiers"] == ["head", "small", "strong"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--signal", "margin"), "no signal margin"),
        (("--signal", "confidence=high"), "what stands after = is no number"),
        (("--cost", "small"), "is not TIER=AMOUNT"),
        (("--cost", "small=1"), "the outcomes hold its costs"),
        (("--tier", "small"), "there is one tier"),
        (("--tier", "tiny"), "holds nothing of tiny"),
        (("--plot", "curve.bmp"), "its name ends in .png or .svg"),
        (("--policy", "none.json"), "none.json cannot be read"),
    ],
)
def test_wrong_use_is_explained(outcomes, arguments, message):
    done = run(outcomes, *arguments)
    assert done.exit_code == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_policy_is_refused(outcomes, policy):
    policy.write_text('{"version": 1}', encoding="utf-8")
    done = run(outcomes, "--policy", policy)
    assert done.exit_code == 2
    assert "is no policy: created: Field required" in done.stderr


def test_outcomes_without_a_signal_are_refused(tmp_path):
    path = table(tmp_path / "o.csv", rows(), tuple(name for name in COLUMNS if name != "confidence"))
    done = run(path)
    assert done.exit_code == 2
    assert "hold no signal to defer by" in done.stderr
