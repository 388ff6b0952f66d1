from __future__ import annotations

import orjson
import pytest
from store_builders import (
    ENGINE,
    corpus,
    dataset_table,
    decided,
    failed,
    generated,
    key_of,
    labels_table,
    link,
    preference_table,
    routed,
)

from curator.errors import InputError
from curator.migrations import MIGRATIONS
from curator.records import CompletionRecord
from curator.store import Audit, Rejection
from curator.types import Completion, Document, Sample, Usage, Verdict


@pytest.fixture
def filled(store):
    documents = [Document("a", "text of a", {"stars": 5}), *corpus("b", "c", "a")]
    store.add_documents([documents], source="reviews.csv", run_id="r")
    with store.run("curate", {"task": "task"}) as run:
        store.add_verdicts("filters", [("b", "length", Verdict(False, "length.too_short", "9 < 10"))], run.id)
        for record in (decided("x"), generated("y", "7", "8"), failed("z"), decided("free", cost=None)):
            run.append(record)
        run.append(link("a", "x"))
        run.append(link("a", "y", view=-1))
        run.append(link("c", "z"))
        store.write_labels("task", run.id, [labels_table("a", "c")])
        store.add_audits("task", [Audit("a", "topic", "b", "eva")])
        store.create_dataset("task", {}, [dataset_table("c", "a")], {}, run.id)
    return store


def test_status_of_an_empty_store(store):
    status = store.status()
    assert (status.documents, status.completions, status.cost, status.unpriced) == (0, 0, None, 0)
    assert (status.rejects, status.failures, status.labels, status.datasets) == ({}, {}, {}, ())
    assert status.running is None
    assert status.schema_version == len(MIGRATIONS)
    assert status.size_bytes == store.path.stat().st_size


def test_status_counts_everything(filled):
    status = filled.status()
    assert status.documents == 3
    assert status.rejects == {"document.duplicate_id": 1}
    assert status.verdicts == (Rejection("filters", "length", "length.too_short", 1),)
    assert (status.completions, status.failures) == (4, {"refusal": 1})
    assert (status.annotations, status.labels, status.audits) == ({"task": 3}, {"task": 2}, {"task": 1})
    assert (status.input_tokens, status.output_tokens) == (300, 22)
    assert [version.rows for version in status.datasets] == [2]
    assert [run.status for run in status.runs] == ["done"]


def test_an_unknown_cost_is_counted_and_not_called_zero(filled, store):
    status = filled.status()
    assert (status.cost, status.unpriced) == (0.25, 2)
    (engine,) = status.engines
    assert (engine.engine, engine.completions, engine.failed, engine.calls) == ("http:tiny", 4, 1, 3)


def test_no_known_cost_is_none(store):
    with store.run("test", {}) as run:
        run.append(decided("x", cost=None))
    assert (store.status().cost, store.status().unpriced) == (None, 1)


def test_status_is_json(filled):
    assert orjson.loads(orjson.dumps(filled.status()))["documents"] == 3


def test_why_tells_the_whole_life_of_a_document(filled):
    life = filled.why("a")
    assert life["document"]["text"] == "text of a"
    assert life["document"]["meta"] == {"stars": 5}
    assert life["document"]["source"] == "reviews.csv"
    assert life["rejects"][0]["reason"] == "document.duplicate_id"
    sampled, closed = life["annotations"]
    assert (sampled["samples"], sampled["view"]) == (["7", "8"], -1)
    assert (closed["logprobs"], closed["key"], closed["engine"]) == ([[-0.5, -1.0]], key_of("x"), "http:tiny")
    assert life["labels"][0]["value"] == "a"
    assert (life["audits"][0]["value"], life["audits"][0]["auditor"]) == ("b", "eva")
    assert (life["datasets"][0]["version"], life["datasets"][0]["position"]) == (1, 1)
    assert orjson.loads(orjson.dumps(life)) == life


def test_why_tells_the_pairs_that_a_document_is_in(filled):
    filled.create_preferences("task", {}, [preference_table("a", "b", "a")], {}, "run")
    first, second = filled.why("a")["preferences"]
    assert (first["version"], first["position"], second["position"]) == (2, 0, 2)
    assert (first["chosen"], first["rejected"], first["details"]) == ("two", "three", {"sample": 1})
    assert filled.why("c")["preferences"] == []
    assert [version.kind for version in filled.status().datasets] == ["labels", "preferences"]


def test_why_tells_of_rejections_and_failures(filled):
    assert filled.why("b")["verdicts"][0]["detail"] == "9 < 10"
    assert filled.why("c")["annotations"][0]["error"] == "refusal"


def test_why_names_the_tiers_of_a_cascade(store):
    store.add_documents([corpus("a", "b", "c")], source="s", run_id="r")
    with store.run("curate", {}) as run:
        made = Completion((Sample("7"),), Usage(1, 1), 0.5, 0.1, served_by="large")
        run.append(routed("x", "small", "inner/large", ""), link("a", "x"))
        run.append(CompletionRecord(key_of("y"), ENGINE, "generate", made), link("b", "y", view=-1))
        run.append(decided("z"), link("c", "z"))
    shown = [store.why(name)["annotations"][0] for name in "abc"]
    assert [one.get("served_by") for one in shown] == [["small", "inner/large", ""], ["large"], None]
    assert store.status().cost == 1.0


def test_why_shows_an_impossible_option_as_null(store):
    store.add_documents([corpus("a")], source="s", run_id="r")
    with store.run("test", {}) as run:
        run.append(decided("x", float("-inf"), -0.5))
        run.append(link("a", "x"))
    assert store.why("a")["annotations"][0]["logprobs"] == [[None, -0.5]]


def test_an_unknown_id_names_close_ones(store):
    with pytest.raises(InputError, match="no documents"):
        store.why("review-1")
    store.add_documents([corpus("review-17", "review-18", "mail-1")], source="s", run_id="r")
    with pytest.raises(InputError, match="'review-17'"):
        store.why("reviw-17")
