"""Plain text: a file with one document per line, or a folder with one document per file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from curator.errors import SourceError
from curator.sources.base import BadRow, Reading, Row, excerpt
from curator.sources.rows import TextTemplate
from curator.sources.streams import BOMS, Part, canonical, text_bytes

SUFFIXES = (".txt", ".md", ".markdown", ".rst", ".text")


def read_lines(part: Part, reading: Reading) -> Iterator[Row | BadRow]:
    """One document per line, without the line break; blank lines are skipped. There is one column,
    called as `reading.text` asks, so ids are content hashes."""
    column = TextTemplate.of(reading.text).columns[0]
    with part.opened() as stream:
        text = text_bytes(part, stream, reading.encoding)
        for number, line in enumerate(text.decoded(reading.max_row_bytes), 1):
            if isinstance(line, BadRow):
                yield line
            elif not line.isspace():
                yield Row(number, {column: line.rstrip("\r\n")}, plain=True)


def text_files(folder: Path) -> list[Path]:
    """The text files in `folder`, recursively, hidden ones left out, in the order of their names.
    Raises SourceError where there are none."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not _hidden(path.relative_to(folder))
    ]
    if not found:
        others = sorted({path.suffix for path in folder.iterdir() if path.suffix})
        there = f"; there are {', '.join(others[:8])} files" if others else ""
        raise SourceError(
            f"{folder} holds no text files ({', '.join(SUFFIXES)}){there}",
            hint=f"for data files give a pattern, like '{folder}/*{others[0] if others else '.jsonl'}'",
        )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _hidden(path: Path) -> bool:
    return any(piece.startswith(".") for piece in path.parts)


def read_files(paths: Sequence[Path], root: Path, reading: Reading) -> Iterator[Row | BadRow]:
    """One document per file; the column "id" is its path relative to `root`."""
    encoding = canonical(reading.encoding)
    column = TextTemplate.of(reading.text).columns[0]
    for number, path in enumerate(paths, 1):
        name = path.relative_to(root).as_posix()
        text = _content(number, path, encoding, reading.max_row_bytes)
        if isinstance(text, BadRow):
            yield text
        else:
            yield Row(number, {"id": name, column: text}, plain=True, where=str(path))


def _content(number: int, path: Path, encoding: str, limit: int) -> str | BadRow:
    """A file's text; whatever keeps it from being read concerns this one document only."""
    try:
        if path.stat().st_size > limit:
            return BadRow(number, "row.too_large", str(path), str(path))
        raw = path.read_bytes()
    except OSError as error:
        return BadRow(number, "row.unreadable", f"{path}: {error.strerror}", str(path))
    bom, encoding = next(((bom, name) for bom, name in BOMS if raw.startswith(bom)), (b"", encoding))
    try:
        return raw[len(bom) :].decode(encoding)
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is 0x{raw[len(bom) + error.start]:02x}, not {encoding}"
        return BadRow(number, "row.encoding", f"{reason}: {excerpt(raw[:200])}", str(path))
