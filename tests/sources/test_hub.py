"""Hugging Face datasets, from local folders: the tests reach no network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from curator.errors import MissingExtraError, SourceError
from curator.sources import open_source
from curator.sources.hub import HubName
from curator.types import Document

ROWS = {"text": ["one", "two", None], "label": [0, 1, 1]}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("hf:imdb", HubName("imdb", None, "train")),
        ("hf:org/name", HubName("org/name", None, "train")),
        ("hf:org/name:test", HubName("org/name", None, "test")),
        ("hf:org/name:train[:10%]", HubName("org/name", None, "train[:10%]")),
        ("hf:org/name/config:test", HubName("org/name", "config", "test")),
    ],
)
def test_addresses(uri: str, expected: HubName) -> None:
    assert HubName.of(uri) == expected


@pytest.mark.parametrize("uri", ["hf:", "hf::train", "hf:org/name:"])
def test_an_address_without_a_name(uri: str) -> None:
    with pytest.raises(SourceError, match="names no dataset"):
        open_source(uri)


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_a_saved_dataset(tmp_path: Path, prefix: str) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict(ROWS).save_to_disk(str(tmp_path / "saved"))
    source = open_source(f"{prefix}{tmp_path / 'saved'}")
    first, second = next(source.batches())
    assert (first.text, first.meta, second.text) == ("one", {"label": 0}, "two")
    assert [(reject.row, reject.reason) for reject in source.rejects] == [(3, "row.missing_text")]


def test_the_splits_of_a_saved_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    test = datasets.Dataset.from_dict({"text": ["held out"], "id": ["h"]})
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(ROWS), "test": test}).save_to_disk(str(tmp_path / "d"))
    assert next(open_source(f"hf:{tmp_path}/d:test").batches()) == [Document("h", "held out")]
    with pytest.raises(SourceError, match=r"no split 'tset' \(did you mean 'test'"):
        list(open_source(f"hf:{tmp_path}/d:tset").batches())


def test_a_folder_that_the_library_can_load(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "train.jsonl").write_text('{"text": "one", "n": 1}\n{"text": "two", "n": 2}\n')
    found = next(open_source(f"hf:{tmp_path}").batches(1))
    assert [(document.text, document.meta) for document in found] == [("one", {"n": 1})]


def test_a_missing_column(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"body": ["one"]}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(SourceError, match=r"no column 'text' \(there is body\)"):
        list(open_source(tmp_path / "saved").batches())


def test_a_dataset_that_cannot_be_loaded(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "x.jsonl").write_text("not json at all\n")
    with pytest.raises(SourceError, match=r"cannot be read.*check the name, the split and the network"):
        list(open_source(f"hf:{tmp_path}").batches())


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"goldless\[datasets\]"):
        list(open_source("hf:org/name").batches())
