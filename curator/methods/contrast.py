"""Progressive weak-to-strong learning, Stage II (Yang et al. 2024, arXiv 2407.13647): learn from what the strong model
is sure of, against what the weak one got wrong.

The strong model of Stage I answers every question k times at temperature 1. Where its vote is sure enough, its majority
is taken for right: a weak answer that agrees is preferred to a minority answer, one that disagrees is rejected for a
majority answer. Answers vote by value (`curator.equivalence`, then `curator.votes`).

A vote share is no probability of being right: samples of one model repeat each other's mistakes. The thresholds are
the published ones and stand on the plain share; the confidence that a pair carries is the discounted one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Generic

import numpy as np

from curator.annotate import Progress
from curator.confidence import Floats
from curator.engines.base import Engine
from curator.errors import InputError
from curator.learning import Answers
from curator.methods.agreement import Agreed
from curator.methods.rationales import wrong_steps
from curator.methods.replies import Reply, asked_as, forms, replies
from curator.pipeline import Plan, ask_apart
from curator.preferences import Preference, freeze_preferences
from curator.store import DatasetVersion
from curator.task import Output
from curator.telemetry import stage_span
from curator.types import Document, JsonObject
from curator.votes import VoteResult, vote

UPHELD, OVERRULED = "weak_upheld", "weak_overruled"
"""Which rule made a pair: the weak answer is the chosen one, or the rejected one."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """How pairs are made. The defaults are the published ones for GSM8K; for MATH it is `pairs=3`.

    A question whose vote share (of all `samples`) is below `least` makes no pair; against a weak answer the majority
    needs `overrule`. At most `pairs` per question are drawn, by `seed`. With `arithmetic` no rationale that calculates
    wrongly is chosen.
    """

    samples: int = 10
    temperature: float = 1.0
    least: float = 0.6
    overrule: float = 0.8
    pairs: int = 1
    seed: int = 0
    arithmetic: bool = False

    def __post_init__(self) -> None:
        if self.samples < 2 or self.pairs < 1 or not 0 < self.least <= self.overrule <= 1 or self.temperature <= 0:
            raise InputError(
                f"samples is {self.samples}, temperature {self.temperature}, pairs {self.pairs}, "
                f"least {self.least}, overrule {self.overrule}",
                hint="samples are 2 or more, temperature above 0, pairs 1 or more, 0 < least <= overrule <= 1",
            )


@dataclass(frozen=True, slots=True)
class Ballots:
    """The votes on n questions: per document the form of the weak answer and those of the samples (None where there
    is none), and what was voted. `share` (n,) is the majority's of all samples, empty ones included."""

    ids: tuple[str, ...]
    weak: tuple[str | None, ...]
    cast: tuple[tuple[str | None, ...], ...]
    result: VoteResult

    @property
    def share(self) -> Floats:
        counts = np.nan_to_num(self.result.share) * self.result.votes
        shares: Floats = counts / np.array([max(len(votes), 1) for votes in self.cast], dtype=np.float64)
        return shares


@dataclass(frozen=True)
class Contrasted(Generic[Output]):
    """What `contrast` returns: the votes, the pairs as a dataset version, and a report of how they came about."""

    agreed: Agreed[Output]
    answers: Answers[Output]
    ballots: Ballots
    version: DatasetVersion
    progress: Progress
    report: JsonObject


async def contrast(
    agreed: Agreed[Output],
    engine: Engine,
    *,
    plan: Plan | None = None,
    settings: Contrast | None = None,
    progress: Progress | None = None,
) -> Contrasted[Output]:
    """Sample the strong model as the last round of Stage I asked it, and freeze preference pairs.

    `engine` is that round's (the fine-tuned one where there was one). `plan.limit` samples only the first so many
    documents. The pairs' prompts are the task's own, without examples. Calling again asks only what has not been
    answered. Raises: InputError if `engine` is another one, or if no pair is made.
    """
    started, counts = time.monotonic(), progress or Progress()
    plan, settings = plan or Plan(), settings or Contrast()
    task, store, last = agreed.task, agreed.store, agreed.rounds[-1].answers
    if engine.identity != last.identity:
        raise InputError(
            f"the last round of Stage I was answered by {last.identity}, not by {engine.identity}",
            hint="give the engine of that round",
        )
    asked = asked_as(task, settings.samples, settings.temperature, settings.seed)
    answers = replace(last, task=asked)
    config: JsonObject = {"task": task.id, "engine": str(engine.identity), "contrast": asdict(settings)}
    with store.run("progressive", config) as run, stage_span("progressive", task=task.id):
        store.save_task(asked.id, asked.spec)
        annotation = await ask_apart(answers, engine, run, plan, counts)
        ballots = await asyncio.to_thread(ballots_of, agreed.weak, answers, plan.limit)
        counted: Counter[str] = Counter()
        work = _Pairing(agreed, answers, ballots, settings, counted)
        pairs = await asyncio.to_thread(list, work.pairs(plan.limit))
        report: JsonObject = {**config, "annotation": annotation, **_about(ballots, counted)}
        freeze = partial(freeze_preferences, task, store, run, pairs, {"contrast": asdict(settings)}, report)
        version = await asyncio.to_thread(freeze)
    report["seconds"] = round(time.monotonic() - started, 3)
    return Contrasted(agreed, answers, ballots, version, counts, report)


def ballots_of(weak: Answers[Output], strong: Answers[Output], limit: int | None = None) -> Ballots:
    """The votes on the documents that the strong model has answered. The weak answer is compared with them and has no
    vote of its own."""
    first = {name: reply.finals[0] for name, reply in replies(weak)}
    sampled = {name: reply.finals for name, reply in replies(strong)}
    found: list[tuple[str, str | None, tuple[str | None, ...]]] = []
    for page in strong.store.documents(kept_by=strong.kept_by, limit=limit):
        for document in (one for one in page if one.id in sampled):
            own, *votes = forms(strong.task, [first.get(document.id), *sampled[document.id]], document.text)
            found.append((document.id, own, tuple(votes)))
    ids, weak_forms, cast = zip(*found, strict=True) if found else ((), (), ())
    return Ballots(ids, weak_forms, cast, vote(cast))


def _about(ballots: Ballots, counted: Counter[str]) -> JsonObject:
    outcomes: JsonObject = {name: counted[name] for name in sorted(counted)}
    return {"questions": len(ballots.ids), "outcomes": outcomes, "votes": ballots.result.report()}


@dataclass(frozen=True, slots=True)
class _Choice:
    """One question: the weak text and form, the samples' texts and forms, and the majority with its share."""

    document: Document
    weak: tuple[str, str | None]
    samples: Sequence[tuple[str, str | None]]
    majority: str | None
    share: float
    confidence: float

    def of(self, *, majority: bool) -> list[tuple[int, str, str]]:
        """(sample, text, form) of the samples that gave the majority's answer, or of those that gave another one;
        each text once."""
        seen: dict[str, tuple[int, str, str]] = {}
        for number, (text, form) in enumerate(self.samples):
            if form is not None and (form == self.majority) == majority:
                seen.setdefault(text, (number, text, form))
        return list(seen.values())


@dataclass(frozen=True, slots=True)
class _Pairing(Generic[Output]):
    """Makes the pairs; `counted` takes what became of each question."""

    agreed: Agreed[Output]
    answers: Answers[Output]
    ballots: Ballots
    settings: Contrast
    counted: Counter[str] = field(default_factory=Counter)

    def pairs(self, limit: int | None) -> Iterator[Preference]:
        """All pairs, in the store's order."""
        for choice in self._choices(limit):
            outcome = self._outcome(choice)
            made = self._drawn(choice, outcome) if outcome in (UPHELD, OVERRULED) else []
            self.counted[outcome if made or outcome not in (UPHELD, OVERRULED) else f"{outcome}_without_pair"] += 1
            self.counted["pairs"] += len(made)
            yield from made

    def _choices(self, limit: int | None) -> Iterator[_Choice]:
        weak = dict(replies(self.agreed.weak))
        said = dict(replies(self.answers))
        rows = {name: row for row, name in enumerate(self.ballots.ids)}
        share, sure = self.ballots.share, np.nan_to_num(self.ballots.result.confidence)
        for page in self.agreed.store.documents(kept_by=self.answers.kept_by, limit=limit):
            for document in (one for one in page if one.id in rows):
                row = rows[document.id]
                own: Reply | None = weak.get(document.id)
                samples = list(zip(said[document.id].texts, self.ballots.cast[row], strict=True))
                yield _Choice(
                    document,
                    (own.texts[0] if own else "", self.ballots.weak[row]),
                    samples,
                    self.ballots.result.values[row],
                    float(share[row]),
                    float(sure[row]),
                )

    def _outcome(self, choice: _Choice) -> str:
        """The rule that holds for a question, or why none does."""
        empty = sum(form is None for _, form in choice.samples) / max(len(choice.samples), 1)
        if choice.majority is None or empty > choice.share:
            return "majority_empty"
        if choice.share < self.settings.least:
            return "low_vote"
        if choice.weak[1] is None:
            return "weak_empty"
        if choice.weak[1] == choice.majority:
            return UPHELD
        return OVERRULED if choice.share >= self.settings.overrule else "vote_too_low_to_overrule"

    def _drawn(self, choice: _Choice, rule: str) -> list[Preference]:
        """Up to so many pairs as the settings allow, drawn by seed and document alone."""
        own, form = choice.weak
        candidates = choice.of(majority=rule == OVERRULED)
        if rule == OVERRULED:
            candidates = [one for one in candidates if self._sound(one[1])]
        elif not self._sound(own):
            return []
        candidates = [one for one in candidates if one[1] != own]
        chance = random.Random(f"{self.settings.seed}:{choice.document.id}")
        drawn = chance.sample(candidates, min(self.settings.pairs, len(candidates)))
        return [self._pair(choice, rule, str(form), one) for one in drawn]

    def _sound(self, text: str) -> bool:
        return not (self.settings.arithmetic and wrong_steps(text))

    def _pair(self, choice: _Choice, rule: str, own: str, drawn: tuple[int, str, str]) -> Preference:
        number, text, form = drawn
        weak: JsonObject = {"engine": str(self.agreed.weak.identity), "sample": 0, "answer": own}
        strong: JsonObject = {"engine": str(self.answers.identity), "sample": number, "answer": form}
        upheld = rule == UPHELD
        details: JsonObject = {
            "rule": rule,
            "chosen": weak if upheld else strong,
            "rejected": strong if upheld else weak,
            "vote_share": choice.share,
        }
        prompt = self.agreed.task.generate_request(choice.document).messages
        sides = (choice.weak[0], text) if upheld else (text, choice.weak[0])
        return Preference(choice.document, prompt, *sides, choice.confidence, details)
