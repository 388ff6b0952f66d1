"""Live risk on disk, so that a restart forgets neither the counts nor an alarm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from cascade.live_state import LiveState
from curator.errors import ConfigError

_STATES: Final = TypeAdapter(tuple[LiveState, ...])


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
