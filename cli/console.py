"""The console that people's output is written to. Imported when a command runs, not for help."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class PipeConsole(Console):
    """Leaves a reader that has gone to the error handler; rich would end the process with code 1."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError
