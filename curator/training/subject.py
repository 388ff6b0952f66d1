"""A training from beginning to end: its folder, its checkpoints, its place in the store.

What is trained differs; that a killed training goes on, that a finished one is not done again, and that the store
knows what a model was made of does not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from curator.engines.adapters import RECORD, record_of, shape_of
from curator.engines.weights import Weights
from curator.errors import WeightsError
from curator.store import DatasetVersion, ModelKind, ModelRecord, Store
from curator.telemetry import stage_span
from curator.training.card import card, display
from curator.training.checkpoints import RESTART, Checkpoints, check_key
from curator.training.outputs import check_empty, filling, tidy_adapter, weights_sha256
from curator.types import JsonObject

CHECKPOINTS = "checkpoints"
Paths = tuple[Path | None, Path]
"""The checkpoint to go on from, None to begin, and the folder for the best state."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained: `base`, on the rows of `version`, with `settings`. `task` is its id and its instruction."""

    kind: ModelKind
    store: Store
    version: DatasetVersion
    task: tuple[str, str]
    base: str
    weights: Weights
    settings: JsonObject

    @property
    def key(self) -> JsonObject:
        """What makes two trainings the same."""
        return {
            "base": self.base,
            "revision": self.weights.revision,
            "dataset_version": self.version.version,
            "dataset_hash": self.version.hash,
            "task": self.task[0],
            **self.settings,
        }

    @property
    def described(self) -> JsonObject:
        """What goes into the folder's record, beside the metrics."""
        return {
            "kind": self.kind,
            "base": self.base,
            "revision": self.weights.revision,
            "shape": shape_of(self.weights.path),
            "dataset_version": self.version.version,
            "dataset_hash": self.version.hash,
            "task": self.task[0],
            "instruction": self.task[1],
            "settings": self.settings,
            "key": self.key,
        }

    def recorded(self, folder: Path, report: JsonObject, run_id: str) -> ModelRecord:
        """The store's record of the model in `folder`."""
        return ModelRecord(
            name=folder.absolute().name,
            kind=self.kind,
            base=self.base,
            revision=self.weights.revision,
            dataset_version=self.version.version,
            dataset_hash=self.version.hash,
            path=str(folder.absolute()),
            sha256=weights_sha256(folder),
            report={"settings": self.settings, **report},
            run_id=run_id,
        )


def carry_out(
    subject: Subject, folder: Path, train: Callable[[Checkpoints, Paths], JsonObject], *, rows: int, restart: bool
) -> ModelRecord:
    """Train into `folder`, write the model's record and card, and record it in the store; `train` returns the metrics.

    Raises: InputError if the folder holds something else; WeightsError; what `train` raises.
    """
    if (done := _begin(folder, subject, restart)) is not None:
        return done
    checkpoints = Checkpoints(folder / CHECKPOINTS, subject.key)
    with subject.store.run("train", {"folder": str(folder), **subject.key}) as run:
        last = checkpoints.begin()
        with stage_span("train", rows=rows), filling(folder) as place:
            report = train(checkpoints, (last, place))
            if subject.settings["method"] != "full":
                tidy_adapter(place, display(subject.base))
            record = {**subject.described, "report": report}
            (place / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
            (place / "README.md").write_text(card(folder.name, record), encoding="utf-8")
        checkpoints.clear()
        return subject.store.add_model(subject.recorded(folder, report, run.id))


def _begin(folder: Path, subject: Subject, restart: bool) -> ModelRecord | None:
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
        check_key(folder, record.get("key"), subject.key)
        return _known(folder, subject)
    return None


def _empty(folder: Path) -> None:
    """Remove what a training wrote, and nothing else. The record goes first: without it the rest is nothing."""
    (folder / RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    for pattern in ("*.safetensors", "*.index.json", "adapter_config.json", "logprobs.json"):
        for path in folder.glob(pattern):
            path.unlink()


def _known(folder: Path, subject: Subject) -> ModelRecord:
    """The record of a model that is complete. Killed between the two, a training may have written the folder and
    not the store. Raises: WeightsError if the weights have changed."""
    sha256 = weights_sha256(folder)
    store = subject.store
    found = [item for item in store.models() if item.path == str(folder.absolute())]
    if not found:
        report = record_of(folder).get("report")
        with store.run("train", {"folder": str(folder), **subject.key}) as run:
            return store.add_model(subject.recorded(folder, report if isinstance(report, dict) else {}, run.id))
    if found[-1].sha256 != sha256:
        raise WeightsError(f"the weights in {folder} are not those that were trained", hint=RESTART)
    return found[-1]
