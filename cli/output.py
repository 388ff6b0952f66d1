"""What people and scripts see: data goes to stdout, everything else to stderr.

With `--json` stdout carries one JSON object per line and nothing else. A table is drawn for a
terminal and written in plain, untruncated columns for a pipe.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

import orjson

from curator.types import Json, JsonObject

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Cell = Json | object
WIDE = 100_000
"""Columns of a table that is written into a pipe: nothing is cut there."""


class Output:
    """The two streams of one command."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        from cli.console import PipeConsole

        self.json = json
        self.quiet = quiet
        self.piped = not sys.stdout.isatty()
        self._stdout = sys.stdout
        width = WIDE if self.piped else None
        self._console = PipeConsole(file=sys.stdout, highlight=False, soft_wrap=self.piped, width=width)
        self.stderr: Console = PipeConsole(file=sys.stderr, highlight=False)

    def emit(self, value: Json | Mapping[str, object]) -> None:
        """One line of JSON on stdout."""
        line = orjson.dumps(value, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
        self._stdout.write(line.decode())

    def rows(self, columns: Sequence[str], rows: Iterable[Mapping[str, object]], *, title: str = "") -> int:
        """A table of `rows`, or one JSON object per row. Returns how many there were.

        In JSON a row keeps all of its keys; in a table it shows `columns`.
        """
        if not self.json:
            shown = [[row.get(name) for name in columns] for row in rows]
            self.print(table(columns, shown, title=title, ruled=not self.piped))
            return len(shown)
        count = 0
        for row in rows:
            self.emit(row)
            count += 1
        return count

    def facts(self, values: Mapping[str, object], *, title: str = "") -> None:
        """Names and values: two columns, or one JSON object."""
        if self.json:
            return self.emit(values)
        rows = [[name.replace("_", " "), value] for name, value in values.items()]
        return self.print(table((), rows, title=title, ruled=not self.piped))

    def print(self, renderable: RenderableType) -> None:
        """Human output on stdout."""
        self._console.print(renderable)

    def text(self, content: str = "", *, style: str = "") -> None:
        """Plain text on stdout; nothing in it is read as markup."""
        from rich.text import Text

        self._console.print(Text(clean(content, keep_lines=True), style=style), soft_wrap=True)

    def say(self, message: str, *, style: str = "") -> None:
        """A message to the person, on stderr; silent under `--quiet`."""
        if not self.quiet:
            self.complain(message, style=style)

    def complain(self, message: str, *, style: str = "") -> None:
        """A message on stderr that `--quiet` does not silence."""
        from rich.text import Text

        self.stderr.print(Text(clean(message, keep_lines=True), style=style), soft_wrap=True)

    def flush(self) -> None:
        """Raises: BrokenPipeError if the reader has gone."""
        self._stdout.flush()

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """While models run, whatever they print, in Python or in C, goes to stderr: stdout stays data."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            if _descriptor(self._stdout) == 1:
                stack.enter_context(_moved(self))
            yield

    def retarget(self, stream: TextIO) -> TextIO:
        """Send the data to another stream from now on; returns the one before."""
        before, self._stdout = self._stdout, stream
        self._console.file = stream
        return before


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str = "", ruled: bool = True
) -> RenderableType:
    """A table whose cells are shown literally; numbers stand right. Without rules it is easy to cut."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    width = len(columns) or max((len(row) for row in cells), default=0)
    style = box.SIMPLE_HEAD if ruled else None
    drawn = Table(box=style, title=title or None, title_justify="left", show_header=bool(columns), pad_edge=ruled)
    for index in range(width):
        numeric = all(_numeric(row[index]) for row in cells) and bool(columns)
        drawn.add_column(
            columns[index].replace("_", " ") if columns else "", justify="right" if numeric else "left", overflow="fold"
        )
    for row in cells:
        drawn.add_row(*(Text(show(cell)) for cell in row))
    return drawn


def show(value: Cell) -> str:
    """A cell's text: thousands separated, three decimals, `-` for unknown and for nothing, flat lists
    and objects spelled out, JSON for the rest."""
    match value:
        case None | [] | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2g}"
        case str():
            return clean(value)
        case list() | tuple() if not any(isinstance(item, (list, tuple, dict)) for item in value):
            return ", ".join(map(show, value))
        case dict() if not value:
            return "-"
        case dict() if not any(isinstance(item, (list, tuple, dict)) for item in value.values()):
            return ", ".join(f"{clean(str(name))} {show(item)}" for name, item in value.items())
        case _:
            return clean(orjson.dumps(value, default=str).decode())


def clean(text: str, *, keep_lines: bool = False) -> str:
    """`text` without what would drive a terminal: control characters are spelled out."""
    kept = "\n\t" if keep_lines else ""
    return "".join(c if c.isprintable() or c in kept else " " if c.isspace() else _escape(c) for c in text)


def clip(text: str, width: int) -> str:
    """The beginning of `text` on one line of at most `width` characters."""
    line = " ".join(clean(text[: width * 4]).split())
    return line if len(line) <= width and len(text) <= width * 4 else line[: width - 1] + "…"


def amount(value: float | None, currency: str = "") -> str:
    """Money, with enough digits for small sums; `-` where the price is unknown."""
    if value is None:
        return "-"
    digits = 2 if value == 0 or value >= 1 else 4
    return f"{value:,.{digits}f} {currency}".rstrip()


def duration(seconds: float | None) -> str:
    """`1h 02m`, `3m 05s`, `12s`; `-` for unknown."""
    if seconds is None or seconds != seconds or seconds == float("inf"):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def plain(value: object) -> JsonObject:
    """A dataclass as JSON values."""
    loaded: JsonObject = orjson.loads(orjson.dumps(value, default=str))
    return loaded


def survive_any_terminal() -> None:
    """Characters that the terminal's encoding lacks are spelled out; they never stop a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """After the reader has gone: let the interpreter's last flush go nowhere (Python docs, `signal`)."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _numeric(value: Cell) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _moved(out: Output) -> Iterator[None]:
    """Descriptor 1 points to stderr; `out` keeps the real stdout."""
    out.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    with open(kept, "w", encoding="utf-8", errors="backslashreplace", buffering=1) as data:
        original = out.retarget(data)
        try:
            yield
        finally:
            data.flush()
            os.dup2(kept, 1)
            out.retarget(original)
