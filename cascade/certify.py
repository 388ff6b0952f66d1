"""From recorded outcomes to a policy with a certificate, one question at a time.

    policy = certify(outcomes, Asked("topic", fingerprint, ("sports", "politics")), CertifySettings(alpha=0.05))

The rows are divided by chance. On the learning half a scorer per tier and a path of threshold vectors are chosen, on
the other half the path is tested (`cascade.risk`): end to end, so that what happens to a query after the first tier
passed it on is part of the risk. Against the last tier no label is needed; against the truth, audited rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from cascade.costs import Expected, Worth, expect, worth
from cascade.outcomes import NO_ANSWER, Outcomes, differ, serve, served
from cascade.path import Path, best_path, fallbacks
from cascade.policy import Certificate, QuestionPolicy, Rule, Scorer, Verdict
from cascade.risk import bound, fixed_sequence, lower_bound, p_value, rows_for, rows_needed
from cascade.scoring import FEWEST, answered, choose, score_table
from curator.confidence import Bools, Floats, Ints
from curator.errors import ConfigError, InputError

Basis = Literal["vs_teacher", "vs_truth"]


@dataclass(frozen=True, slots=True)
class CertifySettings:
    """`alpha` is the risk that is allowed, `delta` the chance that the certificate is wrong. `tolerance` is how many
    levels a score may be off. `learning` is the share of the rows that thresholds are chosen on. `least_saved` is the
    share of the cost that a cascade must save. `fusion` tries all signals together too (needs scikit-learn).

    Raises: ConfigError for values outside their range.
    """

    alpha: float = 0.05
    delta: float = 0.1
    basis: Basis = "vs_teacher"
    tolerance: int = 0
    learning: float = 0.5
    least_saved: float = 0.01
    fusion: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("alpha", "delta", "learning"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint=f"{name} lies between 0 and 1")
        if self.tolerance < 0 or not 0 <= self.least_saved < 1:
            raise ConfigError("tolerance must be 0 or more, and least_saved a share from 0 to below 1")


@dataclass(frozen=True, slots=True)
class Asked:
    """The question that the outcomes are of: `options` in the order of the answers' numbers, empty where it has
    none."""

    name: str
    fingerprint: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Case:
    """One question on its way to a certificate. `losses` (n, t) is 1 where a tier's answer must not be served."""

    outcomes: Outcomes
    settings: CertifySettings
    losses: Floats
    learn: Ints
    test: Ints
    chance: Floats | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def teacher(self) -> str:
        return self.outcomes.tiers[-1]

    def p_value(self, losses: Floats) -> float:
        """Of "the risk is above alpha", from the losses of the test rows."""
        return p_value(losses, self.settings.alpha, None if self.chance is None else self.chance[self.test])


def certify(
    outcomes: Outcomes, asked: Asked, settings: CertifySettings | None = None, *, chance: Floats | None = None
) -> QuestionPolicy:
    """The cheapest rules whose risk is certified, or the last tier alone with the reason why.

    `chance` (n,) is for `vs_truth` where the audited rows were drawn by `audit_plan`: the chance of each row, NaN for
    those that could not be drawn. Without, the rows whose quality is known are a plain sample.
    Raises: InputError for outcomes that cannot be compared; MissingExtraError where the fusion needs scikit-learn.
    """
    case = _case(outcomes, settings or CertifySettings(), chance)
    case.notes.extend(_never_chosen(outcomes, asked.options))
    scorers = [_scorer(case, tier) for tier in range(len(outcomes.tiers) - 1)]
    path = _learned_path(case, scorers)
    thresholds, certificate = _tested(case, scorers, path)
    rules = tuple(
        Rule(tier=name, scorer=one or _unused(outcomes), threshold=float(value) if np.isfinite(value) else None)
        for name, one, value in zip(outcomes.tiers[:-1], scorers, thresholds, strict=True)
    )
    known = score_table(outcomes.take(case.learn), scorers)
    back = [tuple(float(v) if np.isfinite(v) else None for v in step) for step in fallbacks(path, thresholds, known)]
    return QuestionPolicy(
        name=asked.name, fingerprint=asked.fingerprint, rules=rules, certificate=certificate, path=tuple(back)
    )


def _case(outcomes: Outcomes, settings: CertifySettings, chance: Floats | None) -> _Case:
    if len(outcomes.tiers) < 2:
        raise InputError("a cascade has two tiers or more", hint="name the cheap one first, the teacher last")
    if not outcomes.signals:
        raise InputError("the outcomes have no signals, so no answer can be told from another")
    rows = np.random.default_rng(settings.seed).permutation(len(outcomes))
    half = round(settings.learning * len(rows))
    if settings.basis == "vs_teacher":
        return _Case(outcomes, settings, differ(outcomes, settings.tolerance), rows[:half], rows[half:])
    known: Bools = np.asarray(~np.isnan(outcomes.quality).any(axis=1))
    if not known.any():
        raise InputError("nobody knows the truth of any row", hint="audit 50 to 200 rows, or certify vs_teacher")
    losses = 1.0 - outcomes.quality
    if not known.all():
        # Where nobody knows the truth, a tier that says what the last one says is taken to be right, for learning.
        losses = np.where(known[:, None], losses, differ(outcomes, settings.tolerance))
    if chance is not None:
        drawable = ~np.isnan(chance)
        tested = np.where((drawable & ~known)[:, None], np.nan, losses)
        return _Case(outcomes, settings, tested, rows[~drawable[rows]], rows[drawable[rows]], chance)
    if (~known).sum() >= known.sum():
        return _Case(outcomes, settings, losses, rows[~known[rows]], rows[known[rows]])
    audited, half = rows[known[rows]], round(settings.learning * int(known.sum()))
    return _Case(outcomes, settings, losses, audited[:half], audited[half:])


def audit_plan(outcomes: Outcomes, settings: CertifySettings) -> tuple[Ints, Floats]:
    """The rows that may be drawn for an audit (the test half), and for each a guess of the chance that the answer
    which would be served is wrong; for `cascade.risk.choose_audits`. Label-free."""
    case = _case(outcomes, replace(settings, basis="vs_teacher"), None)
    scorers = [_scorer(case, tier) for tier in range(len(outcomes.tiers) - 1)]
    path = _learned_path(case, scorers)
    scores = score_table(outcomes.take(case.test), scorers)
    affordable = np.flatnonzero(path.risk <= settings.alpha)
    tier = serve(scores, path.thresholds[affordable[np.argmin(path.cost[affordable])]])
    surest = np.nan_to_num(np.concatenate([scores, np.full((len(scores), 1), np.nan)], axis=1), nan=0.0)
    sure = np.where(tier < scores.shape[1], served(surest, tier), surest.max(axis=1))
    return case.test, np.where(served(case.losses[case.test], tier) > 0, 1.0, 1.0 - sure)


def _never_chosen(outcomes: Outcomes, options: Sequence[str]) -> list[str]:
    seen = set(np.unique(outcomes.answers[:, -1]).tolist())
    never = [name for number, name in enumerate(options) if number not in seen]
    if not never or seen == {NO_ANSWER}:
        return []
    names = ", ".join(never[:10]) + (f" and {len(never) - 10} more" if len(never) > 10 else "")
    return [f"{outcomes.tiers[-1]} never chose {names} in {len(outcomes):,} rows: nothing is known of these options"]


def _scorer(case: _Case, tier: int) -> Scorer | None:
    learn, name = case.outcomes.take(case.learn), case.outcomes.tiers[tier]
    if not answered(learn, tier).any():
        case.notes.append(f"{name} never answered and is skipped")
        return None
    found = choose(learn, tier, case.losses[case.learn, tier], case.settings.alpha, fusion=case.settings.fusion)
    if found is None:
        case.notes.append(f"{name} has fewer than {FEWEST} answers with a signal that tells them apart, and is skipped")
        return None
    return found.scorer


def _unused(outcomes: Outcomes) -> Scorer:
    """The scorer of a tier that is skipped: never asked for."""
    return Scorer(signals=(next(iter(outcomes.signals)),), weights=(1.0,))


def _learned_path(case: _Case, scorers: Sequence[Scorer | None]) -> Path:
    scores = score_table(case.outcomes.take(case.learn), scorers)
    test = (len(case.test), case.settings.alpha, case.settings.delta)
    return best_path(scores, case.losses[case.learn], _prices(case.outcomes), test)


def _prices(outcomes: Outcomes) -> Floats:
    """What a call of each tier takes (t,): money where all is known, else seconds, else one call of the last tier."""
    for table in (outcomes.cost, outcomes.latency):
        known = ~np.isnan(table)
        if known.any(axis=0).all():
            return np.asarray(np.where(known, table, 0.0).sum(axis=0) / known.sum(axis=0))
    return np.asarray(np.eye(len(outcomes.tiers))[-1])


def _tested(case: _Case, scorers: Sequence[Scorer | None], path: Path) -> tuple[Floats, Certificate]:
    """The thresholds to use (t - 1,) and what is certified of them."""
    rows = case.outcomes.take(case.test)
    scores, losses, settings = score_table(rows, scorers), case.losses[case.test], case.settings
    nowhere = np.full(len(scorers), np.inf)

    def of(thresholds: Floats) -> tuple[Ints, Floats]:
        tier = serve(scores, thresholds)
        return tier, served(losses, tier)

    perfect = np.where(np.isnan(losses).any(axis=1), np.nan, 0.0)
    if not len(rows) or case.p_value(perfect) > settings.delta:
        return nowhere, _certificate(case, of(nowhere), path, (Verdict.INCONCLUSIVE, _too_few(case, perfect)))
    passed = fixed_sequence(lambda step: case.p_value(of(path.thresholds[step])[1]), len(path.risk), settings.delta)
    if not passed:
        return nowhere, _certificate(case, of(nowhere), path, _wrong_teacher(case, losses[:, -1]))
    step = int(np.argmin(path.cost[:passed]))
    tier, lost = of(path.thresholds[step])
    value = worth(expect(rows, tier, path.active), rows.tiers, settings.least_saved)
    if step == 0 or value.saves is not True:
        return nowhere, _certificate(case, of(nowhere), path, _useless(case, path, step, value))
    top = settings.alpha
    if step == len(path.risk) - 1:
        # The end of the path was fixed beforehand, so its own bound holds too, and may be lower than alpha.
        top = min(top, bound(lost, settings.delta, None if case.chance is None else case.chance[case.test]))
    return path.thresholds[step], _certificate(case, (tier, lost), path, (Verdict.PASS, _held(case, top, value)), top)


def _certificate(
    case: _Case, tested: tuple[Ints, Floats], path: Path, said: tuple[Verdict, str], top: float | None = None
) -> Certificate:
    (tier, lost), settings = tested, case.settings
    weight = np.ones(len(lost)) if case.chance is None else 1.0 / case.chance[case.test]
    known = ~np.isnan(lost)
    expected: Expected = expect(case.outcomes.take(case.test), tier, path.active)
    return Certificate(
        basis=settings.basis,
        verdict=said[0],
        reason=said[1],
        alpha=settings.alpha,
        delta=settings.delta,
        rows=int(known.sum()),
        risk=min(1.0, float((lost * weight)[known].sum()) / len(lost)) if known.any() else None,
        bound=top,
        shares=expected.shares,
        cost=expected.cost if top is not None else expected.baseline_cost,
        baseline_cost=expected.baseline_cost,
        latency=expected.latency if top is not None else expected.baseline_latency,
        baseline_latency=expected.baseline_latency,
        notes=tuple(case.notes),
    )


def _held(case: _Case, top: float, value: Worth) -> str:
    what = f"differ from {case.teacher}'s" if case.settings.basis == "vs_teacher" else "are wrong"
    return f"served answers {what} in at most {top:.2%} of queries; {value.reason}"


def _too_few(case: _Case, perfect: Floats) -> str:
    least, settings = rows_needed(case.settings.alpha, case.settings.delta), case.settings
    have = int((~np.isnan(perfect)).sum())
    allowed = f"{settings.alpha:.1%} at confidence {1 - settings.delta:.0%}"
    if settings.basis == "vs_truth":
        return f"{have} audited rows cannot show a risk of {allowed}: at least {least} are needed, all of them right"
    total = round(least / (1 - settings.learning))
    return (
        f"{have} rows are left for the test, which cannot show a risk of {allowed}: at least {least} are needed, "
        f"{total} with the learning half"
    )


def _wrong_teacher(case: _Case, lost: Floats) -> tuple[Verdict, str]:
    """Against the truth: the last tier alone does not hold the risk, so no cascade before it is looked at."""
    settings, known = case.settings, lost[~np.isnan(lost)]
    wrong = f"{case.teacher} itself is wrong in {known.sum():.0f} of {len(known)} audited rows"
    if case.chance is None and lower_bound(int(known.sum()), len(known), settings.delta) > settings.alpha:
        return (
            Verdict.BLOCK,
            f"{wrong}: alpha {settings.alpha:.1%} is out of reach, allow more or take a better teacher",
        )
    needed = rows_for(float(known.mean()), settings.alpha, settings.delta)
    more = (
        f"about {needed:,} audited rows would be needed" if needed else "more audited rows may show it to be too high"
    )
    return Verdict.INCONCLUSIVE, f"{wrong}, which does not show a risk of {settings.alpha:.1%} or less: {more}"


def _useless(case: _Case, path: Path, step: int, value: Worth) -> tuple[Verdict, str]:
    """Why the certified thresholds are not used: they save nothing, now or ever."""
    settings, alone = case.settings, path.cost[0] if len(path.cost) == 1 else float(_prices(case.outcomes)[-1])
    hopeful = path.risk[(path.risk < settings.alpha) & (path.cost <= (1 - settings.least_saved) * alone)]
    needed = [rows for risk in hopeful if (rows := rows_for(float(risk), settings.alpha, settings.delta))]
    if needed and min(needed) > len(case.test):
        total = round(min(needed) / (1 - settings.learning if settings.basis == "vs_teacher" else 1))
        return Verdict.INCONCLUSIVE, (
            f"with {len(case.test):,} test rows no thresholds that save are shown to hold {settings.alpha:.1%}; by the "
            f"learning half about {total:,} rows would do"
        )
    if value.saves is None and step:
        return Verdict.INCONCLUSIVE, f"the risk is held, but {value.reason}"
    if len(path.risk) == 1:
        return Verdict.BLOCK, f"no tier before {case.teacher} can be used: use {case.teacher} alone"
    return Verdict.BLOCK, value.reason if step else f"nothing can be saved at this risk: use {case.teacher} alone"
