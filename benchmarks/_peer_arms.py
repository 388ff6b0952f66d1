"""One certified-cascade peer on prepared rows; run by `benchmarks.certified_peers` in the peer's own environment.

    python benchmarks/_peer_arms.py jevstiller FOLDER

reads rows.json (texts and teacher's answers of the fit, calibration and test rows) and features.npz from the folder,
and writes NAME.json: per arm the test rows' answers and, per alpha, whether they are served. Nothing here is ours.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

ALPHAS = (0.05, 0.01)
HEADROOM, RARE = 0.15, 50
"""jevstiller's defaults: the part of the budget that it leaves, and the rows below which it defers a class."""
FIT = {"patience": 4, "epochs": 2000, "l2": 1e-6, "ood_quantile": 0.99, "ood_k": 10}


def main() -> None:
    """The peer that the command line names."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    rows = json.loads((folder / "rows.json").read_text())
    found = {"jevstiller": jevstiller, "shad0wllm": shad0wllm}[name](folder, rows)
    (folder / f"{name}.json").write_text(json.dumps(found))


def jevstiller(folder: Path, rows: dict[str, dict[str, list[str]]]) -> dict[str, object]:
    """Its linear student, its out-of-distribution gate and its threshold, on given embeddings."""
    from jevstiller._training import fit_candidate

    labels = sorted(set(rows["fit"]["answers"]))
    places = {label: place for place, label in enumerate(labels)}
    with np.load(folder / "features.npz") as arrays:
        features = {part: arrays[part] for part in ("fit", "calibration", "test")}
    unit = {part: table / np.linalg.norm(table, axis=1, keepdims=True) for part, table in features.items()}
    targets = np.eye(len(labels))[[places[label] for label in rows["fit"]["answers"]]]
    calibration = np.array([places.get(label, -1) for label in rows["calibration"]["answers"]])
    count = Counter(rows["fit"]["answers"])
    rare = [label for label in labels if count[label] < RARE]
    arms: dict[str, object] = {}
    for name, share, deferred in (("jevstiller", 1 - HEADROOM, rare), ("jevstiller, whole budget", 1.0, [])):
        served: dict[str, list[bool]] = {}
        for alpha in ALPHAS:
            made = fit_candidate(
                unit["fit"], targets, None, unit["calibration"], calibration, budget=alpha * share,
                delta=0.05, seed=0, threads=1, labels=labels, deferred_labels=deferred, **FIT,
            )  # fmt: skip
            chances = made.student.predict_proba(unit["test"])
            answers = np.array(labels, dtype=object)[chances.argmax(axis=1)]
            accepted = made.policy.accepts(chances.max(axis=1), made.ood.score(unit["test"]), answers)
            served[str(alpha)] = [bool(flag) for flag in accepted]
        arms[name] = {"answers": list(answers), "served": served}
    return arms


def shad0wllm(folder: Path, rows: dict[str, dict[str, list[str]]]) -> dict[str, object]:
    """Its compiled table, chosen by itself for alpha = 5%, and its certificate per alpha."""
    from shad0w.shadow import shadow_compile

    labels = sorted(set(rows["fit"]["answers"]))
    known = set(labels)
    records = {
        part: [
            {"text": text, "intent": label}
            for text, label in zip(rows[part]["texts"], rows[part]["answers"], strict=True)
            if label in known
        ]
        for part in ("fit", "calibration")
    }
    schema = {"intent": {"type": "choice", "criteria": dict.fromkeys(labels)}}
    model, certificate = shadow_compile(schema, records["fit"], alpha=ALPHAS[0], cal_records=records["calibration"])
    question = model.questions["intent"]
    served: dict[str, list[bool]] = {}
    for alpha in ALPHAS:
        texts, answers = ([record[key] for record in records["calibration"]] for key in ("text", "intent"))
        model.calibrate("intent", texts, answers, alpha=alpha)
        decisions = [question.decide(text, observe=False) for text in rows["test"]["texts"]]
        served[str(alpha)] = [decision["confidence"] >= question.threshold for decision in decisions]
    student = certificate["questions"]["intent"]["student"]
    name = f"shad0wllm ({student} table)"
    return {name: {"answers": [found["choice"] for found in decisions], "served": served}}


if __name__ == "__main__":
    main()
