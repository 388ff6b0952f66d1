"""An evaluation as a Markdown page and as JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import orjson

from curator.confidence import Ints
from curator.errors import InputError
from curator.evaluation.comparison import ClassScores, confusion, per_class
from curator.evaluation.joined import Evaluation
from curator.evaluation.scores import COVERAGES, Interval
from curator.findings import bounds, confidence_state, findings, p_value, percent, recovered
from curator.types import JsonObject

CONFUSED = 8
"""Classes of the confusion matrix; with more, those that most errors are between."""
_METHOD = """\
Accuracy counts an unanswered row as wrong. Intervals are 95% percentile bootstrap intervals over rows (1,000
resamples; exact binomial ones where all rows are right or all wrong); differences are paired: both arms are scored on
the same resampled rows. McNemar's test is exact. ECE has 15 bins of equal width; Brier and NLL (nats) need a
distribution over the options. Precision at 30% is the share of right answers among the most confident 30% of the
rows. PGR = (student - weak) / (ceiling - weak) is given only where ceiling - weak exceeds both 5 points and 3 standard
errors. Gold was read for this page and for nothing else."""


def to_json(found: Evaluation) -> JsonObject:
    """All figures, and the findings as sentences."""
    arm = found.arms[found.subject]
    data: JsonObject = {
        "field": found.field,
        "subject": found.subject,
        **found.comparison.to_json(),
        "scope": asdict(found.scope),
        "confidence": {
            name: {"basis": item.basis, "calibrated": item.calibrated, "given": item.sure is not None}
            for name, item in found.arms.items()
        },
        "pgr": _pgr_json(found),
        "findings": list(findings(found)),
    }
    if found.closed:
        table = confusion(arm.predicted, found.gold, len(found.names))
        data["classes"] = [asdict(item) for item in per_class(arm.predicted, found.gold, found.names)]
        data["confusion"] = {"gold": list(found.names), "predicted": [*found.names, None], "counts": table.tolist()}
    return data


def _pgr_json(found: Evaluation) -> JsonObject | None:
    if found.recovery is None or found.roles is None:
        return None
    return {**found.recovery.to_json(), "defined": found.recovery.value is not None, "arms": list(found.roles)}


def to_markdown(found: Evaluation) -> str:
    """The whole page."""
    parts = [f"# Evaluation of `{found.field}`", "\n".join(f"- {sentence}" for sentence in findings(found))]
    for title, body in _sections(found):
        parts += [f"## {title}", body]
    return "\n\n".join(parts) + "\n"


def _sections(found: Evaluation) -> Iterator[tuple[str, str]]:
    yield "Arms", table(*arm_rows(found))
    if found.comparison.differences:
        yield f"Differences to `{found.comparison.baseline}`", table(*difference_rows(found))
    if found.recovery is not None and found.roles is not None:
        yield "Performance gap recovered", _gap(found)
    yield "Confidence", _confidence(found)
    if found.closed:
        yield f"Classes of `{found.subject}`", table(*class_rows(found))
        yield "Confusion", _confusion(found)
    yield "How to read this", _METHOD


def arm_rows(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Header and one row per arm: the headline table."""
    head = ["arm", "answered", "accuracy (95%)"] + ["macro-F1 (95%)"] * found.closed + ["ECE", "Brier", "NLL"]
    rows = []
    for name, scores in found.comparison.scores.items():
        row = [name, f"{scores.answered:,} of {scores.rows:,}", _interval(scores.accuracy)]
        row += [_interval(scores.macro_f1)] * found.closed
        row += [_figure(scores.ece), _figure(scores.brier), _figure(scores.nll)]
        row += [percent(scores.precision[share]) if scores.precision else "-" for share in COVERAGES]
        rows.append([*row, confidence_state(found.arms[name])])
    return [*head, *(f"precision at {share:.0%}" for share in COVERAGES), "confidence"], rows


def difference_rows(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Header and one row per arm beside the baseline."""
    head = ["arm", "accuracy (95%)", "macro-F1 (95%)", "only it right", "only the other right", "McNemar p", "p (Holm)"]
    rows = [
        [
            name,
            _interval(item.accuracy, sign="+"),
            _interval(item.macro_f1, sign="+"),
            f"{item.won:,}",
            f"{item.lost:,}",
            p_value(item.p),
            p_value(item.p_holm),
        ]
        for name, item in found.comparison.differences.items()
    ]
    chosen = [index for index, name in enumerate(head) if found.closed or not name.startswith("macro")]
    return [head[index] for index in chosen], [[row[index] for index in chosen] for row in rows]


def class_rows(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Header and one row per class of the subject."""
    scores = per_class(found.arms[found.subject].predicted, found.gold, found.names)
    return ["class", "gold rows", "answered", "precision", "recall", "F1"], [_class(item) for item in scores]


def _class(item: ClassScores) -> list[str]:
    figures = (item.precision, item.recall, item.f1)
    return [item.name, f"{item.gold:,}", f"{item.predicted:,}", *map(_figure, figures)]


def _gap(found: Evaluation) -> str:
    recovery, roles = found.recovery, found.roles
    if recovery is None or roles is None:
        return ""
    accuracies = (recovery.weak, recovery.student, recovery.ceiling)
    rows = [[role, name, percent(right)] for role, name, right in zip(_ROLES, roles, accuracies, strict=True)]
    return f"{table(['role', 'arm', 'accuracy'], rows)}\n\nPGR: {recovered(found)}"


_ROLES = ("weak", "student", "ceiling")


def _confidence(found: Evaluation) -> str:
    """What the subject's confidence rests on, and its reliability table."""
    state = f"`{found.subject}`: {confidence_state(found.arms[found.subject])}."
    bins = found.comparison.scores[found.subject].reliability
    if not bins:
        return state
    rows = [
        [
            f"{item.low:.2f} to {item.high:.2f}",
            f"{item.rows:,}",
            _figure(item.confidence),
            _figure(item.accuracy),
            f"{item.confidence - item.accuracy:+.3f}",
        ]
        for item in bins
    ]
    return f"{state}\n\n{table(['confidence', 'rows', 'mean confidence', 'right', 'too sure by'], rows)}"


def _confusion(found: Evaluation) -> str:
    counts = confusion(found.arms[found.subject].predicted, found.gold, len(found.names))
    chosen = worst_confused(counts)
    others = counts.sum(axis=1) - counts[:, chosen].sum(axis=1)
    head = ["gold / answer", *(found.names[index] for index in chosen), "other or none"]
    rows = [
        [found.names[row], *(f"{counts[row, column]:,}" for column in chosen), f"{others[row]:,}"] for row in chosen
    ]
    note = f"The {len(chosen)} of {len(found.names)} classes that most errors are between.\n\n"
    return (note if len(chosen) < len(found.names) else "") + table(head, rows)


def worst_confused(counts: Ints, size: int = CONFUSED) -> list[int]:
    """Up to `size` classes of a confusion matrix (k, k + 1), taken from the most frequent confusions
    down, in the order of their indices."""
    classes = len(counts)
    if classes <= size:
        return list(range(classes))
    errors = counts[:, :classes] - np.diag(np.diag(counts))
    chosen: dict[int, None] = {}
    for place in np.argsort(-errors, axis=None, kind="stable"):
        pair = divmod(int(place), classes)
        if len(chosen.keys() | set(pair)) > size or not errors[pair]:
            break
        chosen.update(dict.fromkeys(pair))
    return sorted(chosen)


def _interval(value: Interval, sign: str = "") -> str:
    unit = " points" if sign else "%"
    return f"{100 * value.value:{sign}.1f}{unit} ({bounds(value)})"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar or a line break in a cell does not break it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def write_report(found: Evaluation, path: Path) -> None:
    """Write the page, or all figures as JSON if the name ends in .json. Raises: InputError if it cannot be written."""
    text = to_markdown(found)
    if path.suffix.lower() == ".json":
        text = orjson.dumps(to_json(found), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    write_page(text, path)


def write_page(text: str, path: Path, option: str = "--out") -> None:
    """Write a file that appears whole or not at all. Raises: InputError if it cannot be written, naming the `option`
    that says where."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}", hint=f"name another {option}") from None
