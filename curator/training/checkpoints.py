"""Checkpoints that say whose they are and whether they are whole.

    <folder>/checkpoints/key.json           what is being trained: base, data, settings
    <folder>/checkpoints/checkpoint-<n>/    written by the trainer after step n
    <folder>/checkpoints/checkpoint-<n>/whole.json   written last: the sha256 of every file

A checkpoint without `whole.json` was being written when the process was killed; it counts as not there.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from curator.engines.cache import sha256_of
from curator.errors import InputError, WeightsError
from curator.types import JsonObject

RESTART = "restart=True (goldless train --restart) starts again from the beginning"
PREFIX = "checkpoint-"
_KEY = "key.json"
_WHOLE = "whole.json"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of the training that `key` describes, in `folder`."""

    folder: Path
    key: JsonObject

    def begin(self) -> Path | None:
        """Make the folder ready; returns the last whole checkpoint, None to start from the beginning.

        Raises: InputError if the folder belongs to another training; WeightsError if a checkpoint is damaged or
        was deleted.
        """
        note = self.folder / _KEY
        if not note.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps({"key": self.key, "saved": 0}))
            return None
        found = _read(note)
        check_key(self.folder, found.get("key"), self.key)
        return self._last(found.get("saved"))

    def _last(self, saved: object) -> Path | None:
        whole = {_step(path.parent): path.parent for path in self.folder.glob(f"{PREFIX}*/{_WHOLE}")}
        if saved and (not whole or max(whole) != saved):
            raise WeightsError(f"the checkpoint {self.folder / f'{PREFIX}{saved}'} was deleted", hint=RESTART)
        for path in self.folder.glob(f"{PREFIX}*"):
            if path not in whole.values():
                shutil.rmtree(path)
        if not whole:
            return None
        verify(whole[max(whole)])
        return whole[max(whole)]

    def seal(self, checkpoint: Path) -> None:
        """Note that a checkpoint is whole."""
        sums: JsonObject = {str(path.relative_to(checkpoint)): sha256_of(path) for path in _files(checkpoint)}
        _write(checkpoint / _WHOLE, {"sha256": sums})
        _write(self.folder / _KEY, {"key": self.key, "saved": _step(checkpoint)})

    def clear(self) -> None:
        """Forget them all."""
        shutil.rmtree(self.folder, ignore_errors=True)


def check_key(folder: Path, found: object, wanted: JsonObject) -> None:
    """Raises: InputError that says in what the two trainings differ."""
    there = found if isinstance(found, dict) else {}
    names = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
    if names:
        differ = ", ".join(f"{name} {there.get(name)} there, {wanted.get(name)} now" for name in names)
        raise InputError(f"{folder} belongs to another training: {differ}", hint=f"choose another folder; or {RESTART}")


def verify(checkpoint: Path) -> None:
    """Raises: WeightsError if it was deleted, or naming the file that is missing or damaged."""
    if not checkpoint.is_dir():
        raise WeightsError(f"the checkpoint {checkpoint} was deleted", hint=RESTART)
    sums = _read(checkpoint / _WHOLE).get("sha256")
    for name, expected in (sums if isinstance(sums, dict) else {}).items():
        path = checkpoint / name
        if not path.is_file():
            raise WeightsError(f"the checkpoint {checkpoint} lacks {name}", hint=RESTART)
        if sha256_of(path) != expected:
            raise WeightsError(f"the checkpoint {checkpoint} is damaged: {name} has changed", hint=RESTART)


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != _WHOLE)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def _write(path: Path, value: JsonObject) -> None:
    """Whole or not at all: a process that is killed leaves the old file."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value))
    part.replace(path)


def _read(path: Path) -> JsonObject:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", hint=RESTART) from error
    return found if isinstance(found, dict) else {}
