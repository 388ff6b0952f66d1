"""A version of preferences as the token sequences that a model is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from curator.engines.prompt import Prompter
from curator.errors import InputError
from curator.preferences import Preference, read_preferences
from curator.store import DatasetVersion, Store, of_kind
from curator.task import Output, Task
from curator.training.examples import Split, continued

LEAST_PAIRS = 8
"""Fewer pairs than this teach a model these pairs, not what is better."""


@dataclass(frozen=True, slots=True)
class PreferenceSet(Generic[Output]):
    """A version of a task's preferences, by default the latest one."""

    store: Store
    task: Task[Output]
    version: int | None = None

    def found(self) -> DatasetVersion:
        """The version. Raises: InputError if there is none, it holds labels, or it was made with another task."""
        if self.version is None:
            wanted = (self.task.id, "preferences")
            mine = [item for item in self.store.datasets() if (item.task_id, item.kind) == wanted]
            if not mine:
                raise InputError("there are no preference pairs of this task", hint="goldless progressive makes them")
            return mine[-1]
        version = of_kind(self.store.dataset(self.version), "preferences")
        if version.task_id != self.task.id:
            raise InputError(
                f"version {version.version} was made with task {version.task_id}, this is task {self.task.id}",
                hint="train with the task, or the settings, that it was made with",
            )
        return version

    def pairs(self) -> list[Preference]:
        """All pairs. Raises: InputError for too few of them, or of a single document."""
        version = self.found()
        pairs = list(read_preferences(self.store, version.version))
        if len(pairs) < LEAST_PAIRS:
            raise InputError(
                f"dataset version {version.version} has {len(pairs)} pairs, training needs {LEAST_PAIRS}",
                hint="ask about more documents, or sample more answers to each",
            )
        return pairs


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and two answers as token ids; each answer ends with the token that ends the turn."""

    document_id: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def tokens(self) -> int:
        """Tokens that go through the model: the prompt is read twice."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def longest(self) -> int:
        """Tokens of the longer sequence."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of a version: those to train on, those to validate on, and how many were too long."""

    train: list[Pair]
    validation: list[Pair]
    too_long: int


def build_pairs(preferences: Sequence[Preference], prompter: Prompter, split: Split) -> Pairs:
    """Render and split the pairs. All pairs of a document lie on one side.

    Raises: InputError if nothing fits; TaskError if the model's chat template refuses.
    """
    held = split.held_out(item.document.id for item in preferences)
    limit = min(split.max_length, prompter.limit)
    rendered = [_pair(item, prompter) for item in preferences]
    fitting = [pair for pair in rendered if pair.longest <= limit]
    train = [pair for pair in fitting if pair.document_id not in held]
    validation = [pair for pair in fitting if pair.document_id in held]
    if not train or not validation:
        raise InputError(
            f"{len(rendered) - len(fitting)} pairs have more than {limit} tokens; {len(train)} are left to train on and"
            f" {len(validation)} to validate on",
            hint="raise max_length if the model's context allows it, or make pairs of more documents",
        )
    return Pairs(train, validation, len(rendered) - len(fitting))


def _pair(item: Preference, prompter: Prompter) -> Pair:
    prompt, chosen = continued(prompter, item.prompt, item.chosen)
    _, rejected = continued(prompter, item.prompt, item.rejected)
    return Pair(item.document.id, prompt, chosen, rejected)
