"""The correlated-votes set of BENCHMARKS.md s.5: what five votes of one model are worth.

20,000 items, 4 classes, 5 votes of one model. 25% of the items are hard: there each vote takes one
shared wrong answer with p = 0.75, else the right one; elsewhere a vote is right with p = 0.95. Three
arms: those votes alone, with an independent second voter (0.80 right), with 100 audited rows.

    python -m benchmarks.correlated_votes [--seeds 20] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curator.aggregate import VoteResult, vote
from curator.calibration import calibrate_with_audits, choose_audits
from curator.confidence import Bools, Floats, Ints
from curator.evaluation import ece
from curator.independent import combine_independent

CLASSES = 4


@dataclass(frozen=True, slots=True)
class VoteSet:
    """`votes` (n, 5), `gold` (n,) and the independent `second` voter (n,), classes as indices."""

    votes: Ints
    gold: Ints
    second: Ints

    @property
    def shares(self) -> Floats:
        """Vote share per class (n, 4)."""
        return np.stack([(self.votes == option).mean(axis=1) for option in range(CLASSES)], axis=1)


def generate(seed: int, *, items: int = 20_000, voters: int = 5) -> VoteSet:
    """The set, drawn with `seed`."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, CLASSES, items)
    hard = random.random(items) < 0.25
    shared = (gold + random.integers(1, CLASSES, items)) % CLASSES
    draw = random.random((items, voters))
    stray = (gold[:, None] + random.integers(1, CLASSES, (items, voters))) % CLASSES
    easy_votes = np.where(draw < 0.95, gold[:, None], stray)
    hard_votes = np.where(draw < 0.75, shared[:, None], gold[:, None])
    wrong = (gold + random.integers(1, CLASSES, items)) % CLASSES
    second = np.where(random.random(items) < 0.80, gold, wrong)
    return VoteSet(np.where(hard[:, None], hard_votes, easy_votes), gold, second)


def majority(votes: VoteSet) -> tuple[VoteResult, Bools]:
    """Votes aggregated as an open field's samples are, and which labels are right (to score)."""
    result = vote([[str(value) for value in row] for row in votes.votes], options=CLASSES)
    return result, np.array([value == str(truth) for value, truth in zip(result.values, votes.gold, strict=True)])


def arms(seed: int, *, audits: int = 100) -> dict[str, float]:
    """Accuracy and expected calibration error of every arm."""
    votes = generate(seed)
    result, right = majority(votes)
    combined = combine_independent(votes.shares, votes.second, "second voter")
    right_combined = combined.probabilities.argmax(axis=1) == votes.gold
    rows, weights = choose_audits(result.confidence, audits, seed=seed)
    calibrator = calibrate_with_audits(result.confidence[rows], right[rows], weights=weights)
    return {
        "accuracy": float(right.mean()),
        "ece_majority_share": ece(result.share, right),
        "ece_votes_alone": ece(result.confidence, right),
        "accuracy_second_voter": float(right_combined.mean()),
        "ece_second_voter": ece(combined.confidence, right_combined),
        "ece_audited": ece(calibrator.transform(result.confidence), right),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table over seeds; write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--audits", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    runs = [arms(seed, audits=options.audits) for seed in range(options.seeds)]
    table = {name: [run[name] for run in runs] for name in runs[0]}
    print(f"{'':24}{'mean':>8}{'min':>8}{'max':>8}{'<= 0.05':>9}")
    for name, values in table.items():
        within = f"{np.mean(np.array(values) <= 0.05):9.0%}" if name.startswith("ece") else ""
        print(f"{name:24}{np.mean(values):8.3f}{min(values):8.3f}{max(values):8.3f}{within}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
