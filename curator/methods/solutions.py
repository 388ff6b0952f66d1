"""Worked examples of sampled fields: whole texts that gave the winning answer where the votes agree most, no gold."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain

import orjson

from curator.fields import ClosedField
from curator.learning import Answers
from curator.methods.demonstrations import POOL, Chooser
from curator.methods.guesses import Guesses
from curator.requests import shard_of
from curator.store import Store
from curator.task import Output, Task
from curator.types import Json, JsonObject, Solved

Surest = dict[Json, list[str]]
"""Class -> documents, surest first; one class None where no voted field has classes."""


def choose(
    answers: Answers[Output], found: Mapping[str, Guesses[str]], chooser: Chooser, shards: int
) -> tuple[tuple[Solved, ...], ...]:
    """Each shard's examples, from the documents of the other shards.

    Only a document whose voted fields all have a winner, and a sample that gave all of them, is shown. Of a task
    that votes on a field with classes, every class gets its share.
    """
    winners = _winners(found)
    surest = _surest(answers.task, found, winners, chooser.count * POOL * shards)
    wanted = {name: winners[name] for name in chain.from_iterable(surest.values())}
    replies = dict(_replies(answers, wanted))
    return tuple(
        _pick(answers.store, chooser, replies, _elsewhere(surest, replies, shard, shards)) for shard in range(shards)
    )


def _winners(found: Mapping[str, Guesses[str]]) -> dict[str, JsonObject]:
    """Document -> its winning values, for documents where every field has one."""
    values = {name: kept.labels() for name, kept in found.items()}
    common = set.intersection(*(set(one) for one in values.values()))
    first = next(iter(found.values()))
    return {
        document: {name: orjson.loads(one[document]) for name, one in values.items()}
        for document in first.ids
        if document in common
    }


def _surest(
    task: Task[Output], found: Mapping[str, Guesses[str]], winners: Mapping[str, JsonObject], most: int
) -> Surest:
    """Up to `most` documents of each class; the field that is least sure says how sure a document is."""
    sure = dict.fromkeys(winners, 1.0)
    for kept in found.values():
        for document, confidence in zip(kept.ids, kept.confidence, strict=True):
            if document in sure:
                sure[document] = min(sure[document], confidence)
    by = next((item.name for item in task.voted if isinstance(item, ClosedField)), None)
    classes: Surest = defaultdict(list)
    for document in sorted(sure, key=lambda name: -sure[name]):
        group = classes[winners[document][by] if by else None]
        if len(group) < most:
            group.append(document)
    return classes


def _replies(answers: Answers[Output], wanted: Mapping[str, JsonObject]) -> Iterator[tuple[str, str]]:
    """(document, one of its texts that gave all winning values), and says where its answer is, if one does."""
    for table in answers.samples():
        for document, samples in zip(table["document_id"].to_pylist(), table["samples"].to_pylist(), strict=True):
            if document in wanted:
                texts = (text for text in samples or () if text is not None)
                giving = [text for text in texts if _gives(answers.task, text, wanted[document])]
                # A number is read without the marker too, but an example without it would teach to leave it out.
                if giving:
                    yield document, min(giving, key=lambda text: "answer:" not in text.casefold())


def _gives(task: Task[Output], text: str, winners: JsonObject) -> bool:
    values = task.parse(text)
    return all(values[name] == value for name, value in winners.items())


def _elsewhere(surest: Surest, replies: Mapping[str, str], shard: int, shards: int) -> list[list[str]]:
    """Per class the documents of the other shards that have a reply to show."""
    return [
        [name for name in names if name in replies and shard_of(name, shards) != shard] for names in surest.values()
    ]


def _pick(store: Store, chooser: Chooser, replies: Mapping[str, str], classes: list[list[str]]) -> tuple[Solved, ...]:
    """The class's share of examples each, drawn from the surest, short ones only, every text once."""
    chance, quota = random.Random(chooser.seed), max(1, chooser.count // max(len(classes), 1))
    shown: dict[str, Solved] = {}
    for names in classes:
        first = names[: quota * POOL]
        chance.shuffle(first)
        found = 0
        for name in first + names[quota * POOL :]:
            document = None if found == quota else store.document(name)
            if document is None or document.text in shown:
                continue
            if len(document.text) + len(replies[name]) <= chooser.longest:
                shown[document.text] = Solved(document.text, replies[name])
                found += 1
    examples = list(shown.values())
    chance.shuffle(examples)
    return tuple(examples)
