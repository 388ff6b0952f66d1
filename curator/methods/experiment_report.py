"""A weak-to-strong experiment as a Markdown page and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import orjson

from curator.evaluation.grades import Grade
from curator.evaluation.scores import Interval
from curator.findings import bounds, percent
from curator.methods.experiment import Exam, Found
from curator.methods.misfit import MIN_FIT, Law
from curator.report import table
from curator.types import JsonObject

_METHOD = """\
Students are linear heads on frozen features. They learn from soft weak labels; early stopping looks at held-out *weak*
labels. `naive` learns from all of them, `filtered` from those that were selected, `random` from as many that chance
picked within each class. All figures are taken on held-out rows, which no student was trained on; rows that a teacher
was trained on itself count nowhere. Figures are means over seeds, intervals 95% percentile bootstrap over rows, paired
for gains. The misfit is the distance between the students and their teacher; under squared loss and a convex class of
heads the gain is at least the squared misfit (arXiv 2405.15116). `fit` near 1 says that training is done; below {fit}
the misfit of undertrained students means nothing. PGR = (student - weak) / (ceiling - weak) is given only where
ceiling - weak exceeds both 5 points and 3 standard errors."""

Table = tuple[list[str], list[list[str]]]


def to_json(found: Found, exam: Exam | None = None) -> JsonObject:
    """All figures."""
    plain: JsonObject = orjson.loads(
        orjson.dumps(
            {
                "rows": {"train": int((~found.pool.held).sum()), "held_out": int(found.pool.held.sum())},
                "teachers": [
                    {**asdict(one), "trained": one.trained, "student_error": one.student_error}
                    for one in found.standings
                ],
                "chosen": found.teacher.name,
                "trained": found.trained,
                "score": found.score,
                "choice": asdict(found.recipe.choice),
                "seeds": found.recipe.seeds,
                "arms": [asdict(one) for one in found.arms],
                "gold": None if exam is None else _exam_json(exam),
                "findings": list(findings(found, exam)),
            }
        )
    )
    return plain


def _exam_json(exam: Exam) -> dict[str, object]:
    return {
        "rows": exam.rows,
        "arms": [asdict(one) for one in exam.grades],
        "teachers": {
            name: {"weak": asdict(weak), "student": asdict(own)} for name, (weak, own) in exam.teachers.items()
        },
        "laws": {name: asdict(one) for name, one in exam.laws.items()},
        "no_ceiling": exam.no_ceiling,
    }


def to_markdown(found: Found, exam: Exam | None = None) -> str:
    """The whole page."""
    parts = ["# Weak to strong", "\n".join(f"- {sentence}" for sentence in findings(found, exam))]
    for title, (head, rows) in tables(found, exam):
        parts += [f"## {title}", table(head, rows)]
    return "\n\n".join([*parts, "## How to read this", _METHOD.format(fit=MIN_FIT)]) + "\n"


def tables(found: Found, exam: Exam | None = None) -> Iterator[tuple[str, Table]]:
    """Title and table of each part."""
    yield "Teachers", _teachers(found, exam)
    yield f"Students of {found.teacher.name}", _graded(exam) if exam else _ungraded(found)
    if exam and exam.laws:
        yield "Misfit against real gain", _laws(exam.laws)


def findings(found: Found, exam: Exam | None = None) -> Iterator[str]:
    """What the figures say, in sentences."""
    best = next(one for one in found.standings if one.teacher == found.teacher.name)
    if not found.trained:
        yield (
            f"No teacher's students are trained to the end (fit {best.fit:.2f}, {MIN_FIT} is needed): their misfit "
            "means nothing. Train on more rows, or look at whether the labels have anything to do with the texts."
        )
    elif len(found.standings) > 1:
        yield (
            f"Of {len(found.standings)} teachers `{best.teacher}` is chosen: its estimated squared error "
            f"{best.error:.3f} less the squared misfit {best.misfit.squared.value:.3f} is the smallest. The "
            f"estimate rests on {best.rests_on}."
        )
    same = f"On {best.rows:,} held-out rows `{best.teacher}` and its students say the same in {percent(best.agreement)}"
    yield from found.remarks
    if exam is None:
        yield f"{same}. Who is right where they differ only gold can tell (--gold)."
        return
    yield f"{same}."
    yield from _verdicts(exam)


def _verdicts(exam: Exam) -> Iterator[str]:
    naive = exam.grades[1]
    yield (
        f"`{naive.arm}` ({naive.loss}) is {_points(naive.gain)} over its teacher on {exam.rows:,} rows with gold: "
        f"{_said(naive.gain, 'the student is better', 'the student is worse')}."
    )
    for one in exam.grades:
        if one.over_random is not None:
            yield (
                f"The selected rows ({one.loss}) are {_points(one.over_random)} over as many random ones: "
                f"{_said(one.over_random, 'selecting helps', 'selecting harms')}."
            )
    if exam.no_ceiling:
        yield f"There is no ceiling, and so no PGR: {exam.no_ceiling}."
    elif naive.recovery is not None:
        value = naive.recovery.value
        shown = f"{value.value:.2f} ({bounds(value, scale=1, digits=2)})" if value else "undefined"
        yield f"PGR of `{naive.arm}` ({naive.loss}): {'; '.join(filter(None, [shown, naive.recovery.reason]))}."


def _said(gain: Interval, better: str, worse: str) -> str:
    return better if gain.low > 0 else worse if gain.high < 0 else "these rows do not show a difference"


def _teachers(found: Found, exam: Exam | None) -> Table:
    head = [
        "teacher",
        "labelled held-out rows",
        "agreement",
        "fit",
        "squared misfit",
        "KL",
        "estimated error",
        "error - misfit",
    ]
    head += ["weak accuracy", "student gain"] if exam else []
    rows = []
    for one in found.standings:
        error = f"{one.student_error:.3f}" if one.trained else "undertrained"
        row = [one.teacher, f"{one.rows:,}", percent(one.agreement), f"{one.fit:.2f}"]
        row += [f"{one.misfit.squared.value:.3f}", f"{one.misfit.kl.value:.3f}", f"{one.error:.3f}", error]
        if exam:
            weak, student = exam.teachers[one.teacher]
            row += [percent(weak.accuracy.value), _points(student.gain)]
        rows.append(row)
    return head, rows


def _ungraded(found: Found) -> Table:
    rows = [
        [
            one.arm,
            one.loss,
            f"{one.rows:,}",
            percent(one.agreement),
            f"{one.misfit.squared.value:.3f}",
            f"{one.misfit.kl.value:.3f}",
        ]
        for one in found.arms
    ]
    return ["arm", "loss", "rows", "agreement with the teacher", "squared misfit", "KL"], rows


def _graded(exam: Exam) -> Table:
    head = ["arm", "loss", "rows", "accuracy (95%)", "over seeds", "macro-F1", "over weak", "over random", "PGR"]
    return head, [_grade_row(one) for one in exam.grades]


def _grade_row(one: Grade) -> list[str]:
    accuracy = one.accuracy
    recovered = one.recovery.value if one.recovery else None
    return [
        one.arm,
        one.loss or "-",
        f"{one.rows:,}" if one.rows else "-",
        f"{percent(accuracy.value)} ({bounds(accuracy)})",
        f"±{100 * one.spread:.1f}" if one.seeds > 1 else "-",
        f"{one.macro_f1:.3f}",
        "-" if one.arm == "weak" else _points(one.gain),
        _points(one.over_random) if one.over_random else "-",
        f"{recovered.value:.2f}" if recovered else "undefined" if one.recovery else "-",
    ]


def _laws(laws: dict[str, Law]) -> Table:
    head = ["what", "teachers", "slope", "R2", "rank correlation (95%)"]
    rows = []
    for name, one in laws.items():
        rank = f"{one.rank.value:.2f} ({bounds(one.rank, scale=1, digits=2)})" if one.rank else "-"
        rows.append([name, str(one.teachers), f"{one.slope:.2f}", f"{one.r2:.2f}", rank])
    return head, rows


def _points(gain: Interval) -> str:
    return f"{100 * gain.value:+.1f} points ({bounds(gain)})"
