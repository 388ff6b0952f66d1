"""Where documents come from.

    source = open_source("reviews.csv", text="review", columns=["stars"])
    for batch in source.batches():        # lists of Document, bounded memory
        ...
    source.counts                         # rejects per reason, e.g. {"row.columns": 3}

| address | one document is | row number | id without an id column |
|---|---|---|---|
| `x.jsonl`, `x.ndjson`, `-` (stdin) | a line that holds an object | line | content hash |
| `x.json` | an object in the array (or as `.jsonl`) | position | content hash |
| `x.csv`, `x.tsv` | a record under the header | first line | content hash |
| `x.parquet`, `x.arrow` | a row | position | content hash |
| `x.txt` (format `lines`) | a line | line | content hash |
| folder, or one `.md` (format `files`) | a file | position | path relative to the folder |
| `hf:org/name[/config][:split]`, saved folder | a row | position | content hash |

`.gz`, `.bz2` and `.xz` are decompressed; a pattern like `data/part-*.jsonl` reads the matching files
in the order of their names. A content hash depends on text and meta only: ids survive reordering and
appending, and rows that are equal in both share one id, which the store reports as duplicates.

Reasons of rejects: `row.invalid_json`, `row.not_object`, `row.too_deep`, `row.columns` (number of
fields), `row.unclosed_quote`, `row.invalid_csv`, `row.invalid_value`, `row.missing_text` (absent, null
or blank), `row.not_text`, `row.too_large`, `row.encoding`, `row.nul`, `row.missing_id`,
`row.invalid_id`, `row.unreadable`.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

from curator.errors import SourceError
from curator.sources.base import BadRow, NamedReader, Reading, Row, Source, SourceSettings, suggest
from curator.sources.columnar import read_arrow, read_parquet
from curator.sources.delimited import read_csv
from curator.sources.hub import PREFIX, HubName, is_saved, read_hub
from curator.sources.jsons import read_json, read_jsonl
from curator.sources.rows import RowMapper
from curator.sources.streams import COMPRESSED, Part
from curator.sources.texts import SUFFIXES, read_files, read_lines, text_files

__all__ = ["BadRow", "Reading", "Row", "Source", "SourceSettings", "open_source", "read_rows"]

STDIN = "-"
FileReader = Callable[[Part, Reading], Iterator[Row | BadRow]]
READERS: dict[str, FileReader] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_csv,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "lines": read_lines,
}
BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".txt": "lines",
} | dict.fromkeys(set(SUFFIXES) - {".txt"}, "files")


def open_source(uri: str | Path, **settings: Unpack[SourceSettings]) -> Source:
    """A stream of documents from `uri`; the settings are those of `Reading`.

    Raises SourceError for an address that does not exist or whose format is unknown, ConfigError for
    a setting that cannot be. What is wrong inside is found while it is read.
    """
    reading = Reading.of(settings)
    mapper = RowMapper.of(reading)
    name = str(uri)
    return Source(name, reading, _readers(name, reading), mapper)


def read_rows(uri: str | Path, **settings: Unpack[SourceSettings]) -> Iterator[Row | BadRow]:
    """The rows of `uri` as they stand, of any columns: for tables that hold no documents.

    Raises as `open_source` does, and SourceError for a file that cannot be read at all.
    """
    reading = replace(Reading.of(settings), text="")
    for _, reader in _readers(str(uri), reading):
        yield from reader()


def _readers(uri: str, reading: Reading) -> list[NamedReader]:
    """The files that `uri` stands for, each with its reader."""
    if uri.startswith(PREFIX):
        return [(uri, partial(read_hub, uri, HubName.of(uri), reading))]
    if uri == STDIN:
        return [_file("stdin", None, reading)]
    path = Path(uri).expanduser()
    if path.is_dir():
        return _folder(uri, path, reading)
    if not path.exists() and glob.has_magic(uri):
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise SourceError(f"no file matches {uri}", hint="check the pattern")
        return [_file(match, Path(match), reading) for match in matches if Path(match).is_file()]
    if not path.exists():
        raise SourceError(f"{uri} does not exist", hint=_neighbours(path))
    return [_file(uri, path, reading)]


def _file(name: str, path: Path | None, reading: Reading) -> NamedReader:
    kind: str = reading.format
    if kind == "auto":
        kind = "jsonl" if path is None else _format(name, path)
    if kind == "files" and path is not None:
        return name, partial(read_files, [path], path.parent, reading)
    if kind not in READERS or (path is None and kind in ("parquet", "arrow")):
        raise SourceError(f"{name} cannot be read as {kind!r}", hint=f"formats of a file: {', '.join(READERS)}")
    return name, partial(READERS[kind], Part(name, path), reading)


def _format(name: str, path: Path) -> str:
    """The format that the suffix stands for, a compression's suffix aside."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in BY_SUFFIX:
        raise SourceError(
            f"the format of {name} is unknown: its name ends in {suffix!r}",
            hint=f"known are {', '.join(sorted(BY_SUFFIX))}; for another name give format=",
        )
    return BY_SUFFIX[suffix]


def _folder(uri: str, folder: Path, reading: Reading) -> list[NamedReader]:
    """A saved dataset, a folder of text files, or, where a format is given, its data files."""
    if reading.format in ("auto", "hf") and is_saved(folder):
        return [(uri, partial(read_hub, uri, HubName(str(folder), None, "train"), reading))]
    if reading.format in ("auto", "files"):
        return [(uri, partial(read_files, text_files(folder), folder, reading))]
    suffixes = [suffix for suffix, kind in BY_SUFFIX.items() if kind == reading.format]
    found = sorted(path for path in folder.rglob("*") if suffixes and path.suffix.lower() in suffixes)
    if not found:
        raise SourceError(f"{uri} holds no {reading.format} files", hint=f"their names end in {', '.join(suffixes)}")
    return [_file(str(path), path, reading) for path in found]


def _neighbours(path: Path) -> str:
    """What to try instead of a file that does not exist."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    return suggest(path.name, sorted(item.name for item in path.parent.iterdir() if not item.name.startswith(".")))
