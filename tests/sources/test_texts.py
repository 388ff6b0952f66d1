"""Files of lines and folders of files."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from curator.errors import SourceError
from curator.sources import open_source
from curator.types import Document, Reject


def test_a_text_file_holds_one_document_per_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("eins  \r\n\n \nzwei 日\ndrei".encode())
    found = next(open_source(tmp_path / "a.txt").batches())
    assert [document.text for document in found] == ["eins  ", "zwei 日", "drei"]
    assert len({document.id for document in found}) == 3
    assert found[0].meta == {}


def test_equal_lines_share_an_id(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("same\nother\nsame\n")
    first, _, last = next(open_source(tmp_path / "a.txt").batches())
    assert first == last


def test_a_folder_holds_one_document_per_file(tmp_path: Path) -> None:
    for name, text in {"b.md": "# B", "a.txt": "a\nb\n", "deep/c.TXT": "c", "x.bin": "x", ".git/d.txt": "d"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert next(open_source(tmp_path).batches()) == [
        Document("a.txt", "a\nb\n"),
        Document("b.md", "# B"),
        Document("deep/c.TXT", "c"),
    ]


def test_one_markdown_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Title\n\nText\n")
    assert next(open_source(tmp_path / "a.md", text="body").batches()) == [Document("a.md", "# Title\n\nText\n")]


def test_a_text_file_may_be_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert next(open_source(tmp_path / "a.txt", format="files").batches()) == [Document("a.txt", "one\ntwo\n")]


def test_bad_files_of_a_folder_are_rejected_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF16_LE + "größe".encode("utf-16-le"))
    (tmp_path / "b.txt").write_bytes(b"x" * 101)
    (tmp_path / "c.txt").write_bytes("größe".encode("latin-1"))
    (tmp_path / "d.txt").write_bytes(b"")
    (tmp_path / "e.txt").write_bytes(b"nul\x00")
    (tmp_path / "f.txt").write_bytes(codecs.BOM_UTF8 + b"marked")
    source = open_source(tmp_path, max_row_bytes=100)
    assert [document.text for document in next(source.batches())] == ["größe", "marked"]
    assert [(reject.source, reject.row, reject.reason) for reject in source.rejects] == [
        (str(tmp_path / "b.txt"), 2, "row.too_large"),
        (str(tmp_path / "c.txt"), 3, "row.encoding"),
        (str(tmp_path / "d.txt"), 4, "row.missing_text"),
        (str(tmp_path / "e.txt"), 5, "row.nul"),
    ]
    assert "byte 2 is 0xf6, not utf-8" in source.rejects[1].excerpt


def test_a_file_that_vanishes_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    source = open_source(tmp_path)
    (tmp_path / "a.txt").unlink()
    assert [document.id for document in next(source.batches())] == ["b.txt"]
    path = str(tmp_path / "a.txt")
    assert source.rejects == [Reject(path, 1, "row.unreadable", f"{path}: {os.strerror(2)}")]


def test_a_folder_without_texts_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no text files"):
        open_source(tmp_path)
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(SourceError, match=r"there are .jsonl files \(for data files give a pattern"):
        open_source(tmp_path)
