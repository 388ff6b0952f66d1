"""curator/audits.py: what people check is drawn uniformly, and read back only if all of it is right."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from curator.audits import SheetRow, check, draw, read_sheet, sheet_rows, write_sheet
from curator.errors import InputError, TaskError
from curator.fields import ClosedField, Labels, read_fields
from curator.store import Audit
from curator.types import Document

IDS = [f"d{i}" for i in range(1000)]


class Review(BaseModel):
    topic: Annotated[Literal["Sport", "Politics"] | None, Labels(none="neither")]
    good: bool
    stars: int = Field(ge=1, le=5)


FIELDS = tuple(item for item in read_fields(Review, "") if isinstance(item, ClosedField))
TEXTS = {"a": "first\ntext", "b": "second, text", "c": "third"}


def rows(*values):
    return [SheetRow(number, row) for number, row in enumerate(values, 1)]


def wrong(*values):
    with pytest.raises(InputError) as caught:
        check(rows(*values), FIELDS, TEXTS, "ann")
    return caught.value.message


def test_the_same_documents_are_drawn_every_time():
    assert draw(IDS, 50) == draw(reversed(IDS), 50)
    assert draw(IDS, 20) == draw(IDS, 50)[:20]
    assert draw(IDS, 50, seed=1) != draw(IDS, 50)
    assert len(set(draw(IDS, 50))) == 50
    assert sorted(draw(IDS, 5000)) == sorted(IDS)


def test_every_document_is_drawn_as_often_as_any_other():
    counts = dict.fromkeys(IDS[:20], 0)
    for seed in range(400):
        for name in draw(IDS[:20], 5, seed=seed):
            counts[name] += 1
    # 100 expected, with a standard deviation of 8.7.
    assert all(60 < count < 140 for count in counts.values())


@pytest.mark.parametrize("name", ["sheet.jsonl", "sheet.csv", "SHEET.CSV"])
def test_a_sheet_comes_back_as_it_was_written(tmp_path, name):
    documents = [Document(key, text, {"label": "hidden"}) for key, text in TEXTS.items()]
    assert write_sheet(tmp_path / name, sheet_rows(documents, FIELDS)) == 3
    found = read_sheet(tmp_path / name)
    assert [list(row.values) for row in found] == [["document_id", "text", "topic", "good", "stars"]] * 3
    assert {row.values["document_id"]: row.values["text"] for row in found} == TEXTS
    assert check(found, FIELDS, TEXTS, "ann") == []


def test_a_sheet_that_is_there_is_not_replaced(tmp_path):
    path = tmp_path / "sheet.csv"
    path.write_text("answers of a day")
    with pytest.raises(InputError, match="is there already"):
        write_sheet(path, sheet_rows([], FIELDS))
    assert path.read_text() == "answers of a day"
    with pytest.raises(InputError, match="cannot be written"):
        write_sheet(tmp_path / "no" / "folder.csv", sheet_rows([], FIELDS))


def test_a_task_that_no_sheet_can_be_made_of():
    class Clash(BaseModel):
        text: bool

    with pytest.raises(TaskError, match="column of the sheet"):
        sheet_rows([], [item for item in read_fields(Clash, "") if isinstance(item, ClosedField)])
    with pytest.raises(TaskError, match="no closed field"):
        sheet_rows([], [])


@pytest.mark.parametrize(
    ("written", "audit"),
    [
        ({"topic": "Sport"}, Audit("a", "topic", "Sport", "ann")),
        ({"topic": " politics "}, Audit("a", "topic", "Politics", "ann")),
        ({"topic": "neither"}, Audit("a", "topic", None, "ann")),
        ({"good": True}, Audit("a", "good", True, "ann")),
        ({"good": "no"}, Audit("a", "good", False, "ann")),
        ({"good": "TRUE"}, Audit("a", "good", True, "ann")),
        ({"stars": 3}, Audit("a", "stars", 3, "ann")),
        ({"stars": "3"}, Audit("a", "stars", 3, "ann")),
    ],
)
def test_an_option_is_meant_by_its_label_or_its_value(written, audit):
    (found,) = check(rows({"document_id": "a", **written}), FIELDS, TEXTS, "ann")
    assert found == audit
    assert type(found.value) is type(audit.value)


def test_blank_is_not_checked():
    given = rows({"document_id": "a", "topic": None, "good": "", "stars": "  "}, {"document_id": "b", "good": "yes"})
    assert check(given, FIELDS, TEXTS, "ann") == [Audit("b", "good", True, "ann")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"document_id": "z"}, "row 1: no document to check has the id 'z'"),
        ({"document_id": 3}, "row 1: there is no document_id"),
        ({}, "row 1: there is no document_id"),
        ({"document_id": "a", "stars": 6}, "row 1: 'stars' is 6, which is no option: 1, 2, 3, 4, 5"),
        ({"document_id": "a", "good": 1}, "row 1: 'good' is 1, which is no option: yes, no"),
        ({"document_id": "a", "topic": ["Sport"]}, "no option: Sport, Politics, neither"),
        ({"document_id": "a", "topics": None}, "row 1: 'topics' is no closed field; did you mean 'topic'?"),
        ({"document_id": "a", "text": "another"}, "row 1: the text of 'a' is another one in the store"),
    ],
)
def test_what_is_wrong_names_the_row_and_the_field(row, message):
    assert message in wrong(row)


def test_one_wrong_row_keeps_all_out_and_all_wrong_ones_are_told():
    said = wrong({"document_id": "a", "good": "yes"}, {"document_id": "b", "good": "perhaps"}, {"document_id": "a"})
    assert said.splitlines() == [
        "row 2: 'good' is 'perhaps', which is no option: yes, no",
        "row 3: document 'a' is in row 1 already",
    ]
    assert wrong(*({"document_id": f"z{i}"} for i in range(30))).endswith("and 20 more")


def test_a_spreadsheet_may_change_separators_and_line_ends(tmp_path):
    path = tmp_path / "sheet.csv"
    path.write_bytes('\ufeffdocument_id;text;good;\r\na;"first\r\ntext";yes;\r\n;;;\r\n"b";;no\r\n'.encode())
    found = read_sheet(path)
    assert [row.number for row in found if any(row.values.values())] == [2, 4]
    given = [row for row in found if row.values["document_id"]]
    assert [audit.value for audit in check(given, FIELDS, TEXTS, "ann")] == [True, False]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.jsonl", b'{"document_id": "a"}\nno\n', "row 2 is no JSON"),
        ("s.jsonl", b"[1]\n", "row 1 is no JSON object"),
        ("s.csv", b"document_id,good\na,yes,perhaps\n", "row 2 has more cells"),
        ("s.csv", b"document_id,good\na,\xe9\n", "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_sheet(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_sheet(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        read_sheet(tmp_path / "nowhere" / name)
