"""Parquet and Arrow files."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

from curator.errors import SourceError
from curator.sources import open_source
from curator.types import Document


def write(table: pa.Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=700)
    elif "stream" in path.name:
        with ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    else:
        with ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    return path


FILES = pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "stream.arrow"])


@FILES
def test_rows_become_documents(tmp_path: Path, name: str) -> None:
    table = pa.table(
        {
            "id": pa.array([1, None, 3]),
            "text": ["one", "two", "drei"],
            "day": pa.array([datetime.date(2024, 1, 2), None, None]),
            "tags": [["a"], [], None],
            "score": [0.5, float("nan"), None],
            "box": [{"x": 1}, {"x": None}, None],
        }
    )
    batches = list(open_source(write(table, tmp_path / name)).batches())
    first, second, third = batches[0]
    assert first == Document("1", "one", {"day": "2024-01-02", "tags": ["a"], "score": 0.5, "box": {"x": 1}})
    assert second.meta == {"day": None, "tags": [], "score": None, "box": {"x": None}}
    assert (len(second.id), third.id) == (20, "3")


@FILES
def test_many_rows_are_streamed_in_order(tmp_path: Path, name: str) -> None:
    table = pa.table({"text": [f"text {number}" for number in range(5000)]})
    found = [document for batch in open_source(write(table, tmp_path / name)).batches(4000) for document in batch]
    assert [document.text for document in found] == [f"text {number}" for number in range(4000)]


@FILES
def test_bad_values_reject_their_own_row_only(tmp_path: Path, name: str) -> None:
    text = pa.array([b"one", b"\xff\xfe", b"three", None, b"five", b"six\x00"]).view(pa.string())
    day = pa.array([1, 2, 3, 4, 2**62, 6], pa.timestamp("us"))
    source = open_source(write(pa.table({"text": text, "day": day}), tmp_path / name))
    found = [document.text for batch in source.batches() for document in batch]
    assert found == ["one", "three"]
    assert [(reject.row, reject.reason) for reject in source.rejects] == [
        (2, "row.encoding"),
        (4, "row.missing_text"),
        (5, "row.invalid_value"),
        (6, "row.nul"),
    ]


@FILES
def test_only_wanted_columns_are_decoded(tmp_path: Path, name: str) -> None:
    broken = pa.array([b"\xff\xfe"]).view(pa.string())
    path = write(pa.table({"text": ["one"], "broken": broken, "n": [1], "id": ["k"]}), tmp_path / name)
    assert next(open_source(path, columns=["n"]).batches()) == [Document("k", "one", {"n": 1})]


@FILES
def test_a_missing_column_is_named(tmp_path: Path, name: str) -> None:
    path = write(pa.table({"body": ["one"], "id": [1]}), tmp_path / name)
    with pytest.raises(SourceError, match=r"no column 'text' \(there is body, id\)"):
        list(open_source(path).batches())
    with pytest.raises(SourceError, match="no column 'key'"):
        list(open_source(path, text="body", id="key").batches())


@FILES
def test_a_file_without_rows_is_an_error(tmp_path: Path, name: str) -> None:
    path = write(pa.table({"text": pa.array([], pa.string())}), tmp_path / name)
    with pytest.raises(SourceError, match="is empty"):
        list(open_source(path).batches())


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 1500])
def test_a_cut_off_parquet_file_is_damaged(tmp_path: Path, keep: int) -> None:
    path = write(pa.table({"text": [f"text {number}" for number in range(1000)]}), tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match="is damaged or not what its name says"):
        list(open_source(path).batches())


def test_a_damaged_page_ends_the_stream_with_a_source_error(tmp_path: Path) -> None:
    path = write(pa.table({"text": [f"text {number}" for number in range(5000)]}), tmp_path / "a.parquet")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 400] = b"\xff" * 400
    path.write_bytes(raw)
    with pytest.raises(SourceError, match="damaged"):
        list(open_source(path).batches())
