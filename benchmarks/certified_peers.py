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
from pathlib import Path

import numpy as np

from benchmarks._peer_arms import ALPHAS
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
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    texts, answers = read(given.data)
    encoder = Encoder(DEFAULT_ENCODER)
    features = FeatureCache(encoder, encoder.identity.key).encode(texts)
    found: list[dict[str, object]] = []
    for split in range(given.splits):
        parts = deal(len(texts), split)
        arms = ours(features, answers, parts)
        if given.peers is not None:
            arms |= theirs(given.peers, given.only, (texts, answers, features), parts)
        found += [{"split": split, "arm": name, "risk": risk, "alpha": alpha, **arm.figures()}
                  for (name, risk, alpha), arm in arms.items()]  # fmt: skip
        print(f"split {split + 1} of {given.splits} done", file=sys.stderr, flush=True)
    table = summary(found)
    show(table)
    if given.json:
        command = f"python -m benchmarks.certified_peers --splits {given.splits} --peers peers/bin/python"
        result = {"command": command, "claimed": CLAIMED, "table": table, "splits": found}
        given.json.write_text(json.dumps(result, indent=1) + "\n")


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


def ours(features: Features, answers: list[str], parts: Mapping[str, Ints]) -> dict[tuple[str, str, float], Arm]:
    """A linear head on the fit rows, its top probability as the signal, and learn-then-test for every risk."""
    labels = sorted({answers[row] for row in parts["fit"]})
    places = {label: place for place, label in enumerate(labels)}
    gold = np.array([places.get(label, -1) for label in answers])
    fit = parts["fit"]
    targets = np.eye(len(labels))[gold[fit]]
    head = train_head(features[fit], targets, np.ones(len(fit)))
    tested = [parts["calibration"], parts["test"]]
    alone = [head.probabilities(features[rows]) for rows in tested]
    joined = [
        (own + neighbours(features[fit], targets, features[rows])) / 2 for own, rows in zip(alone, tested, strict=True)
    ]
    truth = [gold[rows] for rows in tested]
    return {
        (name, risk, alpha): _certified(chances, truth, alpha, risk)
        for name, chances in (("goldless", alone), ("goldless, with neighbours", joined))
        for risk in DELTAS
        for alpha in ALPHAS
    }


def neighbours(fitted: Features, targets: Floats, asked: Features) -> Floats:
    """Distribution (n, k) of the teacher's answers to the nearest fit rows by cosine, weighted by exp(similarity /
    `WARMTH`): the second opinion that a linear head lacks."""
    known, new = (table / np.linalg.norm(table, axis=1, keepdims=True) for table in (fitted, asked))
    similar = new @ known.T
    nearest = np.argpartition(-similar, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    weights = np.exp((np.take_along_axis(similar, nearest, axis=1) - 1) / WARMTH)
    found: Floats = np.einsum("nj,njk->nk", weights / weights.sum(axis=1, keepdims=True), targets[nearest])
    return found


def _certified(chances: list[Floats], truth: list[Ints], alpha: float, risk: str) -> Arm:
    """The threshold from the calibration rows, on the test rows."""
    sure = [table.max(axis=1) for table in chances]
    right = [table.argmax(axis=1) == gold for table, gold in zip(chances, truth, strict=True)]
    return Arm(sure[1] >= threshold(sure[0], right[0], alpha, risk), right[1])


def threshold(sure: Floats, right: Bools, alpha: float, risk: str) -> float:
    """The lowest threshold whose risk is at most alpha with probability 1 - delta: fixed-sequence testing from strict
    to loose over a grid of coverages that is fixed beforehand, exact binomial tails (Angelopoulos et al. 2021,
    arXiv 2110.01052). Infinity if none passes."""
    from scipy.stats import binom

    order = np.argsort(-sure, kind="stable")
    wrong, found = np.cumsum(~right[order]), np.inf
    least = int(np.ceil(np.log(DELTAS[risk]) / np.log1p(-alpha))) if risk == "served" else 1
    # Where the sequence starts is known before any row is seen: where half of alpha can already pass.
    while risk == "served" and binom.cdf(int(alpha * least / 2), least, alpha) > DELTAS[risk]:
        least += 1
    for count in np.unique(np.linspace(min(least, len(sure)), len(sure), 200).astype(int)):
        served = int(np.searchsorted(-sure[order], -sure[order][count - 1], side="right"))
        tested = served if risk == "served" else len(sure)
        if binom.cdf(int(wrong[served - 1]), tested, alpha) > DELTAS[risk]:
            break
        found = float(sure[order][served - 1])
    return found


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
