"""Texts without content, to see what a model answers when there is nothing to answer.

What a model prefers whatever the text says, and how often the classes occur, both shift its answers; on the
corpus alone the two cannot be told apart. Asked about random words of the corpus, a model shows the first
without the second (domain-context calibration, Fei et al. 2023, arXiv 2305.19148). So the corpus' answers, seen
from there, say something about the class prior (`curator.prior.prior_from_probes`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from curator.store import Store
from curator.types import Document

PREFIX = "goldless:probe:"
"""What the ids of probes begin with; probes are no documents of the store."""

SOURCE = 2000
"""So many of the first kept documents lend their words."""


def make_probes(store: Store, kept_by: str | None, count: int) -> list[Document]:
    """`count` probes, the same ones for the same documents: every second one holds words drawn from all texts, the
    others are texts whose words are shuffled. Empty if there are no documents."""
    pages = store.documents(kept_by=kept_by, limit=SOURCE if count else 0)
    texts = [words for page in pages for document in page if (words := document.text.split())]
    if not texts:
        return []
    chance = random.Random(0)
    pool = [word for words in texts for word in words]
    found = (_random(chance, texts, pool) if place % 2 else _shuffled(chance, texts) for place in range(count))
    return [Document(PREFIX + hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), text) for text in found]


def _random(chance: random.Random, texts: Sequence[list[str]], pool: Sequence[str]) -> str:
    return " ".join(chance.choices(pool, k=len(chance.choice(texts))))


def _shuffled(chance: random.Random, texts: Sequence[list[str]]) -> str:
    words = chance.choice(texts)
    return " ".join(chance.sample(words, len(words)))
