"""curator/shortlists.py: questions cut down, and answers spread over all options again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from curator.shortlists import Aid, Shortlist
from curator.types import DecideRequest, Decision, Decisions, Demonstration, Option, Question

LABELS = ("a", "b", "c", "d")
WHOLE = Question("kind", "choice", "Which?", tuple(map(Option, ("d", "c", "b", "a"))))
SMALL = Question("sure", "predicate", "Sure?", (Option("yes"), Option("no")))
PRIOR = np.log([0.4, 0.3, 0.2, 0.1])


def shortlist(weight: float = 1.0, prior=PRIOR) -> Shortlist:
    return Shortlist(LABELS, prior, frozenset("ac"), weight)


def decision(*probabilities: float) -> Decision:
    return Decision(tuple(map(math.log, probabilities)), 0.9, "labels")


def test_a_cut_question_keeps_its_own_order():
    assert shortlist().cut(WHOLE).labels == ("c", "a")


def test_shown_options_share_what_the_prior_gives_them_and_the_others_keep_theirs():
    # a and c have 0.6 of the prior; 0.4 * 0.1 to 0.2 * 0.3 divides it as 0.4 to 0.6.
    spread = shortlist().spread(WHOLE, decision(0.3, 0.1))
    assert np.exp(spread.logprobs) == pytest.approx([0.1, 0.36, 0.3, 0.24])
    assert (spread.label_mass, spread.readout) == (0.9, "labels")


def test_the_weight_says_how_much_an_answer_counts():
    nothing = shortlist(weight=1e-9).spread(WHOLE, decision(0.99, 0.01))
    assert np.exp(nothing.logprobs) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    odds = [np.subtract(*shortlist(weight).spread(WHOLE, decision(0.5, 0.25)).logprobs[1::2]) for weight in (1, 2)]
    assert odds[1] - odds[0] == pytest.approx(math.log(2))


def test_an_answer_that_rules_everything_out_is_cut_at_the_floor():
    spread = shortlist().spread(WHOLE, Decision((0.0, -1e4), None, "labels"))
    assert np.isfinite(spread.logprobs).all()
    assert np.exp(spread.logprobs) == pytest.approx([0.1, 0.6, 0.3, 0.0], abs=1e-9)


def test_an_aid_cuts_its_own_questions_and_puts_its_examples_last():
    first, near = Demonstration("first", {"sure": "yes"}), Demonstration("near", {"kind": "a"})
    request = DecideRequest("text", (SMALL, WHOLE), demonstrations=(first,))
    aid = Aid({"kind": shortlist()}, (near,))
    sent = aid.cut(request)
    assert [question.labels for question in sent.questions] == [("yes", "no"), ("c", "a")]
    assert sent.demonstrations == (first, near)
    answer = Decisions((decision(0.5, 0.5), None))
    assert aid.spread(request, answer) == answer


def test_the_key_of_an_answer_depends_on_all_that_it_is_spread_by():
    other = np.log([0.3, 0.4, 0.2, 0.1])
    shorter = Shortlist(LABELS, PRIOR, frozenset("ab"), 1.0)
    aids = [Aid({"kind": one}) for one in (shortlist(), shortlist(2.0), shortlist(prior=other), shorter)]
    keys = {aid.key("0" * 32) for aid in (Aid(), *aids)}
    assert len(keys) == 5
    assert all(len(key) == 32 for key in keys)
    assert aids[0].key("0" * 32) == Aid({"kind": shortlist()}).key("0" * 32) != aids[0].key("1" * 32)
