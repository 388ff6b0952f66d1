"""The data of the weak-to-strong benchmark: disjoint halves, one right and one wrong candidate per question."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks import weak_to_strong
from benchmarks._weak_data import read


def test_every_question_has_a_right_and_a_wrong_candidate_on_one_side(shared_data):
    data = read(shared_data, "arc_easy", (400, 400, 200))
    sides = [{name.split("/")[0] for name in rows.ids} for rows in (data.teacher, data.student, data.test)]
    assert not (sides[0] & sides[1])
    assert not (sides[0] & sides[2])
    assert not (sides[1] & sides[2])
    for rows, count in ((data.teacher, 400), (data.student, 400), (data.test, 200)):
        assert len(rows) == count
        assert np.bincount(rows.groups).tolist() == [2] * (count // 2)
        assert np.bincount(rows.gold).tolist() == [count // 2] * 2
    assert data.question.labels == ("yes", "no")
    again = read(shared_data, "arc_easy", (400, 400, 200))
    assert again.student.texts == data.student.texts


def test_scicite_keeps_its_labels(shared_data):
    data = read(shared_data, "scicite", (300, 300, 300))
    assert data.question.labels == ("background", "method", "result")
    assert len(set(data.teacher.ids) & set(data.student.ids)) == 0
    assert set(data.test.gold.tolist()) == {0, 1, 2}


def test_parts_are_added_to_what_other_commands_made(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["weak_to_strong", "trec"])
    path = tmp_path / "found.json"
    weak_to_strong.save(path, "trec", "losses", [1])
    weak_to_strong.save(path, "trec", "few", [2])
    found = json.loads(path.read_text())
    assert found["trec"]["losses"] == {"command": "python -m benchmarks.weak_to_strong trec", "figures": [1]}
    assert found["trec"]["few"]["figures"] == [2]
