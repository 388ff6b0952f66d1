from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from traffic_builders import decided, generated

from cascade.traffic import TrafficRecord, keyed, without_content
from cascade.traffic_files import SCHEMA, SUFFIX, read_traffic, to_row, to_table
from curator.errors import SourceError
from curator.types import ChatRequest, Completion, Decision, Decisions, GenerateRequest, Sample, Usage


def write(path: Path, *records: TrafficRecord) -> Path:
    pq.write_table(to_table([to_row(record) for record in records]), path)
    return path


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    refused = replace(decided(3).answers[0], answer=Decisions((None,)))
    unseen = replace(refused, answer=Decisions((Decision((0.0, -float("inf")), None, "decisions"),)))
    records = [
        keyed(decided(1, strong=True)),
        keyed(generated(2)),
        replace(decided(3), request=None, answers=(refused, unseen)),
        replace(decided(4), served=(replace(decided(4).served[0], audit=0.1, disagreed=True),)),
    ]
    assert [row.record for row in read_traffic(write(tmp_path / "a", *records))] == records


def test_a_chat_keeps_its_tools_and_an_older_file_has_none(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    turns = ({"role": "user", "content": "a private thing"}, {"role": "assistant", "tool_calls": [call]})
    plain = generated(1)
    assert isinstance(plain.request, GenerateRequest)
    request = ChatRequest(
        plain.request.messages, turns=turns, tools=(tool,), tool_choice="auto", logprobs=2, extra={"user": "u"}
    )
    said = Completion((Sample("", "tool_calls", tool_calls=(call,)), Sample("no")), Usage(5, 2), None, 0.3)
    record = keyed(replace(plain, request=request, answers=(replace(plain.answers[0], answer=said),)))
    (found,) = read_traffic(write(tmp_path / "a", record))
    assert found.record == record
    assert keyed(replace(found.record, answers=record.answers)) == record, "the same key: it asks the same"
    assert "look" not in str(to_row(without_content(record)))
    # A file of before, without the column.
    table = to_table([to_row(plain)])
    answers = table.column("answers").to_pylist()
    for answer in answers[0]:
        del answer["tool_calls"]
    place = table.schema.get_field_index("answers")
    pq.write_table(table.set_column(place, "answers", pa.array(answers)), tmp_path / "b")
    (found,) = read_traffic(tmp_path / "b")
    assert found.record == plain


def test_a_folder_is_read_in_the_order_of_time_without_unfinished_files(tmp_path: Path) -> None:
    write(tmp_path / f"2{SUFFIX}", decided(2))
    write(tmp_path / f"1{SUFFIX}", decided(1))
    (tmp_path / f"3{SUFFIX}.writing").write_bytes(b"half")
    assert [row.record.id for row in read_traffic(tmp_path) if row.record] == ["q1", "q2"]


def test_bad_rows_and_files_are_named_and_left_out(tmp_path: Path) -> None:
    rows = [to_row(decided(number)) for number in range(4)]
    rows[1]["id"] = ""
    rows[2]["request"] = '{"state": 3}'
    pq.write_table(to_table(rows), tmp_path / f"1{SUFFIX}")
    (tmp_path / f"2{SUFFIX}").write_bytes(b"PAR1 half")
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / f"3{SUFFIX}")
    found = list(read_traffic(tmp_path))
    assert [item.record.id for item in found if item.record] == ["q0", "q3"]
    bad = [(Path(item.file).name[0], item.row, item.reason) for item in found if not item.record]
    assert bad == [
        ("1", 2, "traffic.invalid_id"),
        ("1", 3, "traffic.invalid_request"),
        ("2", 0, "traffic.unreadable_file"),
        ("3", 0, "traffic.missing_columns"),
    ]


def test_lists_of_unequal_length_are_a_bad_row(tmp_path: Path) -> None:
    row = to_row(decided(1))
    answers = row["answers"]
    assert isinstance(answers, list)
    answers[0]["readout"] = []
    pq.write_table(pa.Table.from_pylist([row], SCHEMA), tmp_path / "a")
    assert [row.reason for row in read_traffic(tmp_path / "a")] == ["traffic.invalid_answers"]


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no file named"):
        list(read_traffic(tmp_path))
    with pytest.raises(SourceError, match="does not exist"):
        list(read_traffic(tmp_path / "absent"))
