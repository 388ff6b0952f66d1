"""Which rules may be used for a question, for every state that a policy can be in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from route_builders import FUN, MOOD, certificate, policy, row, scripted

from cascade.policy import Policy, Rule, Scorer
from cascade.rulebook import Path, Rulebook, identities
from curator.errors import ConfigError

ASKED = row("fine", MOOD, FUN)
TIERS = {name: scripted(name, decide=[]) for name in ("tiny", "small", "strong")}


def made(verdict: str = "PASS", **changed: object) -> Policy:
    return policy(TIERS, ASKED, {"mood": [0.7, None]}, certified=certificate(verdict, **changed))


def way(found: Policy, uncertified: str = "teacher", name: str = "mood", mark: str | None = None) -> Path:
    return Rulebook(found, uncertified).path(name, mark or found.questions[0].fingerprint)


@pytest.mark.parametrize(
    ("verdict", "uncertified", "asked", "certified"),
    [
        ("PASS", "teacher", True, True),
        ("PASS", "rules", True, True),
        ("PASS", "refuse", True, True),
        ("INCONCLUSIVE", "teacher", False, False),
        ("INCONCLUSIVE", "rules", True, False),
        ("BLOCK", "teacher", False, False),
        ("BLOCK", "rules", False, False),
    ],
)
def test_a_verdict_says_whether_the_lower_tiers_are_asked(verdict, uncertified, asked, certified):
    found = way(made(verdict), uncertified)
    assert [rule is not None for rule in found.rules] == [asked, False]
    assert (found.certified, found.certificate is not None) == (certified, asked)
    assert (verdict in found.note) == (not certified)


@pytest.mark.parametrize("verdict", ["INCONCLUSIVE", "BLOCK"])
def test_what_is_not_certified_can_be_refused(verdict):
    with pytest.raises(ConfigError, match=f"'mood' is not certified: its verdict is {verdict}"):
        way(made(verdict), "refuse")


def test_a_question_that_nobody_certified_says_what_differs():
    assert "not those that were certified" in way(made(), mark="another").note
    assert "does not know it" in way(made(), name="fun", mark="another").note
    assert way(made(), "rules", mark="another").rules == (None, None)


def test_no_tier_below_the_last_is_judged_beyond_its_rules():
    found = way(made())
    assert found.rule(0) is not None
    assert found.rule(1) is None
    assert found.rule(2) is None


def test_a_policy_that_expires_meanwhile_covers_nothing():
    book = Rulebook(made(), "rules")
    book.policy = book.policy.model_copy(update={"expires": datetime.now(UTC) - timedelta(seconds=1)})
    found = book.path("mood", book.policy.questions[0].fingerprint)
    assert (found.rules, found.certified, found.note) == ((None, None), False, "the policy has expired")


@pytest.mark.parametrize("naive", [True, False])
def test_a_time_without_a_zone_is_utc(naive):
    soon = datetime.now(UTC) + timedelta(minutes=5)
    found = made().model_copy(update={"expires": soon.replace(tzinfo=None) if naive else soon})
    assert not Rulebook(found, "teacher").expired
    past = made().model_copy(update={"expires": soon - timedelta(minutes=10)})
    with pytest.raises(ConfigError, match="expired"):
        Rulebook(past, "teacher")


def test_a_policy_without_tiers_is_none():
    with pytest.raises(ConfigError, match="no tiers"):
        Rulebook(made().model_copy(update={"tiers": ()}), "teacher")


def test_what_a_confidence_rests_on():
    plain = Rule(tier="tiny", scorer=Scorer(signals=("margin",), weights=(1.0,)), threshold=0.5)
    fitted = Scorer(signals=("margin",), weights=(1.0,), knots=(0.0, 1.0), values=(0.2, 0.9))
    calibrated = plain.model_copy(update={"scorer": fitted})
    for basis, shown in (("vs_teacher", "reference:strong"), ("vs_truth", "audited(500)")):
        found = way(made(basis=basis))
        assert found.confidence_basis(plain, "strong") == "raw"
        assert found.confidence_basis(calibrated, "strong") == shown
    assert way(made("BLOCK")).confidence_basis(calibrated, "strong") == "raw"


def test_identities_are_in_the_policys_order():
    assert list(identities(made())) == ["scripted:tiny", "scripted:small", "scripted:strong"]
