"""Training a language model on preference pairs, by DPO or ORPO.

    data = PreferenceSet(Store("reviews.duckdb"), task)
    record = prefer(data, "wheel:smollm2-135m", "preferred")
    engine = connect("transformers:wheel:smollm2-135m", adapter="preferred")

The log-probabilities of chosen and rejected answers are recorded over the steps, and an alarm is raised where that of
the chosen ones falls. A training that was killed goes on when it is called again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curator.engines.adapters import check_adapter
from curator.engines.weights import resolve
from curator.store import ModelRecord
from curator.task import Output
from curator.training.card import display
from curator.training.checkpoints import Checkpoints
from curator.training.estimate import training_seconds
from curator.training.examples import Split
from curator.training.outputs import missing_extra, weights_sha256
from curator.training.pairs import Pairs, PreferenceSet, build_pairs
from curator.training.preference_settings import DPOSettings
from curator.training.sft import Report
from curator.training.subject import Paths, Subject, carry_out
from curator.types import JsonObject


@dataclass(frozen=True, slots=True)
class PreferencePlan:
    """What a training on preferences takes. `tokens` are those of one epoch, through the model for both answers of
    every pair; `longest` is the longest sequence; `seconds` is a guess from how fast this machine multiplies."""

    dataset_version: int
    pairs: int
    validation_pairs: int
    too_long: int
    tokens: int
    longest: int
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Prepared:
    subject: Subject
    settings: DPOSettings
    pairs: Pairs


def plan_preferences(data: PreferenceSet[Output], base: str, settings: DPOSettings | None = None) -> PreferencePlan:
    """What `prefer` would take. Nothing is trained.

    Raises: as `prefer`.
    """
    made = _prepare(data, base, settings or DPOSettings())
    train, validation = made.pairs.train, made.pairs.validation
    tokens, held = sum(pair.tokens for pair in train), sum(pair.tokens for pair in validation)
    steps, every = made.settings.steps(len(train)), made.settings.every(len(train))
    evaluated = held * (steps // every + 1)
    measured = tokens + held if made.settings.method == "dpo" else 0
    return PreferencePlan(
        dataset_version=made.subject.version.version,
        pairs=len(train),
        validation_pairs=len(validation),
        too_long=made.pairs.too_long,
        tokens=tokens,
        longest=max(pair.longest for pair in (*train, *validation)),
        steps=steps,
        seconds=training_seconds(
            made.subject.weights.path, made.settings, tokens * made.settings.epochs, evaluated + measured
        ),
    )


def prefer(
    data: PreferenceSet[Output],
    base: str,
    folder: str | Path,
    settings: DPOSettings | None = None,
    *,
    restart: bool = False,
    progress: Report | None = None,
) -> ModelRecord:
    """Train an adapter for `base` (all that `resolve` takes) on `data`; write it, its card and `logprobs.json` to
    `folder` and record it in the store. Called again after it was stopped or killed, it goes on; called again when it
    is done, it returns the record. `restart` forgets what is in `folder`.

    `progress` is called after every step. The first SIGINT or SIGTERM saves a checkpoint and raises KeyboardInterrupt.
    Raises: InputError for data, settings or a folder that will not do; WeightsError for the base, the adapter to go on
    with, or a damaged checkpoint; TrainingError if the loss is no number or memory runs out; MissingExtraError;
    StoreLockedError.
    """
    try:
        from curator.training.preference_loop import train_pairs
    except ImportError as error:
        raise missing_extra(error) from error
    made = _prepare(data, base, settings or DPOSettings())

    def run(checkpoints: Checkpoints, paths: Paths) -> JsonObject:
        return train_pairs(made.subject.weights.path, made.pairs, made.settings, checkpoints, paths, progress)

    rows = len(made.pairs.train) + len(made.pairs.validation)
    return carry_out(made.subject, Path(folder).expanduser(), run, rows=rows, restart=restart)


def _prepare(data: PreferenceSet[Output], base: str, settings: DPOSettings) -> _Prepared:
    """Read the pairs, fetch the base's weights if need be, and render every pair."""
    version, given = data.found(), data.pairs()
    try:
        from curator.engines.torch_model import load_prompter
    except ImportError as error:
        raise missing_extra(error) from error
    weights = resolve(base)
    shown = settings.shown
    if settings.adapter is not None:
        adapter = check_adapter(Path(settings.adapter).expanduser(), weights)
        shown |= {"adapter": f"{display(settings.adapter)} ({weights_sha256(adapter)})"}
    split = Split(settings.validation, settings.seed, settings.max_length)
    pairs = build_pairs(given, load_prompter(weights.path, None), split)
    task = (data.task.id, data.task.instruction)
    return _Prepared(Subject(settings.method, data.store, version, task, base, weights, shown), settings, pairs)
