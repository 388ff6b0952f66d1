"""How rows are divided into those that thresholds are chosen on and those that test them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recorded_world import world

from cascade.halves import Case, CertifySettings, divided
from cascade.outcomes import Outcomes
from curator.confidence import Floats
from curator.errors import ConfigError, InputError

TEACHER, TRUTH = CertifySettings(), CertifySettings(basis="vs_truth")


def audited(rows: int, known: int) -> Outcomes:
    """The truth of the first `known` rows only."""
    found = world(rows)
    quality = found.quality.copy()
    quality[known:] = np.nan
    return replace(found, quality=quality)


def cut(outcomes: Outcomes, settings: CertifySettings = TEACHER, chance: Floats | None = None) -> Case:
    return divided(outcomes, settings, chance)


def parts(case):
    return set(case.learn.tolist()), set(case.test.tolist())


@pytest.mark.parametrize(("share", "learning"), [(0.5, 50), (0.25, 25), (0.9, 90)])
def test_against_the_teacher_every_row_is_in_one_half(share, learning):
    case = cut(world(100), CertifySettings(learning=share))
    learn, test = parts(case)
    assert (len(learn), len(test), learn & test, learn | test) == (learning, 100 - learning, set(), set(range(100)))
    assert case.teacher == "t1"
    assert (case.losses[:, -1] == 0).all()
    assert (case.losses[:, 0] == (case.outcomes.answers[:, 0] != case.outcomes.answers[:, 1])).all()


def test_the_halves_are_drawn_by_the_seed_and_nothing_else():
    first, again, other = (cut(world(100), CertifySettings(seed=seed)) for seed in (1, 1, 2))
    assert parts(first) == parts(again) != parts(other)


def test_few_audits_all_test_and_the_rest_teaches():
    learn, test = parts(cut(audited(100, 30), TRUTH))
    assert test == set(range(30))
    assert learn == set(range(30, 100))


def test_many_audits_are_halved_and_the_rest_is_left_out():
    learn, test = parts(cut(audited(100, 70), TRUTH))
    assert learn | test == set(range(70))
    assert (len(learn), len(test)) == (35, 35)


def test_for_learning_an_unaudited_answer_is_right_where_the_teacher_says_it_too():
    case = cut(audited(100, 30), TRUTH)
    outcomes = case.outcomes
    agrees = outcomes.answers[30:, 0] == outcomes.answers[30:, 1]
    assert (case.losses[30:, 0] == 1.0 - agrees).all()
    assert (case.losses[:30] == 1.0 - outcomes.quality[:30]).all()


def test_rows_that_could_be_drawn_for_an_audit_test_and_the_undrawn_ones_are_unknown():
    chance = np.where(np.arange(100) < 60, 0.5, np.nan)
    case = cut(audited(100, 30), TRUTH, chance)
    learn, test = parts(case)
    assert (test, learn) == (set(range(60)), set(range(60, 100)))
    assert np.isnan(case.losses[30:60]).all()
    assert not np.isnan(case.losses[60:]).any()
    assert case.chance is not None


def test_a_note_is_kept_once():
    case = cut(world(10), CertifySettings())
    for said in ("one option was never seen", "one option was never seen", "a tier is skipped"):
        case.note(said)
    assert case.notes == ["one option was never seen", "a tier is skipped"]


def test_the_p_value_falls_with_the_losses():
    case = cut(world(200), CertifySettings(alpha=0.1))
    clean, bad = np.zeros(100), np.full(100, 1.0)
    assert case.p_value(clean) == pytest.approx(0.9**100)
    assert case.p_value(bad) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("outcomes", "settings", "match"),
    [
        (world(10).only("t1"), CertifySettings(), "two tiers or more"),
        (replace(world(10), signals={}), CertifySettings(), "no signals"),
        (audited(10, 0), TRUTH, "nobody knows the truth"),
    ],
)
def test_what_cannot_be_cut(outcomes, settings, match):
    with pytest.raises(InputError, match=match):
        cut(outcomes, settings)


@pytest.mark.parametrize(
    ("name", "value"), [("alpha", 0), ("delta", 1), ("learning", 1.5), ("tolerance", -1), ("least_saved", 1)]
)
def test_settings_out_of_range(name, value):
    with pytest.raises(ConfigError, match=name):
        CertifySettings(**{name: value})
