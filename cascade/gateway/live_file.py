"""Live risk on disk, so that a restart forgets neither the counts nor an alarm, and processes know each other's alarms.

Several processes may serve with the same settings. Each has a file of its own: `live.json`, `live.2.json` and so on,
the first that no living process holds. It continues what is in its own, and reads the others' when they change.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from cascade.live_state import LiveState
from curator.errors import ConfigError

_STATES: Final = TypeAdapter(tuple[LiveState, ...])


MOST: Final = 256
"""Processes that share a folder."""

Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """What changes when a file is written; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class LiveFile:
    """The file of one process, by default `path`, and those of the others. It is held until `close`.

    Raises: ConfigError where no file can be held.
    """

    def __init__(self, path: Path) -> None:
        self._base = path
        self._stamps: dict[Path, Stamp] = {}
        self.path, lock = self._held()
        # Also where a server does not come to its start, and nobody closes.
        self._release = weakref.finalize(self, os.close, lock)

    def others(self) -> list[Path]:
        """The files of other processes that are new, or have changed since this was asked last; also of those that
        have ended, as an alarm outlives its process."""
        found = [
            path for path in self._base.parent.glob(f"{self._base.stem}*{self._base.suffix}") if self._is_one(path)
        ]
        changed = []
        for path in sorted(found):
            now = stamp(path)
            if now is not None and self._stamps.get(path) != now:
                changed.append(path)
            self._stamps[path] = now
        return changed

    def close(self) -> None:
        """Let go of the file. Twice is fine."""
        self._release()

    def _held(self) -> tuple[Path, int]:
        for number in range(1, MOST + 1):
            path = self._numbered(number)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                hint = "name a file that can be written in serve.live.state"
                raise ConfigError(f"the live risk cannot be kept in {path}: {error.strerror}", hint=hint) from None
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                continue
            return path, lock
        raise ConfigError(
            f"{MOST} processes keep their live risk beside {self._base}", hint="name another file in serve.live.state"
        )

    def _numbered(self, number: int) -> Path:
        return self._base if number == 1 else self._base.with_name(f"{self._base.stem}.{number}{self._base.suffix}")

    def _is_one(self, path: Path) -> bool:
        number = path.name.removeprefix(self._base.stem).removesuffix(self._base.suffix)
        return path != self.path and (not number or (number[0] == "." and number[1:].isdecimal()))


def read_states(path: Path) -> tuple[LiveState, ...]:
    """The states in a file; none where there is none yet.

    Raises: ConfigError for a file that holds something else: to begin anew would forget its alarms.
    """
    try:
        return _STATES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"the live risk in {path} cannot be read: {error.strerror}") from None
    except ValidationError:
        hint = "name another file in serve.live.state, or remove it to begin anew"
        raise ConfigError(f"{path} holds no live risk", hint=hint) from None


def write_states(path: Path, states: Sequence[LiveState]) -> None:
    """Replace the file at once or not at all. Raises: OSError."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(_STATES.dump_json(tuple(states)))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
