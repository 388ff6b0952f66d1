"""What an evaluation found, one sentence per finding, each with what to do about it.

A sentence says no more than the figures carry: an interval that holds zero is "cannot be told apart".
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from curator.confidence import Floats
from curator.evaluation.comparison import Difference, confusion, per_class
from curator.evaluation.joined import Evaluation
from curator.evaluation.scores import Arm, Interval, Scores

FEW_ROWS = 100
"""Gold rows below which the interval of an accuracy is wider than about ten points to each side."""
LISTED = 5
"""Classes that one sentence names."""
SMALLEST_P = 0.0001
"""Smaller p-values are given as smaller than this."""
SIGMAS = 2.0
"""Standard errors that a difference must exceed to be called one."""


def findings(found: Evaluation) -> list[str]:
    """The findings, those about the subject first. Plain text, with `code` in backticks."""
    sentences = [_headline(found), _scope(found), _majority(found), _unanswered(found), *_confidence(found)]
    if found.closed:
        sentences += [*_classes(found), _worst_confusion(found)]
    sentences += [_difference(found, name, item) for name, item in found.comparison.differences.items()]
    return [sentence for sentence in [*sentences, _recovered(found)] if sentence]


def percent(share: float) -> str:
    """A share as per cent, with one decimal."""
    return f"{100 * share:.1f}%"


def bounds(value: Interval, *, scale: float = 100.0, digits: int = 1) -> str:
    """The ends of an interval."""
    return f"{scale * value.low:.{digits}f} to {scale * value.high:.{digits}f}"


def confidence_state(arm: Arm) -> str:
    """What a confidence is called where a person sees it."""
    if arm.sure is None:
        return "none given"
    basis = arm.basis or "not stated"
    return f"calibrated, basis {basis}" if arm.calibrated else f"*uncalibrated*, basis {basis}"


def recovered(found: Evaluation) -> str:
    """PGR with its interval, or `undefined` with the reason; "" where no arms for it are there."""
    if found.recovery is None:
        return ""
    if found.recovery.value is None:
        return f"undefined: {found.recovery.reason}"
    value = found.recovery.value
    return f"{value.value:.2f} (95% interval {bounds(value, scale=1.0, digits=2)})"


def _subject(found: Evaluation) -> Scores:
    return found.comparison.scores[found.subject]


def _headline(found: Evaluation) -> str:
    right = _subject(found).accuracy
    text = f"`{found.subject}` is right on {percent(right.value)} of {len(found.gold):,} gold rows"
    text += f" (95% interval {bounds(right)})."
    if len(found.gold) < FEW_ROWS:
        text += " That is few: four times as many gold rows halve the interval."
    return text


def _scope(found: Evaluation) -> str:
    left, parts = found.scope, []
    if left.unlabelled:
        parts.append(f"{left.unlabelled:,} gold rows are left out because `{found.subject}` does not hold them")
    if left.blank:
        parts.append(f"{left.blank:,} rows of the gold file are blank")
    if left.audited:
        parts.append(
            f"{left.audited:,} scored rows were audited, and a calibration may have learned from them: "
            "its error on them is too favourable"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _majority(found: Evaluation) -> str:
    """Whether the labels beat the constant answer. A share that accuracy does not exceed is no merit."""
    counts = np.bincount(found.gold, minlength=len(found.names))
    share, name = counts.max() / counts.sum(), found.names[int(counts.argmax())]
    if _subject(found).accuracy.low > share:
        return ""
    return (
        f"Always answering `{name}` would be right on {percent(float(share))}: `{found.subject}` is not shown to be "
        "better than that. Look at the prompts with `goldless preview`, or take a stronger model."
    )


def _unanswered(found: Evaluation) -> str:
    missing = {name: scores.rows - scores.answered for name, scores in found.comparison.scores.items()}
    parts = [f"`{name}` has no answer to {count:,}" for name, count in missing.items() if count]
    return f"{'; '.join(parts)} of {len(found.gold):,} rows, which count as wrong." if parts else ""


def _confidence(found: Evaluation) -> Iterator[str]:
    arm, scores = found.arms[found.subject], _subject(found)
    if arm.sure is None or scores.confidence is None:
        yield f"`{found.subject}` gives no confidence, so nothing can be selected by it."
        return
    answered = arm.predicted >= 0
    right = (arm.predicted[answered] == found.gold[answered]).astype(np.float64)
    mean = f"it says {percent(scores.confidence)} on average, {percent(float(right.mean()))} of the answers are right"
    excess = _excess(arm.sure[answered] - right)
    if not arm.calibrated:
        yield (
            f"The confidence is *uncalibrated* (basis {arm.basis or 'not stated'}): {mean}{excess}. Select by "
            "`coverage`, not by a threshold, until 50 to 200 rows are checked (`goldless audit --draw 100`)."
        )
    else:
        cause = " Ask whether gold and the rows that it was calibrated on are alike." if excess else ""
        yield f"The confidence rests on {arm.basis}: {mean}{excess}.{cause}"
    yield _ordering(found, arm)


def _excess(surplus: Floats) -> str:
    """By how much the confidence is too high or too low, where that is more than chance."""
    error = float(surplus.std(ddof=1)) / math.sqrt(len(surplus)) if len(surplus) > 1 else math.inf
    gap = float(surplus.mean())
    if abs(gap) <= SIGMAS * error:
        return ""
    return f", so it is too {'high' if gap > 0 else 'low'} by {100 * abs(gap):.1f} points"


def _ordering(found: Evaluation, arm: Arm) -> str:
    """Whether the more confident half is right more often than the other."""
    sure = arm.sure
    if sure is None or len(sure) < 4 or np.ptp(sure) == 0:
        return "The confidence is the same on all rows, so nothing can be selected by it."
    correct = (arm.predicted == found.gold)[np.argsort(-sure, kind="stable")].astype(np.float64)
    half = len(correct) // 2
    top, rest = correct[:half], correct[half:]
    error = math.sqrt(top.var(ddof=1) / len(top) + rest.var(ddof=1) / len(rest))
    gain, shares = top.mean() - rest.mean(), f"{percent(top.mean())} against {percent(rest.mean())}"
    if gain > SIGMAS * error:
        return f"The more confident half is right more often ({shares}): `[select] coverage = 0.5` would keep it."
    if gain < -SIGMAS * error:
        return f"The more confident half is right less often ({shares}): do not select by this confidence."
    return f"These rows do not show that higher confidence is right more often ({shares})."


def _classes(found: Evaluation) -> Iterator[str]:
    scores = per_class(found.arms[found.subject].predicted, found.gold, found.names)
    absent = [item.name for item in scores if not item.gold]
    if absent:
        yield f"Gold has no row of {_named(absent)}: nothing is known about them, and macro-F1 leaves them out."
    never = [item.name for item in scores if item.gold and not item.predicted]
    if never:
        yield f"`{found.subject}` never answers {_named(never)}: describe these options, or ask with more views."
    weakest = min(
        (item for item in scores if item.gold and item.predicted), key=lambda item: item.f1 or 0.0, default=None
    )
    if weakest is not None and len([item for item in scores if item.gold]) > 1:
        yield (
            f"The weakest class that is answered is `{weakest.name}`: F1 {weakest.f1 or 0.0:.3f}, precision "
            f"{weakest.precision or 0.0:.3f}, recall {weakest.recall or 0.0:.3f} on {weakest.gold:,} gold rows."
        )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(f"`{name}`" for name in names[:LISTED]) + more


def _worst_confusion(found: Evaluation) -> str:
    table = confusion(found.arms[found.subject].predicted, found.gold, len(found.names))[:, :-1]
    errors = table - np.diag(np.diag(table))
    total = int(errors.sum())
    if not total:
        return ""
    truth, answer = np.unravel_index(int(errors.argmax()), errors.shape)
    count = int(errors[truth, answer])
    return (
        f"The most frequent wrong answer is `{found.names[int(answer)]}` where gold says "
        f"`{found.names[int(truth)]}`: {count:,} of {total:,} wrong answers ({percent(count / total)}). Say in the "
        "options' descriptions how the two differ."
    )


def _difference(found: Evaluation, name: str, item: Difference) -> str:
    gap = item.accuracy
    figures = f"{100 * gap.value:+.1f} points, 95% interval {bounds(gap)}; exact McNemar {_p(item.p)}"
    if len(found.comparison.differences) > 1:
        figures += f", {_p(item.p_holm)} corrected for {len(found.comparison.differences)} tests"
    if gap.low > 0 or gap.high < 0:
        word = "better" if gap.low > 0 else "worse"
        return f"`{name}` is {word} than `{found.comparison.baseline}` ({figures})."
    return f"`{name}` and `{found.comparison.baseline}` cannot be told apart on these rows ({figures})."


def p_value(p: float) -> str:
    """A p-value with two digits; a tiny one as a bound."""
    return f"< {SMALLEST_P:.4f}" if p < SMALLEST_P else f"{p:.2g}"


def _p(p: float) -> str:
    return f"p {'' if p < SMALLEST_P else '= '}{p_value(p)}"


def _recovered(found: Evaluation) -> str:
    if found.roles is None or found.recovery is None:
        return ""
    weak, student, ceiling = found.roles
    text = f"PGR of `{student}` between `{weak}` and `{ceiling}`: {recovered(found)}."
    return text if found.recovery.value else f"{text} Compare the accuracies instead."
