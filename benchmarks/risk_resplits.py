"""How often a certificate is broken (BENCHMARKS.md s.7): recorded outcomes, split again and again.

Of every pair in `data/routing` whose answers were recorded, a random half (1,500 queries at most) is certified
against the strong model, without labels, and the policy is then applied to all queries. A certificate is broken where
the served answers of the whole recording differ from the strong model's in more than its bound; the share on the other
half alone, which is measured on fewer queries and so exceeds the bound by chance too, is given beside it. A policy that
did not pass sends everything to the strong model and saves nothing; savings are of money, on the other half, with all
drafts and voters paid.

    python -m benchmarks.risk_resplits --splits 300 [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks._routing import Recording, mmlu_pro, openai_gsm8k, zeroeval
from cascade.certify import Asked, CertifySettings, certify
from cascade.costs import expect
from cascade.outcomes import NO_ANSWER, Outcomes, differ, serve, served
from cascade.policy import Verdict
from cascade.scoring import score_table
from curator.types import JsonObject

ALPHAS = (0.01, 0.05, 0.1)
DELTA = 0.1
SAMPLE = 1500
"""Most queries that are certified on; the rest is measured on."""


@dataclass(frozen=True, slots=True)
class Split:
    """One certificate: whether it passed, whether it is broken on all queries and on the other half, what it saved of
    the money, and the share that the small model served, both on the other half."""

    passed: bool
    broken: bool
    broken_half: bool
    saved: float
    share: float


def arms(recording: Recording) -> Iterator[tuple[str, Outcomes]]:
    """Outcomes without gold: with the small model's own signals, and with its voters, whose calls are then paid for
    every draft."""
    outcomes = replace(recording.outcomes, quality=np.full(recording.outcomes.cost.shape, np.nan))
    own = {name: table for name, table in outcomes.signals.items() if name != "vote"}
    yield "own", replace(outcomes, signals=own)
    if recording.vote_cost is not None:
        drafts = np.stack([recording.vote_cost, np.zeros(len(outcomes))], axis=1)
        yield "vote", replace(outcomes, cost=outcomes.cost + drafts)


def split(outcomes: Outcomes, settings: CertifySettings) -> Split:
    """Certify a random half, measure on all."""
    order = np.random.default_rng(settings.seed).permutation(len(outcomes))
    half = min(len(order) // 2, SAMPLE)
    made = certify(outcomes.take(order[:half]), Asked("answer", "recorded"), settings)
    scores = score_table(outcomes, [rule.scorer for rule in made.rules])
    tier = serve(scores, np.array([rule.limit for rule in made.rules]))
    lost, other = served(differ(outcomes), tier), order[half:]
    active = np.array([rule.threshold is not None for rule in made.rules] + [True])
    found = expect(outcomes.take(other), tier[other], active)
    bound = made.certificate.bound or settings.alpha
    return Split(
        made.certificate.verdict is Verdict.PASS,
        bool(lost.mean() > bound),
        bool(lost[other].mean() > bound),
        found.cost_saved or 0.0,
        found.before,
    )


def measure(outcomes: Outcomes, alpha: float, splits: int) -> JsonObject:
    """All splits of one pair at one risk."""
    settings = CertifySettings(alpha=alpha, delta=DELTA)
    found = [split(outcomes, replace(settings, seed=seed)) for seed in range(splits)]
    saved = [one.saved for one in found]
    return {
        "alpha": alpha,
        "rows": len(outcomes),
        "differ": float(differ(outcomes)[:, 0].mean()),
        "passed": float(np.mean([one.passed for one in found])),
        "broken": float(np.mean([one.broken for one in found])),
        "broken_other_half": float(np.mean([one.broken_half for one in found])),
        "share": float(np.mean([one.share for one in found])),
        "saved": float(np.mean(saved)),
        "saved_low": float(np.quantile(saved, 0.05)),
        "saved_high": float(np.quantile(saved, 0.95)),
    }


def recordings(data: Path) -> Iterator[Recording]:
    """Those whose answers were recorded, so that it is known where the models differ."""
    for source in (zeroeval, mmlu_pro, openai_gsm8k):
        yield from (one for one in source(data) if (one.outcomes.answers != NO_ANSWER).any())


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Markdown."""
    head = "pair", "signals", "alpha", "rows", "differ", "passed", "broken", "broken_other_half", "share", "saved"
    lines = [head, ["---"] * len(head)]
    lines += [[f"{row[name]:.3g}" if isinstance(row[name], float) else str(row[name]) for name in head] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GOLDLESS_DATA", "data")))
    parser.add_argument("--splits", type=int, default=300)
    parser.add_argument("--only", default="", help="pairs whose name has this")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[JsonObject] = []
    for recording in recordings(args.data):
        for signals, outcomes in arms(recording) if args.only in recording.name else ():
            for alpha in ALPHAS:
                rows.append({"pair": recording.name, "signals": signals, **measure(outcomes, alpha, args.splits)})
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    allowed = DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / args.splits)
    worst = max((float(str(row["broken"])) for row in rows), default=0.0)
    print(f"\nbroken at most {worst:.3f}; allowed is {allowed:.3f} (delta {DELTA} + 2 standard errors)")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
