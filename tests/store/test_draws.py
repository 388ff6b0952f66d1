from __future__ import annotations

from curator.store import DrawnDocument


def test_a_draw_is_kept_under_its_name_and_task(store):
    rows = [DrawnDocument("a", 0.25, 0.5), DrawnDocument("b", 0.125, None), DrawnDocument("c", None, None)]
    store.add_draw("first", "task", rows)
    store.add_draw("sec'ond", "task", rows[:1])
    assert store.draw("first", "task") == rows
    assert store.draw("sec'ond", "task") == rows[:1]
    assert store.draw("first", "other") == store.draw("third", "task") == []
