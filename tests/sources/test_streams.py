"""Bytes to lines: encodings, byte-order marks, long lines."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.errors import ConfigError, SourceError
from curator.sources.base import BadRow
from curator.sources.streams import CHUNK, SAMPLE, Part, text_bytes

PART = Part("a.txt", Path("a.txt"))


def lines(raw: bytes, encoding: str = "utf-8", limit: int = 1000) -> list[str | BadRow]:
    return list(text_bytes(PART, io.BytesIO(raw), encoding).decoded(limit))


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (b"", "cp1252"),
        (b"", "utf-16-le"),
        (b"", "utf-16"),
    ],
)
def test_byte_order_marks_tell_the_encoding(mark: bytes, encoding: str) -> None:
    body = "größe\nzwei\n"
    raw = mark + body.encode("utf-16-le" if encoding == "utf-16" else encoding)
    assert lines(raw, "utf-8" if mark else encoding) == ["größe\n", "zwei\n"]


@given(st.text(alphabet="aß日😀\n", max_size=60), st.sampled_from(["utf-8", "utf-16-le", "utf-32-be", "gb18030"]))
def test_lines_join_to_the_text(body: str, encoding: str) -> None:
    assert "".join(map(str, lines(body.encode(encoding), encoding))) == body


def test_characters_may_cross_the_borders_of_chunks() -> None:
    body = "😀日ß\n" * (SAMPLE // 16)
    found = lines(codecs.BOM_UTF16_LE + body.encode("utf-16-le"))
    assert len(found) == SAMPLE // 16
    assert set(found) == {"😀日ß\n"}


def test_a_bad_line_among_good_ones_is_a_bad_row() -> None:
    found = lines("größe\n".encode() + b"bad \xff\n" + b"good\n")
    assert found[0] == "größe\n"
    assert found[1] == BadRow(2, "row.encoding", "bad \\xff")
    assert found[2] == "good\n"


def test_a_bad_line_far_into_a_file_is_a_bad_row() -> None:
    found = lines(b"good\n" * SAMPLE + b"bad \xff\n")
    assert isinstance(found[-1], BadRow)
    assert found[-1].number == SAMPLE + 1


def test_a_rare_bad_line_of_an_ascii_file_is_a_bad_row() -> None:
    found = lines(b"good\n" * 99 + b"bad \xff\n")
    assert [item.number for item in found if isinstance(item, BadRow)] == [100]


def test_a_wrong_encoding_is_named_with_its_place_and_a_suggestion() -> None:
    with pytest.raises(SourceError, match=r"a.txt is not utf-8: byte 8 is 0xdf \(perhaps encoding='cp1252'\)"):
        lines("eins\ngrö\xdfer\n".encode("cp1252").replace(b"\xf6", b"o"))
    with pytest.raises(SourceError, match="perhaps encoding='utf-8'"):
        lines("größe\n".encode() * 3, "ascii")
    with pytest.raises(SourceError, match="perhaps encoding='latin-1'"):
        lines(b"a \x81\n" * 3)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_wide_text_without_a_mark_is_recognised(encoding: str) -> None:
    with pytest.raises(SourceError, match=f"perhaps encoding='{encoding}'"):
        lines("plain text\n".encode(encoding))


def test_broken_wide_text_costs_one_line() -> None:
    raw = "eins\n".encode("utf-16-le") + b"\x00\xd8" + "zwei\ndrei\n".encode("utf-16-le") + b"x"
    found = lines(codecs.BOM_UTF16_LE + raw)
    assert [item if isinstance(item, str) else item.reason for item in found] == [
        "eins\n",
        "row.encoding",
        "drei\n",
        "row.encoding",
    ]


def test_an_unknown_encoding_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="unknown encoding 'utf-9'"):
        lines(b"a", "utf-9")


@pytest.mark.parametrize("size", [11, 12, 50, CHUNK, 3 * CHUNK])
@pytest.mark.parametrize("end", [b"", b"\n", b"\nnext\n"])
def test_a_long_line_is_skipped(size: int, end: bytes) -> None:
    found = lines(b"first\n" + b"x" * size + end, limit=10)
    assert found[0] == "first\n"
    assert isinstance(found[1], BadRow)
    assert (found[1].number, found[1].reason) == (2, "row.too_large")
    assert found[2:] == (["next\n"] if b"next" in end else [])


def test_a_line_of_the_limit_is_read() -> None:
    assert lines(b"x" * 10 + b"\r\n" + b"y" * 10, limit=10) == ["x" * 10 + "\r\n", "y" * 10]
