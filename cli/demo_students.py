"""The demo's second half: small models learn from the labels, and meet reviews that nobody has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cli.session import Session
from curator.engines.known import DEFAULT_ENCODER

if TYPE_CHECKING:
    from curator.engines.base import Engine
    from curator.evaluation import Comparison
    from curator.store import Store
    from curator.task import Classification, Task
    from curator.training.examples import TrainingSet

SMALL = "wheel:smollm2-135m"
ENCODER = DEFAULT_ENCODER
NEEDS = ("torch", "trl", "peft")
"""What training needs beside what the labels needed."""


@dataclass(frozen=True, slots=True)
class Examination:
    """Reviews that were held out: a file with their texts, and the store that keeps what is answered about them."""

    path: Path
    store: Store

    async def answers(self, task: Task[Classification], engine: Engine) -> dict[str, list[float]]:
        """Document -> probabilities, label bias removed as for any corpus. Asked once per engine."""
        from curator.pipeline import Plan, curate
        from curator.screening import Screening
        from curator.sources import open_source

        plan = Plan(screening=Screening(exact=False, near=None))
        result = await curate(task, engine, self.store, source=open_source(str(self.path)), plan=plan)
        rows = ((row.document.id, row.fields["label"]) for row in result.rows())
        return {name: details["probabilities"] for name, details in rows if isinstance(details, dict)}  # type: ignore[misc]


def trainable() -> bool:
    """Whether the packages that training needs are installed."""
    return all(find_spec(name) for name in NEEDS)


def head_of(folder: Path, version: int) -> Path:
    """Where the head that learned from a dataset version lies."""
    return folder / f"head-v{version}"


def teach(
    session: Session, data: TrainingSet[Classification], folder: Path, exam: Examination
) -> dict[str, dict[str, list[float]]]:
    """Train the students on a dataset version; returns each one's answers in the exam, before and after.

    A training that is done already is not done again.
    """
    from curator.engines import connect
    from curator.training.stored import train_heads

    task, number = data.task, data.found().version
    adapter, head = folder / f"smollm2-v{number}", head_of(folder, number)
    found = {"SmolLM2-135M, as it comes": _examined(session, task, exam, lambda: connect(f"transformers:{SMALL}"))}
    _fine_tune(session, data, adapter)
    if not (head / "head.json").is_file():
        with session.out.guarded():
            train_heads(data, head, ENCODER)
    tuned = _examined(session, task, exam, lambda: connect(f"transformers:{SMALL}", adapter=str(adapter)))
    found["SmolLM2-135M, fine-tuned on the labels"] = tuned
    found["head on MiniLM, trained on the labels"] = _examined(session, task, exam, lambda: connect(f"head:{head}"))
    return found


def compare(answers: Mapping[str, Mapping[str, list[float]]], gold: Mapping[str, str], labels: list[str]) -> Comparison:
    """Every arm against gold, and what it has over the first one."""
    import numpy as np

    from curator.evaluation import Arm
    from curator.evaluation import compare as compared

    names = sorted(gold)
    missing = [float("nan")] * len(labels)
    tables = {arm: np.asarray([given.get(name, missing) for name in names]) for arm, given in answers.items()}
    arms = {arm: Arm.of(table) for arm, table in tables.items()}
    return compared(arms, np.asarray([labels.index(gold[name]) for name in names]))


def _examined(
    session: Session, task: Task[Classification], exam: Examination, connected: Callable[[], Engine]
) -> dict[str, list[float]]:
    from contextlib import aclosing

    from cli.interrupt import run

    async def work() -> dict[str, list[float]]:
        async with aclosing(connected()) as engine:
            return await exam.answers(task, engine)

    with session.out.guarded():
        return run(work(), session.out.complain)


def _fine_tune(session: Session, data: TrainingSet[Classification], folder: Path) -> None:
    from cli.progress import showing
    from cli.train import Pace
    from curator.training.settings import SFTSettings
    from curator.training.sft import fine_tune

    # One pass over a few hundred short rows: what a laptop does in a few minutes.
    settings = SFTSettings(epochs=1, batch_size=8, micro_batch=8, max_length=256, evaluations=2, learning_rate=5e-4)
    pace = Pace()
    with session.out.guarded(), showing(session.out, pace):
        fine_tune(data, SMALL, folder, settings, progress=pace.report)
