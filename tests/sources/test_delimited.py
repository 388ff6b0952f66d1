"""CSV and TSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curator.errors import ConfigError, SourceError
from curator.sources import Source, open_source
from curator.types import Document


def read(tmp_path: Path, raw: str | bytes, name: str = "a.csv", **options: object) -> tuple[list[Document], Source]:
    (tmp_path / name).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    source = open_source(tmp_path / name, **options)  # type: ignore[arg-type]
    return [document for batch in source.batches() for document in batch], source


def rejects(source: Source) -> list[tuple[int, str]]:
    return [(reject.row, reject.reason) for reject in source.rejects]


CELLS = st.text(alphabet="ab\",;\n\t'ß日", max_size=8)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12), tabs=st.booleans())
def test_what_the_csv_module_writes_comes_back(tmp_path: Path, rows: list[tuple[str, str]], tabs: bool) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter="\t" if tabs else ",")
    writer.writerow(["text", "note"])
    writer.writerows(("." + text, note) for text, note in rows)
    found, source = read(tmp_path, buffer.getvalue(), "a.tsv" if tabs else "a.csv")
    assert [(document.text[1:], document.meta["note"]) for document in found] == rows
    assert source.counts == {}


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("one field\n", [(3, "row.columns")]),
        ("a,b,c\n", [(3, "row.columns")]),
        ('"quoted"x,b\n', [(3, "row.invalid_csv")]),
        ('"never closed,b\n', [(3, "row.invalid_csv")]),
        ('a,"never closed\n', [(3, "row.invalid_csv")]),
        (",b\n", [(3, "row.missing_text")]),
        ("a\x00,b\n", [(3, "row.nul")]),
    ],
)
def test_a_bad_record_takes_no_other_with_it(tmp_path: Path, bad: str, expected: list[tuple[int, str]]) -> None:
    found, source = read(tmp_path, f'text,n\n"one\n",1\n{bad}two,2\n"th""ree",3\n'.replace('"one\n"', '"one"'))
    assert [document.text for document in found] == ["one", "two", 'th"ree']
    assert rejects(source) == expected


def test_a_quote_that_never_closes_costs_its_own_line_only(tmp_path: Path) -> None:
    found, source = read(tmp_path, 'text,n\n"open,1\n' + "".join(f"row {number},x\n" for number in range(50)))
    assert len(found) == 50
    assert rejects(source) == [(2, "row.unclosed_quote")]


def test_a_record_that_is_too_large_costs_its_own_line_only(tmp_path: Path) -> None:
    rows = "".join(f"row {number},x\n" for number in range(50))
    found, source = read(tmp_path, f'text,n\n"open,1\n{rows}', max_row_bytes=100)
    assert len(found) == 50
    assert rejects(source) == [(2, "row.too_large")]


def test_a_long_line_is_rejected(tmp_path: Path) -> None:
    found, source = read(tmp_path, "text,n\n" + "x" * 5000 + ",1\nshort,2\n", max_row_bytes=1000)
    assert [document.text for document in found] == ["short"]
    assert rejects(source) == [(2, "row.too_large")]


def test_fields_may_be_longer_than_the_csv_modules_own_limit(tmp_path: Path) -> None:
    found, _ = read(tmp_path, "text\n" + "x" * 500_000 + "\n")
    assert len(found[0].text) == 500_000


def test_records_are_numbered_by_their_first_line(tmp_path: Path) -> None:
    found, source = read(tmp_path, 'text,n\n"a\nb\nc",1\n\nbad\n"d\ne",2\nworse\n')
    assert [document.text for document in found] == ["a\nb\nc", "d\ne"]
    assert rejects(source) == [(6, "row.columns"), (9, "row.columns")]


def test_an_undecodable_line_is_rejected(tmp_path: Path) -> None:
    found, source = read(tmp_path, "text\ngröße\n".encode() + b"bad \xff\n" + b"good\n")
    assert [document.text for document in found] == ["größe", "good"]
    assert rejects(source) == [(3, "row.encoding")]


def test_a_wrong_encoding_names_the_byte(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"byte 7 is 0xf6 \(perhaps encoding='cp1252'\)"):
        read(tmp_path, "text\ngröße\n".encode("cp1252"))
    found, _ = read(tmp_path, "text\ngröße\n".encode("cp1252"), encoding="cp1252")
    assert found[0].text == "größe"


def test_columns_without_a_name_or_with_a_repeated_one_get_one(tmp_path: Path) -> None:
    found, _ = read(tmp_path, ",text,note,note\n0,x,a,b\n")
    assert found[0].meta == {"column1": "0", "note": "a", "note_4": "b"}


def test_another_delimiter_is_suggested_and_used(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="perhaps delimiter=';'"):
        read(tmp_path, "text;n\nx;1\n")
    found, _ = read(tmp_path, "text;n\nx;1\n", delimiter=";")
    assert found[0].meta == {"n": "1"}
    with pytest.raises(ConfigError, match="must be one character"):
        read(tmp_path, "text\nx\n", delimiter=";;")


def test_a_column_that_meta_should_hold_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no column 'star' \(did you mean 'stars'"):
        read(tmp_path, "text,stars\nx,1\n", columns=["star"])


def test_a_header_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the header of"):
        read(tmp_path, '"text,n\nx,1\n')
