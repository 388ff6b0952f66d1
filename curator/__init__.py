"""goldless: unlabeled text in; versioned, confidence-scored training sets out.

The names below are the public API. They are imported when they are first used, so that
`import curator` costs nothing and a command that needs one of them does not pay for the others.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curator.denoising import Denoising
    from curator.engines import connect
    from curator.engines.base import Engine, EngineIdentity
    from curator.engines.scripted import ScriptedEngine
    from curator.engines.wrappers import Budget, wrap
    from curator.errors import GoldlessError
    from curator.export import export_dataset, to_dataset
    from curator.fields import Labels, Ordered, Reasoning
    from curator.pipeline import Curation, Plan, curate
    from curator.preferences import Preference, freeze_preferences, read_preferences
    from curator.screening import Screening
    from curator.selection import SelectionPolicy
    from curator.sources import open_source
    from curator.store import Audit, Store
    from curator.task import Classification, Response, Solution, Task, View, classify, respond, solve
    from curator.training.examples import TrainingSet
    from curator.training.merge import merge
    from curator.training.pairs import PreferenceSet
    from curator.training.preference import prefer
    from curator.training.preference_settings import DPOSettings
    from curator.training.settings import SFTSettings, TrainingProgress
    from curator.training.sft import fine_tune
    from curator.training.stored import train_heads
    from curator.types import Document, Price, Sampling, Template, Verdict

__all__ = [
    "Audit",
    "Budget",
    "Classification",
    "Curation",
    "DPOSettings",
    "Denoising",
    "Document",
    "Engine",
    "EngineIdentity",
    "GoldlessError",
    "Labels",
    "Ordered",
    "Plan",
    "Preference",
    "PreferenceSet",
    "Price",
    "Reasoning",
    "Response",
    "SFTSettings",
    "Sampling",
    "Screening",
    "ScriptedEngine",
    "SelectionPolicy",
    "Solution",
    "Store",
    "Task",
    "Template",
    "TrainingProgress",
    "TrainingSet",
    "Verdict",
    "View",
    "classify",
    "connect",
    "curate",
    "export_dataset",
    "fine_tune",
    "freeze_preferences",
    "merge",
    "open_source",
    "prefer",
    "read_preferences",
    "respond",
    "solve",
    "to_dataset",
    "train_heads",
    "wrap",
]

_HOMES = {
    "curator.denoising": ("Denoising",),
    "curator.engines": ("connect",),
    "curator.engines.base": ("Engine", "EngineIdentity"),
    "curator.engines.scripted": ("ScriptedEngine",),
    "curator.engines.wrappers": ("Budget", "wrap"),
    "curator.errors": ("GoldlessError",),
    "curator.export": ("export_dataset", "to_dataset"),
    "curator.fields": ("Labels", "Ordered", "Reasoning"),
    "curator.pipeline": ("Curation", "Plan", "curate"),
    "curator.preferences": ("Preference", "freeze_preferences", "read_preferences"),
    "curator.screening": ("Screening",),
    "curator.selection": ("SelectionPolicy",),
    "curator.sources": ("open_source",),
    "curator.store": ("Audit", "Store"),
    "curator.task": ("Classification", "Response", "Solution", "Task", "View", "classify", "respond", "solve"),
    "curator.training.examples": ("TrainingSet",),
    "curator.training.merge": ("merge",),
    "curator.training.pairs": ("PreferenceSet",),
    "curator.training.preference": ("prefer",),
    "curator.training.preference_settings": ("DPOSettings",),
    "curator.training.settings": ("SFTSettings", "TrainingProgress"),
    "curator.training.sft": ("fine_tune",),
    "curator.training.stored": ("train_heads",),
    "curator.types": ("Document", "Price", "Sampling", "Template", "Verdict"),
}
_MODULE = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE:
        raise AttributeError(f"module 'curator' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
