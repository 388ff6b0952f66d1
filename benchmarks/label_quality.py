"""Label quality without gold (BENCHMARKS.md s.5): the half that scores cached log-probabilities.

Each cache is an .npz with `L` (n, k) or (n, v, k) raw label log-probabilities, `gold` (n,) and
`labels`. Several files joined by + are views of the same rows. Gold is used to score only.

    python -m benchmarks.label_quality qwen05_trec=a.npz qwen05_trec_views=a.npz+b.npz [--json out.json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from curator.aggregate import fit_decisions
from curator.calibration import batch_bias, calibrate_with_audits, choose_audits
from curator.confidence import Floats, Ints, log_normalise
from curator.evaluation import Scores, accuracy, ece, evaluate, paired_difference
from curator.prior import prior_from_audits
from curator.types import JsonObject

AUDITS = 100


def load(files: Sequence[Path]) -> tuple[Floats, Ints]:
    """Views (n, v, k) of the rows that all files have, and gold (n,).

    Raises: ValueError when the files are not of the same rows or label sets.
    """
    caches = [np.load(file) for file in files]
    arrays = [cache["L"] if cache["L"].ndim == 3 else cache["L"][:, None, :] for cache in caches]
    rows = min(len(array) for array in arrays)
    gold = np.asarray(caches[0]["gold"][:rows], dtype=np.int64)
    for file, cache in zip(files, caches, strict=True):
        if (cache["gold"][:rows] != gold).any() or list(cache["labels"]) != list(caches[0]["labels"]):
            raise ValueError(f"{file} holds other rows or labels than {files[0]}")
    return np.concatenate([array[:rows] for array in arrays], axis=1).astype(np.float64), gold


def arms(logprobs: Floats, gold: Ints) -> dict[str, Floats]:
    """Probabilities (n, k) per arm. `raw` is the first view's own distribution, `batch` takes classes
    as equal, `default` is what a run without settings does; `audited` spends 100 audits on the prior
    and `gold prior` is the best that knowing the prior could do."""
    equal = fit_decisions(logprobs, prior="uniform").transform(logprobs)
    rows, weights = choose_audits(equal.confidence, AUDITS)
    estimate = prior_from_audits(equal.probabilities, rows, gold[rows], weights)
    actual = np.maximum(np.bincount(gold, minlength=logprobs.shape[2]), 1) / len(gold)
    return {
        "raw": np.exp(log_normalise(logprobs[:, 0])),
        "raw views": np.exp(log_normalise(log_normalise(logprobs).mean(axis=1))),
        "batch, one step": _one_step(logprobs[:, 0]),
        "batch": equal.probabilities,
        "default": fit_decisions(logprobs).transform(logprobs).probabilities,
        "audited": fit_decisions(logprobs, prior=estimate).transform(logprobs).probabilities,
        "gold prior": fit_decisions(logprobs, prior=list(actual)).transform(logprobs).probabilities,
    }


def _one_step(logprobs: Floats) -> Floats:
    """Batch calibration as published, of one view."""
    uniform = np.full(logprobs.shape[1], 1.0 / logprobs.shape[1])
    values = log_normalise(logprobs)
    return np.exp(log_normalise(values - batch_bias(values, uniform, steps=1)))


def analyse(logprobs: Floats, gold: Ints) -> JsonObject:
    """Scores of every arm, the default's difference to raw, and the model's own report."""
    tables = arms(logprobs, gold)
    scores = {name: evaluate(table, gold) for name, table in tables.items()}
    picks = {name: table.argmax(axis=1) for name, table in tables.items()}
    gain = paired_difference(accuracy, picks["default"], picks["raw"], gold)
    report = fit_decisions(logprobs).report()
    return {
        "rows": len(gold),
        "views": logprobs.shape[1],
        "majority": float(np.bincount(gold).max() / len(gold)),
        "gain": gain.value,
        "gain_interval": [gain.low, gain.high],
        "prior_method": report["prior_method"],
        "prior_identified": report["prior_identified"],
        "view_correlation": report["view_correlation"],
        "order_flip_rate": report["order_flip_rate"],
        "ece_after_audits": audited_ece(tables["default"], gold),
        "arms": {name: score.to_json() for name, score in scores.items()},
    } | {"line": _line(scores)}


def audited_ece(probabilities: Floats, gold: Ints, *, seeds: int = 10) -> float:
    """Mean calibration error over draws of 100 audited rows, of the rows not audited."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == gold
    errors = []
    for seed in range(seeds):
        rows, weights = choose_audits(confidence, min(AUDITS, len(gold) // 2), seed=seed)
        calibrator = calibrate_with_audits(confidence[rows], correct[rows], weights=weights)
        rest = np.setdiff1d(np.arange(len(gold)), rows)
        errors.append(ece(calibrator.transform(confidence[rest]), correct[rest]))
    return float(np.mean(errors))


def _line(scores: Mapping[str, Scores]) -> str:
    cells = [f"{score.accuracy.value:.3f}/{score.ece:.3f}" for score in scores.values()]
    precision = " ".join(f"{value:.2f}" for value in scores["default"].precision.values())
    return "  ".join(cells) + f"  | {precision}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print accuracy/ECE per arm and the default's precision at coverage 30/50/70/100%."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("caches", nargs="+", metavar="name=file.npz[+file.npz]")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    results: dict[str, JsonObject] = {}
    for item in options.caches:
        name, _, files = item.partition("=")
        results[name] = analyse(*load([Path(file) for file in files.split("+")]))
        if len(results) == 1:
            print(
                "accuracy/ECE of raw, raw views, one step, batch, default, audited, gold prior | precision at coverage"
            )
        result = results[name]
        print(f"{name:28} {result['line']}  audited ECE {result['ece_after_audits']:.3f}  {result['prior_method']}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
