from __future__ import annotations

from math import inf

import orjson
from store_builders import ENGINE, corpus, decided, failed, generated, key_of, link, rows_of

from curator.journal import Journal
from curator.records import CompletionRecord
from curator.store import base, loading
from curator.types import Decision, Decisions, Usage, Verdict


def fill(store, *records):
    with store.run("test", {}) as run:
        for record in records:
            run.append(record)


def test_known_tells_answers_from_failures_from_nothing(store):
    fill(store, decided("one"), failed("two", "context_length"))
    keys = [key_of(name) for name in ("one", "two", "three")]
    assert store.known(keys) == {keys[0]: None, keys[1]: "context_length"}
    assert store.known([]) == {}


def test_decisions_are_ordered_by_document_and_view(store):
    store.add_documents([corpus("b", "a")], source="s", run_id="r")
    links = [link("a", 1, view=1), link("b", 2, view=1), link("a", 3), link("b", 4), link("b", 5, task="other")]
    fill(store, *links, *(decided(number, -number, -0.5) for number in range(1, 6)))
    rows = rows_of(store.decisions("task"))
    assert [(row["document_id"], row["view"], row["logprobs"][0][0]) for row in rows] == [
        ("b", 0, -4.0),
        ("b", 1, -2.0),
        ("a", 0, -3.0),
        ("a", 1, -1.0),
    ]
    assert rows[0]["label_mass"] == [0.9]
    assert rows[0]["readout"] == ["labels"]
    assert rows[0]["error"] is None
    assert rows[0]["truncated"] is False


def test_refused_questions_and_impossible_options_survive_the_journal(store):
    store.add_documents([corpus("a")], source="s", run_id="r")
    answers = Decisions((None, Decision((-inf, -0.25), None, "structured")))
    fill(store, CompletionRecord(key_of("x"), decided("x").engine, "decide", answers), link("a", "x"))
    (row,) = rows_of(store.decisions("task"))
    assert row["logprobs"] == [None, [-inf, -0.25]]
    assert row["label_mass"] == [None, None]
    assert row["readout"] == [None, "structured"]


def test_failures_and_missing_answers_are_rows_without_lists(store):
    store.add_documents([corpus("a", "b", "c")], source="s", run_id="r")
    fill(store, failed("x"), link("a", "x"), link("b", "y", error="unavailable"), link("c", "z"))
    rows = rows_of(store.decisions("task"))
    assert [(row["error"], row["logprobs"]) for row in rows] == [("refusal", None), ("unavailable", None), (None, None)]


def test_samples_are_the_annotations_of_negative_views(store):
    store.add_documents([corpus("a")], source="s", run_id="r")
    fill(store, generated("x", "7", "half \ud800 pair", ""), link("a", "x", view=-1), decided("y"), link("a", "y"))
    (row,) = rows_of(store.samples("task"))
    assert row["samples"] == ["7", "half \ufffd pair", ""]
    assert row["finish_reasons"] == ["stop"] * 3
    assert row["sample_logprobs"] == [-0.5] * 3
    assert len(rows_of(store.decisions("task"))) == 1


def test_one_answer_serves_many_documents(store):
    store.add_documents([corpus("a", "b")], source="s", run_id="r")
    fill(store, decided("x"), link("a", "x"), link("b", "x"))
    assert [row["logprobs"] for row in rows_of(store.decisions("task"))] == [[[-0.5, -1.0]]] * 2


def test_a_journal_from_before_there_were_tiers_is_read(store):
    store.add_documents([corpus("a")], source="s", run_id="r")
    line = orjson.loads(loading.encode(decided("x", -1.5, -0.25)))
    del line[1]["answer"]["answers"][0]["served_by"]
    journal = Journal(store.journal_folder, "20260101T000000-older")
    journal.append(orjson.dumps(line))
    journal.rotate()
    fill(store, link("a", "x"))
    (row,) = rows_of(store.decisions("task"))
    assert row["logprobs"] == [[-1.5, -0.25]]


def test_an_answer_replaces_a_failure_and_not_the_other_way(store):
    store.add_documents([corpus("a")], source="s", run_id="r")
    fill(store, failed("x"), link("a", "x", error="refusal"))
    fill(store, decided("x", -1.5, -0.25), failed("x"), decided("x", -9.0, -9.0), link("a", "x"))
    fill(store, failed("x"))
    (row,) = rows_of(store.decisions("task"))
    assert row["logprobs"] == [[-1.5, -0.25]]
    assert row["error"] is None
    assert store.status().completions == 1


def test_a_document_asked_anew_links_to_its_new_answer(store):
    store.add_documents([corpus("a")], source="s", run_id="r")
    fill(store, decided("old"), link("a", "old"))
    fill(store, decided("new", -2.0, -0.5), link("a", "new"), link("a", "new"))
    (row,) = rows_of(store.decisions("task"))
    assert row["logprobs"] == [[-2.0, -0.5]]


def test_filtered_documents_are_left_out_on_request(store):
    store.add_documents([corpus("a", "b")], source="s", run_id="r")
    fill(store, decided("x"), link("a", "x"), link("b", "x"))
    store.add_verdicts("{odd} 'settings'", [("a", "length", Verdict(False, "no"))], "r")
    assert [row["document_id"] for row in rows_of(store.decisions("task", kept_by="{odd} 'settings'"))] == ["b"]
    assert [row["document_id"] for row in rows_of(store.decisions("task"))] == ["a", "b"]


def test_large_tables_are_read_page_by_page(store, monkeypatch):
    names = [str(number) for number in range(25)]
    store.add_documents([corpus(*names)], source="s", run_id="r")
    fill(store, decided("x"), *(link(name, "x") for name in names))
    monkeypatch.setattr(base, "PAGE_DOCUMENTS", 10)
    tables = list(store.decisions("task", batch=4))
    assert [table.num_rows for table in tables] == [4, 4, 2, 4, 4, 2, 4, 1]
    assert [row["document_id"] for row in rows_of(tables)] == names


def test_a_reader_does_not_hold_the_store(store):
    store.add_documents([corpus("a", "b")], source="s", run_id="r")
    fill(store, decided("x"), link("a", "x"), link("b", "x"))
    reader = store.decisions("task", batch=1)
    next(reader)
    store.add_documents([corpus("c")], source="s", run_id="r")
    assert len(list(reader)) == 1


def test_scratch_files_are_removed_even_if_reading_stops_early(store):
    store.add_documents([corpus("a", "b")], source="s", run_id="r")
    fill(store, decided("x"), link("a", "x"), link("b", "x"))
    reader = store.decisions("task", batch=1)
    next(reader)
    reader.close()
    assert [path.name for path in store.path.parent.iterdir() if path.name.startswith(".")] == []


def test_attempts_say_what_the_answers_took(store):
    store.add_documents([corpus("a")], source="s", run_id="r")
    answer = Decisions((Decision((-0.1, -2.0), 0.9, "labels"),), Usage(40, 2), 0.25, 1.5)
    fill(store, link("a", 1), CompletionRecord(key_of(1), ENGINE, "decide", answer), link("b", 2), failed(2, "refusal"))
    first, second = store.attempts(["a", "b", "c"], "task").to_pylist()
    assert first["document_id"] == "a"
    assert (first["input_tokens"], first["output_tokens"], first["cost"], first["latency"]) == (40, 2, 0.25, 1.5)
    assert (second["logprobs"], second["cost"], second["error"]) == (None, None, "refusal")
