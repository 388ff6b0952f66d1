"""JSON Lines and JSON arrays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curator.errors import SourceError
from curator.sources import Source, open_source
from curator.types import Document


def read(tmp_path: Path, raw: bytes, name: str = "a.jsonl", **settings: object) -> tuple[list[Document], Source]:
    (tmp_path / name).write_bytes(raw)
    source = open_source(tmp_path / name, **settings)  # type: ignore[arg-type]
    return [document for batch in source.batches() for document in batch], source


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "half', "row.invalid_json"),
        (b"text", "row.invalid_json"),
        (b'{"text": "a"} {"text": "b"}', "row.invalid_json"),
        (b"[1, 2]", "row.not_object"),
        (b'"text"', "row.not_object"),
        (b"null", "row.not_object"),
        (b'{"text": "\xff"}', "row.encoding"),
        (b'{"text": "\\ud800"}', "row.encoding"),
        (b'{"text": "a\\u0000b"}', "row.nul"),
        (b'{"text": "a\x00b"}', "row.nul"),
        (b'{"text": "x", "deep": ' + b"[" * 300 + b"]" * 300 + b"}", "row.too_deep"),
        (b'{"text": "x", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "row.too_deep"),
        (b'{"text": "' + b"x" * 300_000 + b'"}', "row.too_large"),
    ],
)
def test_a_bad_line_is_rejected_with_its_number(tmp_path: Path, line: bytes, reason: str) -> None:
    good = '{"text": "größe", "id": 1}\n'.encode()
    found, source = read(tmp_path, good + line + b"\n" + good, max_row_bytes=290_000)
    assert [document.text for document in found] == ["größe", "größe"]
    assert [(reject.row, reject.reason) for reject in source.rejects] == [(2, reason)]
    assert len(source.rejects[0].excerpt) <= 120


def test_a_ten_megabyte_row_is_rejected_and_the_next_one_read(tmp_path: Path) -> None:
    found, source = read(tmp_path, b'{"text": "' + b"x" * 10_000_000 + b'"}\n{"text": "small"}\n')
    assert [document.text for document in found] == ["small"]
    assert source.counts == {"row.too_large": 1}


def test_what_is_no_number_becomes_null(tmp_path: Path) -> None:
    found, _ = read(tmp_path, b'{"text": "x", "a": NaN, "b": [-Infinity, {"c": NaN}], "d": 123456789012345678901}\n')
    assert found[0].meta == {"a": None, "b": [None, {"c": None}], "d": pytest.approx(1.2345678901234568e20)} or (
        found[0].meta == {"a": None, "b": [None, {"c": None}], "d": "123456789012345678901"}
    )


def test_half_a_surrogate_pair_in_meta_is_shown_as_an_escape(tmp_path: Path) -> None:
    found, _ = read(tmp_path, b'{"text": "x", "name": "a\\ud800", "deep": ["\\ud800"]}\n')
    assert found[0].meta == {"name": "a\\ud800", "deep": ["\\ud800"]}


def test_blank_lines_count_as_lines_only(tmp_path: Path) -> None:
    found, source = read(tmp_path, b'\n{"text": "x"}\r\n \n{bad\n')
    assert (len(found), source.rows, source.rejects[0].row) == (1, 2, 4)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "gb18030", "utf-8-sig"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_other_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    row = json.dumps({"text": "größe"}, ensure_ascii=False) if encoding != "gb18030" else '{"text": "日本"}'
    body = f"[{row}, {row}]" if name == "a.json" else f"{row}\n{row}\n"
    found, _ = read(tmp_path, body.encode(encoding), name, encoding="utf-8" if "sig" in encoding else encoding)
    assert [document.text for document in found] == [json.loads(row)["text"]] * 2


def test_a_bad_line_in_another_encoding(tmp_path: Path) -> None:
    raw = '{"text": "日本"}\n'.encode("gb18030") + b'{"text": "\xff"}\n'
    found, source = read(tmp_path, raw, encoding="gb18030")
    assert (len(found), source.counts) == (1, {"row.encoding": 1})


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_by_elements(tmp_path: Path, indent: int | None) -> None:
    rows = [{"id": f"r{number}", "text": f"[{{text}} {number}", "tags": [{"a": 1}]} for number in range(1000)]
    found, source = read(tmp_path, b"\n " + json.dumps(rows, indent=indent).encode(), "a.json")
    assert found == [Document(str(row["id"]), str(row["text"]), {"tags": [{"a": 1}]}) for row in rows]
    assert source.counts == {}


def test_bad_elements_of_an_array_are_rejected_by_position(tmp_path: Path) -> None:
    raw = '[{"text": "größe"}, {"text": "\\ud800"}, 5, {"text": nope}, {"text": "x"}]'.encode()
    found, source = read(tmp_path, raw, "a.json")
    assert [document.text for document in found] == ["größe", "x"]
    assert [(reject.row, reject.reason) for reject in source.rejects] == [
        (2, "row.encoding"),
        (3, "row.not_object"),
        (4, "row.invalid_json"),
    ]


def test_a_json_file_may_hold_json_lines(tmp_path: Path) -> None:
    found, _ = read(tmp_path, b'{"text": "a"}\n{"text": "b"}\n', "a.json")
    assert [document.text for document in found] == ["a", "b"]
    found, _ = read(tmp_path, b'{"text": "a"}', "a.json")
    assert [document.text for document in found] == ["a"]


def test_a_pretty_printed_object_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither a JSON array nor JSON Lines"):
        read(tmp_path, b'{\n  "text": "a"\n}\n', "a.json")
