"""Hugging Face datasets, streamed: `hf:org/name[/config][:split]`, or `hf:` and a local folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from curator.errors import MissingExtraError, SourceError
from curator.sources.base import BadRow, Reading, Row, check_columns, suggest
from curator.sources.rows import RowMapper

PREFIX = "hf:"
SAVED = ("dataset_info.json", "dataset_dict.json", "state.json")
"""Files that `Dataset.save_to_disk` leaves in a folder."""


@dataclass(frozen=True, slots=True)
class HubName:
    """What an `hf:` address names. `path` is a hub id or a local folder."""

    path: str
    config: str | None
    split: str

    @classmethod
    def of(cls, uri: str) -> HubName:
        """Raises SourceError for an address without a name."""
        rest = uri.removeprefix(PREFIX)
        path, colon, split = rest.partition(":")  # the first one: a split may be "train[:10%]"
        if not colon:
            split = "train"
        if not path or not split:
            raise SourceError(f"{uri!r} names no dataset", hint="write hf:org/name, or hf:org/name:split")
        pieces = path.split("/")
        if len(pieces) == 3 and not Path(path).exists():
            return cls("/".join(pieces[:2]), pieces[2], split)
        return cls(path, None, split)


def is_saved(folder: Path) -> bool:
    """Whether `folder` was written by `Dataset.save_to_disk`."""
    return any((folder / name).is_file() for name in SAVED)


def read_hub(uri: str, name: HubName, reading: Reading) -> Iterator[Row | BadRow]:
    """One document per row. Raises MissingExtraError without the `datasets` library and SourceError
    where the dataset or the split does not exist or cannot be reached."""
    rows, columns = _load(uri, name)
    if columns:
        check_columns(uri, (*RowMapper.of(reading).wanted, *(reading.columns or ())), columns)
    number = 0
    try:
        for number, values in enumerate(rows, 1):
            yield Row(number, values)
    except Exception as error:
        raise _mapped(uri, error, f" after row {number}") from error


class HubRows(Protocol):
    """What we use of the library's datasets, streamed or not."""

    @property
    def column_names(self) -> list[str] | None: ...

    def __iter__(self) -> Iterator[Mapping[str, object]]: ...


def _load(uri: str, name: HubName) -> tuple[HubRows, list[str]]:
    """The rows of the split and, where they are known beforehand, their columns."""
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(
            "reading Hugging Face datasets needs the datasets library", hint='pip install "goldless[datasets]"'
        ) from None
    try:
        if is_saved(Path(name.path)):
            loaded = datasets.load_from_disk(name.path)
            split: HubRows = _split(uri, loaded, name.split) if isinstance(loaded, dict) else loaded
        else:
            split = datasets.load_dataset(name.path, name.config, split=name.split, streaming=True)
    except SourceError:
        raise
    except Exception as error:  # the library raises its own, the hub's, aiohttp's and built-in ones
        raise _mapped(uri, error) from error
    return split, list(split.column_names or ())


def _split(uri: str, loaded: Mapping[str, HubRows], split: str) -> HubRows:
    if split not in loaded:
        raise SourceError(f"{uri} has no split {split!r}", hint=suggest(split, loaded))
    return loaded[split]


def _mapped(uri: str, error: Exception, where: str = "") -> SourceError:
    lines = str(error).strip().split("\n")
    return SourceError(
        f"{uri} cannot be read{where}: {type(error).__name__}: {lines[0]}",
        hint="check the name, the split and the network; a local folder works too: hf:/path/to/folder",
    )
