"""Exact and near-duplicates."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.dedup import Deduplicator, exact_duplicates, near_duplicates, normalised
from curator.sources import open_source
from curator.types import Document, Verdict

REVIEW = (
    "I watched this film with my whole family last weekend and we all agreed that the story was told "
    "well, although the ending came a little too suddenly for our taste. The music was the best part."
)


def corpus(*texts: str) -> list[Document]:
    return [Document(f"d{number}", text) for number, text in enumerate(texts)]


def batches(documents: Sequence[Document], size: int = 100) -> list[Sequence[Document]]:
    return [documents[start : start + size] for start in range(0, len(documents), size)]


@cache
def shingles(text: str) -> frozenset[str]:
    text = normalised(text)
    return frozenset(text[start : start + 5] for start in range(len(text) - 4))


def jaccard(left: str, right: str) -> float:
    one, other = shingles(left), shingles(right)
    return len(one & other) / len(one | other)


def variants(count: int, seed: int = 3) -> list[str]:
    """Texts of which many are near another: copies of a few, each with some words replaced."""
    rng = random.Random(seed)
    bases = [[f"{rng.choice('abcdefgh')}{rng.randrange(900)}" for _ in range(40)] for _ in range(max(2, count // 5))]
    texts = []
    for _ in range(count):
        words = list(rng.choice(bases))
        for _ in range(rng.randrange(6)):
            words[rng.randrange(40)] = f"new{rng.randrange(9000)}"
        texts.append(" ".join(words))
    return texts


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Hello  World", "hello world\n"),
        ("STRASSE", "straße"),
        ("ﬁne", "fine"),
        ("e\u0301te\u0301", "été"),
        ("a b", "a\u00a0b"),
    ],
)
def test_case_space_and_unicode_form_make_no_difference(left: str, right: str) -> None:
    assert normalised(left) == normalised(right)
    assert list(exact_duplicates([corpus(left, right)])) == [
        ("d1", Verdict(False, "duplicate.exact", "the same text as d0"))
    ]


def test_real_messages_hold_415_exact_duplicates(shared_data: Path) -> None:
    messages = list(open_source(str(shared_data / "sms_spam" / "t*.jsonl")).batches())
    rejected = list(exact_duplicates(messages))
    assert len(rejected) == 415
    texts = {document.id: document.text for batch in messages for document in batch}
    for name, verdict in rejected:
        assert normalised(texts[name]) == normalised(texts[verdict.detail.rpartition(" ")[2]])


def test_a_near_duplicate_names_what_it_is_similar_to() -> None:
    documents = corpus(
        REVIEW, "Something else entirely, about quite another matter.", REVIEW.replace("family", "class")
    )
    ((name, verdict),) = near_duplicates([documents])
    assert (name, verdict.keep, verdict.reason) == ("d2", False, "duplicate.near")
    similarity, _, _, kept = verdict.detail.split()
    assert kept == "d0"
    assert abs(float(similarity) - jaccard(documents[0].text, documents[2].text)) < 0.15


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_verdicts_do_not_depend_on_the_batches(size: int) -> None:
    documents = corpus(*variants(300))
    assert list(near_duplicates(batches(documents, size))) == list(near_duplicates([documents]))


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.95])
def test_what_is_rejected_and_kept_is_what_the_true_similarity_says(threshold: float) -> None:
    """Of 400 texts: every rejected one is similar to the kept one that it names, up to the error of the
    estimate (4 standard errors); no two kept ones are clearly more similar than the threshold."""
    documents = corpus(*variants(400))
    texts = {document.id: document.text for document in documents}
    rejected = dict(near_duplicates(batches(documents), threshold))
    kept = [document for document in documents if document.id not in rejected]
    margin = 4 * (threshold * (1 - threshold) / 128) ** 0.5
    assert 10 < len(rejected) < 350
    for name, verdict in rejected.items():
        other = verdict.detail.rpartition(" ")[2]
        assert other not in rejected
        assert int(other[1:]) < int(name[1:])
        assert jaccard(texts[name], texts[other]) >= threshold - margin
    for position, document in enumerate(kept):
        for other in kept[:position]:
            assert jaccard(document.text, other.text) < threshold + margin


def test_a_copy_of_a_rejected_document_names_the_kept_one() -> None:
    close = REVIEW.replace("family", "class")
    rejected = dict(near_duplicates([corpus(REVIEW, close, close.upper())]))
    assert rejected["d1"] == rejected["d2"]
    assert rejected["d2"].detail.endswith("similar to d0")


def test_similarity_is_not_handed_on() -> None:
    """a ~ b and b ~ c but not a ~ c: b goes, c stays, because nothing that is kept is similar to c."""
    b = REVIEW.replace("I watched this film with", "They saw it, with")
    c = b.replace("The music was the best part", "Nobody liked the music")
    assert jaccard(REVIEW, b) > 0.8 < jaccard(b, c)
    assert jaccard(REVIEW, c) < 0.72
    assert [name for name, _ in near_duplicates([corpus(REVIEW, b, c)])] == ["d1"]


def test_short_texts_do_not_collapse() -> None:
    texts = ["", "a", "b", "ab", "ok", "no", "yes", "日本", "日", "!!", "..."]
    assert list(near_duplicates([corpus(*texts)], 0.5)) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="ab 日\n", max_size=6), max_size=20))
def test_every_text_has_exactly_one_first_document(texts: list[str]) -> None:
    documents = corpus(*texts)
    rejected = {name for name, _ in exact_duplicates(batches(documents, 3))}
    kept = [normalised(document.text) for document in documents if document.id not in rejected]
    assert kept == list(dict.fromkeys(normalised(text) for text in texts))


def test_later_documents_change_no_earlier_verdict() -> None:
    documents = corpus(*variants(300))
    whole = dict(near_duplicates([documents]))
    first = dict(near_duplicates([documents[:200]]))
    assert first == {name: verdict for name, verdict in whole.items() if int(name[1:]) < 200}
    kept = [document for document in documents[:200] if document.id not in first]
    later = dict(near_duplicates([documents[200:]], known=[kept]))
    assert later == {name: verdict for name, verdict in whole.items() if int(name[1:]) >= 200}


def test_boilerplate_takes_bounded_work_and_removes_nothing() -> None:
    """3,000 texts that share half of their shingles, so that they meet in many bands."""
    rng = random.Random(1)
    texts = [REVIEW + " " + " ".join(f"{rng.randrange(10**6)}" for _ in range(30)) for _ in range(3000)]
    assert jaccard(texts[0], texts[1]) < 0.6
    assert list(near_duplicates(batches(corpus(*texts), 500))) == []


def test_memory_is_that_of_the_documents_kept() -> None:
    deduplicator = Deduplicator()
    texts = variants(200)
    rejected = deduplicator.add(corpus(*texts))
    assert len(deduplicator) == 200 - len(rejected)
    before = deduplicator.nbytes
    assert len(deduplicator.add([Document(f"again{number}", text) for number, text in enumerate(texts)])) == 200
    assert deduplicator.nbytes == before


def test_a_long_document_goes_through() -> None:
    rng = random.Random(2)
    long = "".join(rng.choices("abcdefgh ", k=3_000_000))
    rejected = list(near_duplicates([corpus(long, "short text", long[:-50_000])]))
    assert [(name, verdict.reason) for name, verdict in rejected] == [("d2", "duplicate.near")]
