"""Whatever may change the answers changes the fingerprint; what cannot, does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from route_builders import CHAT, FUN, MOOD, row

from cascade.fingerprint import pinned, prompt_fingerprint, question_fingerprint
from curator.engines.base import EngineIdentity, identity_text, render_messages
from curator.types import Demonstration, Message, Sampling, Template

TIERS = ("head:small@1", "http:big at http://a/v1")


def mark(request, question=MOOD, tiers=TIERS):
    return question_fingerprint(request, question, tiers)


@pytest.mark.parametrize(
    "request_",
    [
        row("fine", replace(MOOD, instructions="?")),
        row("fine", replace(MOOD, options=MOOD.options[::-1])),
        replace(row(), template=Template(system="Be brief.")),
        replace(row(), demonstrations=(Demonstration("sad", {"mood": "bad"}),)),
        row("fine", MOOD, FUN),
    ],
    ids=["instructions", "order of options", "system", "examples", "text first"],
)
def test_what_changes_the_prompt_changes_the_fingerprint(request_):
    assert mark(request_, request_.questions[0]) != mark(row())


def test_the_models_belong_to_it_and_the_state_does_not():
    assert mark(row(), tiers=(TIERS[0], "http:big at http://b/v1")) != mark(row())
    assert mark(row("sad")) == mark(row())
    others = (Demonstration("sad", {"fun": "no"}),)
    assert mark(replace(row(), demonstrations=others)) == mark(row())


def test_pinning_keeps_the_prompt_when_fewer_questions_are_asked():
    both = row("fine", MOOD, FUN)
    alone = replace(pinned(both), questions=(MOOD,))
    assert render_messages(alone, MOOD) == render_messages(both, MOOD)
    assert render_messages(replace(both, questions=(MOOD,)), MOOD) != render_messages(both, MOOD)
    assert mark(alone) == mark(both)


def test_prompts_of_one_kind_share_a_fingerprint():
    base = prompt_fingerprint(CHAT, TIERS)
    assert prompt_fingerprint(replace(CHAT, messages=(Message("user", "Else?"),)), TIERS) == base
    assert prompt_fingerprint(replace(CHAT, sampling=replace(CHAT.sampling, seed=3)), TIERS) == base
    for other in (
        replace(CHAT, messages=(Message("system", "Be brief."), *CHAT.messages)),
        replace(CHAT, schema={"type": "object"}),
        replace(CHAT, n=2),
        replace(CHAT, sampling=Sampling(0.5)),
    ):
        assert prompt_fingerprint(other, TIERS) != base


def test_an_identity_in_full():
    whole = EngineIdentity("http", "m", "http://a/v1", "r1", "tone")
    assert identity_text(whole) == "http:m+tone@r1 at http://a/v1"
    assert identity_text(EngineIdentity("scripted", "m")) == "scripted:m"
