"""What was looked up for one document: the options worth showing, and worked examples that resemble it.

A question is cut down to its shortlist before it is asked. The answer is spread over all options again before it
is kept, so that every answer in the store has a log-probability for every option.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import orjson

from curator.confidence import Floats, log_normalise
from curator.types import DecideRequest, Decision, Decisions, Demonstration, Document, Question


@dataclass(frozen=True, slots=True, eq=False)
class Shortlist:
    """`prior` (k,) is the log-probability of each of the `labels` before the question is asked; only the `shown`
    ones are asked about. `weight` is how much an answer counts beside it."""

    labels: tuple[str, ...]
    prior: Floats
    shown: frozenset[str]
    weight: float

    def cut(self, question: Question) -> Question:
        """The question with the shown options only, in its own order."""
        return replace(question, options=tuple(option for option in question.options if option.label in self.shown))

    def spread(self, question: Question, decision: Decision) -> Decision:
        """The answer to the cut question as one to the whole `question`.

        Bayes' rule over the shown options, p(y) ~ prior(y) p_model(y)^weight: together they get the probability
        that the prior gives them. An option that was not shown keeps its prior: nothing was learned about it.
        `label_mass` stays what the model said of the shown options.
        """
        known = dict(zip(self.labels, self.prior.tolist(), strict=True))
        prior = np.array([known[label] for label in question.labels])
        places = [place for place, label in enumerate(question.labels) if label in self.shown]
        said = log_normalise(np.array(decision.logprobs))
        share = np.logaddexp.reduce(prior[places])
        prior[places] = share + log_normalise(prior[places] + self.weight * said)
        return replace(decision, logprobs=tuple(prior.tolist()))


@dataclass(frozen=True, slots=True)
class Aid:
    """Question name -> shortlist, and worked examples, the one that resembles the document most last."""

    shortlists: Mapping[str, Shortlist] = field(default_factory=dict)
    demonstrations: tuple[Demonstration, ...] = ()

    def cut(self, request: DecideRequest) -> DecideRequest:
        """What is sent instead of `request`."""
        questions = tuple(
            self.shortlists[question.name].cut(question) if question.name in self.shortlists else question
            for question in request.questions
        )
        shown = (*request.demonstrations, *self.demonstrations)
        return replace(request, questions=questions, demonstrations=shown)

    def spread(self, whole: DecideRequest, answer: Decisions) -> Decisions:
        """The answer to the cut request as one to the `whole` one."""
        spread = [
            self.shortlists[question.name].spread(question, decision)
            if decision is not None and question.name in self.shortlists
            else decision
            for question, decision in zip(whole.questions, answer.answers, strict=True)
        ]
        return replace(answer, answers=tuple(spread))

    def key(self, key: str) -> str:
        """The key of a spread answer, from that of the request that is sent."""
        known = [
            (name, one.labels, one.prior.tolist(), sorted(one.shown), one.weight)
            for name, one in sorted(self.shortlists.items())
        ]
        return hashlib.blake2b(orjson.dumps((key, known)), digest_size=16).hexdigest()


BLOCK = 1024
"""Documents that are looked up at a time: the first is not to wait for thousands of others."""


class Retriever(Protocol):
    """Looks things up for documents. The same document gets the same aid every time."""

    @property
    def key(self) -> str:
        """Hash of everything that decides what is looked up."""
        ...

    def look_up(self, documents: Sequence[Document]) -> Sequence[Aid]:
        """One aid per document. Raises: GoldlessError."""
        ...
