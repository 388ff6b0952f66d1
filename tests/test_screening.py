"""curator/screening.py: duplicates and filters, each rejection with its reason, judged once."""

from __future__ import annotations

import sys

import pytest

from curator import screening as module
from curator.errors import MissingExtraError
from curator.screening import Screening, screen
from curator.store import Store
from curator.types import Document, Verdict

WORDS = "the film was slow and the plot was thin but the music in the last scene moved me to tears"
TEXTS = {
    "a": WORDS,
    "a again": WORDS.upper(),
    "almost a": WORDS + " again",
    "short": "fine",
    "other": "a bright comedy about two cooks who cannot stand each other's soup, and a cat that can",
}
FILTERS = {"length": {"min_chars": 10}}


def stored(folder):
    store = Store(folder / "s.duckdb")
    with store.run("ingest", {}) as run:
        store.add_documents([[Document(name, text) for name, text in TEXTS.items()]], source="t", run_id=run.id)
    return store


def screened(store, screening):
    with store.run("screen", {}) as run:
        return screen(store, run, screening)


def kept(store, screening):
    return [document.id for batch in store.documents(kept_by=screening.key) for document in batch]


def test_every_rejection_has_its_reason(tmp_path):
    store, screening = stored(tmp_path), Screening(filters=FILTERS)
    report = screened(store, screening)
    assert report == {
        "documents": 5,
        "kept": 2,
        "rejected": {"duplicate.exact": 1, "duplicate.near": 1, "length.too_short": 1},
    }
    assert kept(store, screening) == ["a", "other"]
    (verdict,) = store.why("almost a")["verdicts"]
    assert (verdict["stage"], verdict["reason"]) == ("duplicates", "duplicate.near")
    assert "'a'" in verdict["detail"] or "a" in verdict["detail"].split()


def test_exact_only_and_nothing_at_all(tmp_path):
    store = stored(tmp_path)
    exact = Screening(near=None)
    assert screened(store, exact)["rejected"] == {"duplicate.exact": 1}
    nothing = Screening(exact=False, near=None)
    assert screened(store, nothing)["kept"] == 5
    # Each setting keeps its own verdicts.
    assert len(kept(store, exact)) == 4


def test_documents_are_judged_once_and_new_ones_beside_the_old(tmp_path):
    seen: list[str] = []

    def noting(document: Document) -> Verdict:
        seen.append(document.id)
        return Verdict(document.id != "other", "own.no", "not that one")

    store, screening = stored(tmp_path), Screening(near=None, own=(("noting", noting),))
    assert screened(store, screening)["rejected"] == {"duplicate.exact": 1, "own.no": 1}
    assert sorted(seen) == ["a", "almost a", "other", "short"]
    screened(store, screening)
    assert len(seen) == 4
    with store.run("ingest", {}) as run:
        store.add_documents([[Document("late", WORDS)]], source="t", run_id=run.id)
    assert screened(store, screening)["rejected"]["duplicate.exact"] == 2


def test_what_a_filter_of_ones_own_does_wrong_rejects_that_document_only(tmp_path):
    def picky(document: Document) -> Verdict:
        if document.id == "short":
            raise KeyError("stars")
        return 3 if document.id == "other" else Verdict(True)  # type: ignore[return-value]

    store = stored(tmp_path)
    screening = Screening(near=None, own=(("picky", picky), ("long", lambda document: len(document.text) > 90)))
    assert screened(store, screening)["rejected"] == {
        "duplicate.exact": 1,
        "filter.error:KeyError": 1,
        "filter.error:TypeError": 1,
        "filter.long": 1,
    }
    (verdict,) = store.why("other")["verdicts"]
    assert (verdict["stage"], verdict["detail"]) == ("picky", "picky returned int, not Verdict or bool")


def test_the_key_names_the_settings():
    keys = {
        Screening().key,
        Screening(near=0.9).key,
        Screening(near=None).key,
        Screening(filters=FILTERS).key,
        Screening(own=(("mine", lambda document: Verdict(True)),)).key,
    }
    assert len(keys) == 5
    assert Screening(filters={"length": {"min_chars": 10}}).key == Screening(filters=FILTERS).key


@pytest.fixture
def without_rensa(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "rensa", None)
    module._say_that_near_duplicates_stay.cache_clear()
    yield
    module._say_that_near_duplicates_stay.cache_clear()


def test_the_defaults_work_without_the_extra_and_say_once_what_stays(tmp_path, without_rensa, caplog):
    store = stored(tmp_path)
    assert screened(store, Screening())["rejected"] == {"duplicate.exact": 1}
    assert Screening().near is None
    assert [record.levelname for record in caplog.records if "near-duplicates stay" in record.message] == ["WARNING"]


def test_near_duplicates_that_were_asked_for_need_the_extra(tmp_path, without_rensa, caplog):
    with pytest.raises(MissingExtraError) as caught:
        screened(stored(tmp_path), Screening(near=0.8))
    assert "[dedup] near = false" in caught.value.hint
    assert not caplog.records


def test_with_the_extra_near_duplicates_go_by_default():
    assert Screening().near == 0.8


@pytest.mark.parametrize("spec", ["beside_the_settings:no", "beside_the_settings.py:no"])
def test_filters_are_looked_for_beside_the_settings(tmp_path, monkeypatch, spec):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "beside_the_settings", raising=False)
    (tmp_path / "beside_the_settings.py").write_text("def no(document): return False\n")
    screening = Screening(exact=False, near=None, filters={"own": spec}, folder=tmp_path)
    assert screened(stored(tmp_path), screening)["rejected"] == {"filter.no": 5}
