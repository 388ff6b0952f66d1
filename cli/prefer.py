"""`goldless prefer`: a version of preference pairs -> a language model that prefers the better answers."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.data import find_version
from cli.output import duration, plain
from cli.session import Session, command
from cli.train import engine_weights, merge_beside, paced, show_trained
from cli.training_options import BatchSize, Epochs, MaxLength, Merge, MicroBatch, Out, Restart, Seed
from curator.training.preference_settings import DPOSettings

if TYPE_CHECKING:
    from pydantic import BaseModel

    from curator.store import ModelRecord
    from curator.training.pairs import PreferenceSet
    from curator.training.preference import PreferencePlan
    from curator.training.settings import TrainingProgress

DEFAULT = DPOSettings()


class Loss(StrEnum):
    """What is learned from a pair."""

    DPO = "dpo"
    ORPO = "orpo"


class OnFall(StrEnum):
    """What an alarm does."""

    STOP = "stop"
    WARN = "warn"


Adapter = Annotated[
    str | None, typer.Option("--adapter", help="A LoRA adapter of the base to go on with, such as Stage I's.")
]
Beta = Annotated[
    float, typer.Option("--beta", help="dpo: how close to stay to the start; orpo: the odds ratio's weight.")
]
NllWeight = Annotated[
    float, typer.Option("--nll-weight", help="Of the likelihood of the chosen answers, which dpo lacks.")
]
MostFall = Annotated[
    float, typer.Option("--most-fall", help="Nats per token that the chosen answers may lose before the alarm.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "prefer",
        example="goldless prefer --dry-run\ngoldless prefer --base wheel:smollm2-135m --out preferred\n"
        "goldless prefer 4 --adapter model-v2 --loss orpo",
    )(prefer)


def prefer(
    session: Session,
    version: Annotated[
        str, typer.Argument(help="The version's number, or `latest` for the task's latest preference pairs.")
    ] = "latest",
    base: Annotated[
        str | None,
        typer.Option("--base", "-b", help="The weights to start from; by default those of the settings' engine."),
    ] = None,
    adapter: Adapter = None,
    out: Out = None,
    loss: Annotated[
        Loss, typer.Option("--loss", help="dpo: against where it started; orpo: without a reference.")
    ] = Loss.DPO,
    beta: Beta = DEFAULT.beta,
    nll_weight: NllWeight = DEFAULT.nll_weight,
    most_fall: MostFall = DEFAULT.most_fall,
    on_fall: Annotated[OnFall, typer.Option("--on-fall", help="What the alarm does.")] = OnFall.STOP,
    epochs: Epochs = DEFAULT.epochs,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="By default 1e-5 for dpo, 8e-5 for orpo.")
    ] = None,
    batch_size: BatchSize = DEFAULT.batch_size,
    micro_batch: MicroBatch = DEFAULT.micro_batch,
    max_length: MaxLength = DEFAULT.max_length,
    seed: Seed = DEFAULT.seed,
    merge: Merge = False,
    restart: Restart = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take: pairs, tokens, steps, time.")
    ] = False,
) -> None:
    """Train a model on preference pairs: what is chosen becomes more likely than what is rejected.

    Both log-probabilities are kept over the steps, and an alarm is raised where the chosen answers become less likely
    themselves. A training that was stopped or killed goes on from its last checkpoint.
    """
    settings = DPOSettings(
        method="dpo" if loss is Loss.DPO else "orpo",
        epochs=epochs,
        learning_rate=learning_rate,
        beta=beta,
        nll_weight=nll_weight,
        adapter=adapter,
        most_fall=most_fall,
        on_fall="stop" if on_fall is OnFall.STOP else "warn",
        batch_size=batch_size,
        micro_batch=micro_batch,
        max_length=max_length,
        seed=seed,
    )
    data = _pairs(session, version)
    weights = base or engine_weights(session)
    _say_what_it_takes(session, data, weights, settings, dry_run)
    if dry_run:
        return None
    folder = out or Path(f"model-v{data.found().version}")
    record = _run(session, data, weights, folder, (settings, restart))
    merged = merge_beside(session, folder) if merge else None
    return show_trained(session, record, merged)


def _pairs(session: Session, version: str) -> PreferenceSet[BaseModel]:
    from curator.training.pairs import PreferenceSet

    store, task = session.store(), session.task()
    number = None if version == "latest" else find_version(store, version).version
    return PreferenceSet(store, task, number)


def _say_what_it_takes(
    session: Session, data: PreferenceSet[BaseModel], base: str, settings: DPOSettings, only: bool
) -> None:
    """The plan: as the command's result, or as news before it starts."""
    from curator.training.preference import plan_preferences

    with session.out.guarded():
        found = plan_preferences(data, base, settings)
    if not only:
        return session.out.say(_in_words(found))
    if session.out.json:
        return session.out.emit(plain(found))
    session.out.facts(
        {**plain(found), "seconds": None, "time": f"about {duration(found.seconds)}"}, title="This would take"
    )
    return None


def _in_words(found: PreferencePlan) -> str:
    return (
        f"{found.pairs:,} pairs ({found.validation_pairs:,} held out), {found.tokens:,} tokens an epoch,"
        f" {found.steps:,} steps, about {duration(found.seconds)}"
    )


def _run(
    session: Session, data: PreferenceSet[BaseModel], base: str, folder: Path, how: tuple[DPOSettings, bool]
) -> ModelRecord:
    from curator.training.preference import prefer as learn

    settings, restart = how

    def run(report: Callable[[TrainingProgress], None]) -> ModelRecord:
        return learn(data, base, folder, settings, restart=restart, progress=report)

    record = paced(session, folder, run)
    if alarms := record.report.get("alarms"):
        session.out.complain(f"the chosen answers have become less likely: {alarms}")
    return record
