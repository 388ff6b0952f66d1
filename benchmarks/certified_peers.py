"""Certified cascades head to head on banking77 (issue 4): share served locally, and disagreement there.

    python -m venv peers && peers/bin/pip install jevstiller 'shad0wllm[compile]'
    python -m benchmarks.certified_peers --peers peers/bin/python --splits 5 --json out.json

All see the same texts and the same teacher's answers: rows to fit on, rows to calibrate on, rows to test on (the
official test set in the first split; later ones deal all rows anew). The teacher is perfect, its recorded answers are
the gold labels; nothing else sees gold. Two risks, as the peers define them, each with the peer's own delta:

- `served`: of the answers that are served, at most alpha differ from the teacher (shad0wllm, delta 0.1);
- `all`: of all queries, at most alpha are served and differ (jevstiller, delta 0.05; goldless' own end-to-end risk).

jevstiller gets the same features as goldless; as it ships it fits at 85% of its budget and defers rare classes, so it
is shown with its whole budget and all classes too. shad0wllm makes its own features, and chooses its own student.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks._peer_arms import ALPHAS
from cascade.risk import binomial_tail, fixed_sequence
from curator.confidence import Bools, Floats, Ints
from curator.engines.encoder import Encoder
from curator.engines.features import FeatureCache, Features
from curator.engines.known import DEFAULT_ENCODER
from curator.training.heads import train_head

CALIBRATION, TEST = 3000, 3080
PEERS = {"jevstiller": "all", "shad0wllm": "served"}
DELTAS = {"all": 0.05, "served": 0.1}
CLAIMED = {"jevstiller": "61.7% served at 0.60% disagreement, another teacher", "shad0wllm": "87% served at 3.0%"}
NEIGHBOURS, WARMTH = 20, 0.03
"""Chosen on fit rows alone (a fifth of them held out); from 10 to 100 neighbours it hardly matters."""
PARTS = ("fit", "calibration", "test")


@dataclass(frozen=True, slots=True)
class Arm:
    """Which test rows are served (n,), and which answers equal the teacher's (n,)."""

    served: Bools
    right: Bools

    def figures(self) -> dict[str, float]:
        """Share served; disagreement of those, of all; all are shares."""
        wrong = self.served & ~self.right
        return {
            "share": float(self.served.mean()),
            "served": float(wrong.sum() / max(1, self.served.sum())),
            "all": float(wrong.mean()),
        }


def main() -> None:
    """Every arm on every split, as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder that holds banking77/")
    parser.add_argument("--peers", type=Path, help="the Python that the peers are installed for")
    parser.add_argument("--only", nargs="*", choices=[*PEERS], default=[*PEERS], help="which peers")
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--recalibrations", type=int, default=0, help="how often our thresholds are drawn again")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    texts, answers = read(given.data)
    encoder = Encoder(DEFAULT_ENCODER)
    features = FeatureCache(encoder, encoder.identity.key).encode(texts)
    found: list[dict[str, object]] = []
    again: list[dict[str, object]] = []
    for split in range(given.splits):
        parts = deal(len(texts), split)
        rows = scored(features, answers, parts)
        arms = ours(rows, len(parts["calibration"]))
        if given.peers is not None:
            arms |= theirs(given.peers, given.only, (texts, answers, features), parts)
        found += [{"split": split, "arm": name, "risk": risk, "alpha": alpha, **arm.figures()}
                  for (name, risk, alpha), arm in arms.items()]  # fmt: skip
        again += [{"split": split, **row} for row in recalibrated(rows, given.recalibrations)]
        print(f"split {split + 1} of {given.splits} done", file=sys.stderr, flush=True)
    table = summary(found)
    show(table)
    for row in again:
        print(f"- split {row['split']}, {row['arm']}, {row['risk']}, alpha {row['alpha']}: recalibrated {row['draws']} "
              f"times, {row['share']:.1%} served, broken {row['broken']:.1%} (delta {row['delta']:.0%})")  # fmt: skip
    if given.json:
        parts_of = [f"--splits {given.splits}", f"--recalibrations {given.recalibrations}"]
        parts_of += ["--peers peers/bin/python"] if given.peers else []
        parts_of += [] if given.only == [*PEERS] else [f"--only {' '.join(given.only)}"]
        command = f"python -m benchmarks.certified_peers {' '.join(parts_of)}"
        run = {"command": command, "claimed": CLAIMED, "table": table, "splits": found, "recalibrated": again}
        save(given.json, run)


def save(path: Path, run: dict[str, object]) -> None:
    """Add a run to what the file holds, in place of the same command's last one."""
    held = json.loads(path.read_text()) if path.exists() else []
    kept = [other for other in held if other["command"] != run["command"]]
    path.write_text(json.dumps([*kept, run], indent=1) + "\n")


def read(data: Path) -> tuple[list[str], list[str]]:
    """Texts and the teacher's answers, the official test set last."""
    lines = [(data / "banking77" / f"{part}.jsonl").read_text().splitlines() for part in ("train", "test")]
    rows = [json.loads(line) for part in lines for line in part]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def deal(rows: int, split: int) -> dict[str, Ints]:
    """Rows per part. The first split keeps the official test set."""
    random = np.random.default_rng(split)
    if split == 0:
        order = np.concatenate([random.permutation(rows - TEST), np.arange(rows - TEST, rows)])
    else:
        order = random.permutation(rows)
    calibration = rows - TEST - CALIBRATION
    return dict(zip(PARTS, (order[:calibration], order[calibration:-TEST], order[-TEST:]), strict=True))


def scored(features: Features, answers: list[str], parts: Mapping[str, Ints]) -> dict[str, tuple[Floats, Bools]]:
    """Our arms: the top probability of every row that was not fitted on, calibration rows first, and whether the
    answer is the teacher's. A linear head on the fit rows; and its mean with the nearest fit rows' answers."""
    labels = sorted({answers[row] for row in parts["fit"]})
    places = {label: place for place, label in enumerate(labels)}
    gold = np.array([places.get(label, -1) for label in answers])
    fit, asked = parts["fit"], np.concatenate([parts["calibration"], parts["test"]])
    targets = np.eye(len(labels))[gold[fit]]
    alone = train_head(features[fit], targets, np.ones(len(fit))).probabilities(features[asked])
    joined = (alone + neighbours(features[fit], targets, features[asked])) / 2
    arms = {"goldless": alone, "goldless, with neighbours": joined}
    return {name: (table.max(axis=1), table.argmax(axis=1) == gold[asked]) for name, table in arms.items()}


def ours(rows: Mapping[str, tuple[Floats, Bools]], calibration: int) -> dict[tuple[str, str, float], Arm]:
    """Learn-then-test for every risk on the first `calibration` rows; served and scored on the others."""
    return {
        (name, risk, alpha): Arm(
            sure[calibration:] >= threshold(sure[:calibration], right[:calibration], alpha, risk), right[calibration:]
        )
        for name, (sure, right) in rows.items()
        for risk in DELTAS
        for alpha in ALPHAS
    }


def recalibrated(rows: Mapping[str, tuple[Floats, Bools]], draws: int) -> list[dict[str, object]]:
    """How often a threshold breaks alpha: calibration rows are drawn with replacement from all rows that were not
    fitted on, and the risk is that of all of them, so that no chance of a test set is in it."""
    found = []
    for (name, (sure, right)), risk, alpha in product(rows.items(), DELTAS, ALPHAS):
        drawn = [np.random.default_rng(seed).integers(0, len(sure), CALIBRATION) for seed in range(draws)]
        arms = [Arm(sure >= threshold(sure[chosen], right[chosen], alpha, risk), right).figures() for chosen in drawn]
        found.append(
            {"arm": name, "risk": risk, "alpha": alpha, "delta": DELTAS[risk], "draws": draws,
             "share": float(np.mean([arm["share"] for arm in arms])),
             "broken": float(np.mean([arm[risk] > alpha for arm in arms]))}
        )  # fmt: skip
    return found


def neighbours(fitted: Features, targets: Floats, asked: Features) -> Floats:
    """Distribution (n, k) of the teacher's answers to the nearest fit rows by cosine, weighted by exp(similarity /
    `WARMTH`): the second opinion that a linear head lacks."""
    known, new = (table / np.linalg.norm(table, axis=1, keepdims=True) for table in (fitted, asked))
    similar = new @ known.T
    nearest = np.argpartition(-similar, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    weights = np.exp((np.take_along_axis(similar, nearest, axis=1) - 1) / WARMTH)
    found: Floats = np.einsum("nj,njk->nk", weights / weights.sum(axis=1, keepdims=True), targets[nearest])
    return found


def threshold(sure: Floats, right: Bools, alpha: float, risk: str) -> float:
    """The lowest threshold whose risk is at most alpha with probability 1 - delta: fixed-sequence testing from strict
    to loose over a grid of coverages that is fixed beforehand, exact binomial tails (Angelopoulos et al. 2021,
    arXiv 2110.01052). Infinity if none passes."""
    order, size, delta = np.argsort(-sure, kind="stable"), len(sure), DELTAS[risk]
    wrong, ranked = np.cumsum(~right[order]), -sure[order]
    least = 1
    # Where the sequence starts is known before any row is seen: where half of alpha can already pass.
    while risk == "served" and binomial_tail(int(alpha * least / 2), least, alpha) > delta:
        least += 1
    counts = np.unique(np.linspace(min(least, size), size, 200).astype(int))
    served = [int(np.searchsorted(ranked, ranked[count - 1], side="right")) for count in counts]

    def p_value(level: int) -> float:
        return binomial_tail(int(wrong[served[level] - 1]), served[level] if risk == "served" else size, alpha)

    passed = fixed_sequence(p_value, len(served), delta)
    return float(-ranked[served[passed - 1] - 1]) if passed else np.inf


def theirs(
    python: Path, names: list[str], rows: tuple[list[str], list[str], Features], parts: Mapping[str, Ints]
) -> dict[tuple[str, str, float], Arm]:
    """The peers on the same rows, in their own environment."""
    texts, answers, features = rows
    arms: dict[tuple[str, str, float], Arm] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = {part: {"texts": _at(texts, places), "answers": _at(answers, places)} for part, places in parts.items()}
        (folder / "rows.json").write_text(json.dumps(given))
        np.savez(folder / "features.npz", **{part: features[places] for part, places in parts.items()})
        script = Path(__file__).with_name("_peer_arms.py")
        for peer in names:
            subprocess.run([python, script, peer, folder], check=True, env=_environment())
            found = json.loads((folder / f"{peer}.json").read_text())
            for arm, made in found.items():
                right = np.array(made["answers"]) == np.array(given["test"]["answers"])
                for alpha in ALPHAS:
                    arms[arm, PEERS[peer], alpha] = Arm(np.array(made["served"][str(alpha)]), right)
    return arms


def _environment() -> dict[str, str]:
    """Without our packages: the peers see only their own."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _at(values: list[str], places: Ints) -> list[str]:
    return [values[place] for place in places]


def summary(found: list[dict[str, object]]) -> list[dict[str, object]]:
    """Per arm, risk and alpha: means over the splits, and how many splits break alpha."""
    keys = list(dict.fromkeys((row["risk"], row["alpha"], row["arm"]) for row in found))
    table = []
    for risk, alpha, arm in keys:
        rows = [row for row in found if (row["risk"], row["alpha"], row["arm"]) == (risk, alpha, arm)]
        means = {name: float(np.mean([row[name] for row in rows])) for name in ("share", "served", "all")}
        named = {"share": means["share"], "of_served": means["served"], "of_all": means["all"]}
        broken = sum(row[str(risk)] > alpha for row in rows)
        table.append({"risk": risk, "alpha": alpha, "arm": arm, "splits": len(rows), **named, "broken": broken})
    return sorted(table, key=lambda row: (str(row["risk"]), -float(str(row["alpha"])), str(row["arm"])))


def show(table: list[dict[str, object]]) -> None:
    """The table in Markdown."""
    print("| risk | alpha | arm | splits | served locally | disagreement of served | of all | splits above alpha |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in table:
        shares = " | ".join(f"{100 * float(str(row[name])):.1f}%" for name in ("share", "of_served", "of_all"))
        print(f"| {row['risk']} | {row['alpha']} | {row['arm']} | {row['splits']} | {shares} | {row['broken']} |")


if __name__ == "__main__":
    main()
