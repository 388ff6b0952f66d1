"""Scores against gold. The only part of the curator that sees gold, and only to report.

Every function takes `gold` explicitly; selection, calibration and training call none of them.

| module | what it holds |
|---|---|
| `scores` | one arm: accuracy, macro-F1, ECE, Brier, NLL, reliability, precision at coverage |
| `comparison` | several arms on the same rows: paired bootstrap, exact McNemar; per class; confusion |
| `gains` | PGR or why it is undefined, misfit, rank correlation |
| `answers` | gold files, prediction files and the store's labels, read and checked |
| `joined` | gold and answers put together row by row: an `Evaluation` |

`curator.report` turns an `Evaluation` into a page.
"""

from __future__ import annotations

from curator.evaluation.comparison import (
    ClassScores,
    Comparison,
    Difference,
    Paired,
    compare,
    confusion,
    mcnemar,
    per_class,
)
from curator.evaluation.gains import Misfit, Recovery, misfit, pgr, spearman
from curator.evaluation.scores import (
    COVERAGES,
    Arm,
    Bin,
    Interval,
    Metric,
    Scores,
    accuracy,
    bootstrap,
    brier,
    ece,
    evaluate,
    macro_f1,
    nll,
    paired_difference,
    precision_at,
    reliability,
    score,
)

__all__ = [
    "COVERAGES",
    "Arm",
    "Bin",
    "ClassScores",
    "Comparison",
    "Difference",
    "Interval",
    "Metric",
    "Misfit",
    "Paired",
    "Recovery",
    "Scores",
    "accuracy",
    "bootstrap",
    "brier",
    "compare",
    "confusion",
    "ece",
    "evaluate",
    "macro_f1",
    "mcnemar",
    "misfit",
    "nll",
    "paired_difference",
    "per_class",
    "pgr",
    "precision_at",
    "reliability",
    "score",
    "spearman",
]
