"""A store with preference pairs, for the tests of training. Run as a program it trains, so that it can be killed:

python pair_builders.py STORE BASE FOLDER MARKS

writes the number of every step to MARKS.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from curator.preferences import Preference, freeze_preferences
from curator.store import Store
from curator.task import solve
from curator.training.pairs import PreferenceSet
from curator.training.preference_settings import DPOSettings
from curator.training.settings import TrainingProgress
from curator.types import Document

TASK = solve(int, "Add.")
QUICK = DPOSettings(
    epochs=2, batch_size=4, micro_batch=2, learning_rate=5e-3, dtype="float32", evaluations=4, validation=0.25
)


def pair(number: int, again: int = 0) -> Preference:
    """The sum is better than the first number."""
    document = Document(f"d{number}", f"{number} + {number + 1}")
    prompt = TASK.generate_request(document).messages
    chosen = f"{'So ' * again}it is {2 * number + 1}.\nAnswer: {2 * number + 1}"
    return Preference(document, prompt, chosen, f"It is {number}.\nAnswer: {number}", 0.8, {"again": again})


def pair_set(path: Path, count: int = 16, each: int = 1) -> PreferenceSet:
    """A store at `path` with `each` pairs of so many documents as its next version."""
    store = Store(path, wait=20)
    pairs = [pair(number, again) for number in range(count) for again in range(each)]
    store.add_documents([list({item.document.id: item.document for item in pairs}.values())], source="s", run_id="r")
    with store.run("pairs", {}) as run:
        version = freeze_preferences(TASK, store, run, pairs, {}, {})
    return PreferenceSet(store, TASK, version.version)


def main(store: str, base: str, folder: str, marks: str) -> None:
    from curator.training.preference import prefer

    def mark(progress: TrainingProgress) -> None:
        with Path(marks).open("a") as file:
            file.write(f"{progress.step}\n")
        time.sleep(0.2)

    prefer(PreferenceSet(Store(store, wait=20), TASK), base, folder, QUICK, progress=mark)


if __name__ == "__main__":
    main(*sys.argv[1:])
