"""Live risk on recorded outcomes of real models: how soon a drift is noticed, what is served until and after.

    python -m benchmarks.live_drift --data DATA --json live.json

A threshold is certified (label-free, exact binomial tails) on a sample of the traffic before the drift; then come the
rest of that traffic, and the drift: on MMLU-Pro the third of the subjects whose surer answers differ most, on ZeroEval
competition mathematics after school mathematics. `quiet` is the control: the same certificate, no drift. Every line
is the mean over `--repeats` samples, orders and coins. A query is audited with probability `--share` where the small
tier's answer is served.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import comb
from pathlib import Path

import numpy as np
import orjson

from benchmarks._routing import Recording, mmlu_pro, zeroeval
from cascade.live import LiveRisk, LiveSettings
from cascade.policy import Certificate, QuestionPolicy, Rule, Scorer, Verdict
from curator.confidence import Bools, Floats

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAMPLE = 400
"""Queries that the certificate is made from."""
CALM = 3000
"""Queries before the drift; the traffic before it is drawn from with replacement."""
DRIFTED = 6000


@dataclass(frozen=True, slots=True)
class Stream:
    """Scores (n,) and disagreements (n,) of the small tier before and after the drift."""

    name: str
    scores: tuple[Floats, Floats]
    differs: tuple[Bools, Bools]


@dataclass(slots=True)
class Run:
    """One stream served. Risks are shares of the queries that were served another answer than the teacher's."""

    served: float
    risk_before: float
    risk_unwatched: float
    false_alarm: bool
    delay: int | None
    audits: int
    risk_after: float
    served_after: float


def streams(data: Path) -> Iterator[Stream]:
    """MMLU-Pro split by subjects, ZeroEval by tasks."""
    for found in mmlu_pro(data):
        differs, scores, subjects = _differs(found), _scores(found), np.asarray(found.groups)
        wrong = differs & (scores >= np.median(scores))
        rates = {name: float(wrong[subjects == name].mean()) for name in sorted(set(found.groups))}
        worst = sorted(rates, key=rates.__getitem__)[-len(rates) // 3 :]
        hard = np.isin(subjects, worst)
        yield Stream(found.name, (scores[~hard], scores[hard]), (differs[~hard], differs[hard]))
    by_name = {found.name: found for found in zeroeval(data)}
    for name, found in by_name.items():
        task, _, pair = name.partition(": ")
        if task == "gsm" and (later := by_name.get(f"math-l5: {pair}")):
            yield Stream(
                f"gsm, then math-l5: {pair}", (_scores(found), _scores(later)), (_differs(found), _differs(later))
            )


def _differs(found: Recording) -> Bools:
    weak, strong = found.outcomes.answers[:, 0], found.outcomes.answers[:, 1]
    differs: Bools = (weak != strong) | (weak < 0)
    return differs


def _scores(found: Recording) -> Floats:
    """How many of two further small models agree; among equals, the shorter answer is the safer one."""
    order = np.argsort(np.argsort(found.signals["answer_short"], kind="stable"), kind="stable")
    scores: Floats = found.signals["vote"] + 0.4 * order / len(order)
    return scores


def certified(scores: Floats, differs: Bools, alpha: float, delta: float) -> list[float | None]:
    """The certified thresholds, the one that serves most first: fixed-sequence testing from all to the teacher
    towards more and more served."""
    steps = np.quantile(scores, np.linspace(0.99, 0.0, 34))
    passed: list[float] = []
    for step in steps:
        wrong = int((differs & (scores >= step)).sum())
        if sum(comb(len(scores), k) * alpha**k * (1 - alpha) ** (len(scores) - k) for k in range(wrong + 1)) > delta:
            break
        passed.append(float(step))
    return [*reversed(passed)] or [None]


def policy(thresholds: Sequence[float | None], alpha: float) -> QuestionPolicy:
    """A certified question with these thresholds, the policy's own first."""
    certificate = Certificate(
        basis="vs_teacher", verdict=Verdict.PASS, reason="", alpha=alpha, delta=0.1, rows=SAMPLE, risk=None,
        bound=alpha, shares=(0.5, 0.5),
    )  # fmt: skip
    rule = Rule(tier="small", scorer=Scorer(signals=("score",), weights=(1.0,)), threshold=thresholds[0])
    path = tuple((step,) for step in thresholds[1:])
    return QuestionPolicy(name="answer", fingerprint="f", rules=(rule,), certificate=certificate, path=path)


def run(stream: Stream, alpha: float, settings: LiveSettings, seed: int, *, drift: bool) -> Run | None:
    """One sample, order and coin; None where nothing could be certified."""
    rng = np.random.default_rng(seed)
    calm = rng.permutation(len(stream.scores[0]))
    ladder = certified(stream.scores[0][calm[:SAMPLE]], stream.differs[0][calm[:SAMPLE]], alpha, 0.1)
    if ladder[0] is None:
        return None
    live = LiveRisk(policy(ladder, alpha), settings, coin=random.Random(seed))
    before = rng.choice(calm[SAMPLE:], CALM + (0 if drift else DRIFTED))
    after = rng.choice(len(stream.scores[1]), DRIFTED if drift else 0)
    scores = np.concatenate([stream.scores[0][before], stream.scores[1][after]])
    differs = np.concatenate([stream.differs[0][before], stream.differs[1][after]])
    accepted, wrong, alarms, audits = _serve(live, scores, differs)
    unwatched = differs & (scores >= ladder[0])
    first = alarms[0] if alarms else None
    late = slice(first + 1, None) if first is not None and first >= CALM else slice(len(scores), None)
    return Run(
        served=float(accepted[:CALM].mean()),
        risk_before=float(wrong[:CALM].mean()),
        risk_unwatched=float(unwatched[CALM:].mean()),
        false_alarm=first is not None and (first < CALM or not drift),
        delay=first - CALM if drift and first is not None and first >= CALM else None,
        audits=audits,
        risk_after=float(wrong[late].mean()) if len(wrong[late]) else np.nan,
        served_after=float(accepted[late].mean()) if len(accepted[late]) else np.nan,
    )


def _serve(live: LiveRisk, scores: Floats, differs: Bools) -> tuple[Bools, Bools, list[int], int]:
    """What was served by the small tier, which of it was wrong, at which queries alarms came, how many audits."""
    accepted, alarms, audits = np.zeros(len(scores), bool), [], 0
    for at, (score, wrong) in enumerate(zip(scores.tolist(), differs.tolist(), strict=True)):
        limit, seen = live.thresholds[0], len(live.alarms)
        accepted[at] = limit is not None and score >= limit
        audit = live.serve(str(at), "small" if accepted[at] else "strong", score, NOW)
        if audit is not None:
            audits += 1
            live.settle(audit, wrong)
        if len(live.alarms) > seen:
            alarms.append(at)
    return accepted, accepted & differs, alarms, audits


def line(stream: Stream, alpha: float, settings: LiveSettings, repeats: int) -> dict[str, object]:
    """One pair's figures."""
    runs = [found for seed in range(repeats) if (found := run(stream, alpha, settings, seed, drift=True))]
    quiet = [found for seed in range(repeats) if (found := run(stream, alpha, settings, seed, drift=False))]
    delays = np.array([found.delay for found in runs if found.delay is not None])
    return {
        "pair": stream.name,
        "alpha": alpha,
        "certified": len(runs) / repeats,
        "served": _mean(runs, "served"),
        "risk before": _mean(runs, "risk_before"),
        "risk unwatched": _mean(runs, "risk_unwatched"),
        "risk after the alarm": _mean(runs, "risk_after"),
        "served after the alarm": _mean(runs, "served_after"),
        "noticed": len(delays) / max(len(runs), 1),
        "delay": float(np.median(delays)) if len(delays) else None,
        "delay p90": float(np.quantile(delays, 0.9)) if len(delays) else None,
        "audits": _mean(runs, "audits"),
        "false alarms before": float(np.mean([found.false_alarm for found in runs])) if runs else None,
        "false alarms quiet": float(np.mean([found.false_alarm for found in quiet])) if quiet else None,
    }


def _mean(runs: Sequence[Run], name: str) -> float | None:
    values = np.array([asdict(found)[name] for found in runs], dtype=np.float64)
    return float(np.nanmean(values)) if len(values) and not np.isnan(values).all() else None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds routing/")
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.05, 0.1])
    parser.add_argument("--share", type=float, default=0.1, help="of accepted answers that are audited")
    parser.add_argument("--delta", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    given = parser.parse_args()
    settings = LiveSettings(share=given.share, delta=given.delta)
    rows = []
    for stream in streams(given.data):
        for alpha in given.alpha:
            rows.append(line(stream, alpha, settings, given.repeats))
            print(" | ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in rows[-1].values()))
    if given.json:
        given.json.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
