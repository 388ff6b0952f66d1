"""From recorded outcomes to a policy with a certificate, one question at a time.

    policy = certify(outcomes, Asked("topic", fingerprint, ("sports", "politics")), CertifySettings(alpha=0.05))

The rows are divided by chance. On the learning half a scorer per tier and a path of threshold vectors are chosen, on
the other half the path is tested (`cascade.risk`): end to end, so that what happens to a query after the first tier
passed it on is part of the risk. Against the last tier no label is needed; against the truth, audited rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from cascade.costs import Expected, Worth, expect, worth
from cascade.halves import Asked, Case, CertifySettings, divided
from cascade.outcomes import NO_ANSWER, Outcomes, serve, served
from cascade.path import Path, asked, best_path, promised
from cascade.policy import Certificate, QuestionPolicy, Rule, Scorer, Verdict
from cascade.risk import bound, fixed_sequence, lower_bound, rows_for, rows_needed
from cascade.scoring import FEWEST, answered, choose, score_table
from curator.confidence import Floats, Ints

__all__ = ["Asked", "CertifySettings", "audit_plan", "certify"]

AGREEMENT: Final = "tier_agreement"
"""The signal that needs the answer of the tier before (`cascade.signals`)."""
FALLBACKS: Final = 20
"""Steps of the path, more careful than the rules, that a policy keeps."""


def certify(
    outcomes: Outcomes, question: Asked, settings: CertifySettings | None = None, *, chance: Floats | None = None
) -> QuestionPolicy:
    """The cheapest rules whose risk is certified, or the last tier alone with the reason why.

    `chance` (n,) is for `vs_truth` where the audited rows were drawn by `audit_plan`: the chance of each row, NaN for
    those that could not be drawn. Without, the rows whose quality is known are a plain sample.
    Raises: InputError for outcomes that cannot be compared; MissingExtraError where the fusion needs scikit-learn.
    """
    case = divided(outcomes, settings or CertifySettings(), chance)
    case.notes.extend(_never_chosen(outcomes, question.options))
    scorers, path = _learned(case)
    steps, certificate = _tested(case, scorers, path)
    vectors = [tuple(float(value) if np.isfinite(value) else None for value in step) for step in steps]
    rules = tuple(
        Rule(tier=name, scorer=one or _unused(outcomes), threshold=value)
        for name, one, value in zip(outcomes.tiers[:-1], scorers, vectors[0], strict=True)
    )
    return QuestionPolicy(
        name=question.name,
        fingerprint=question.fingerprint,
        rules=rules,
        certificate=certificate,
        path=tuple(vectors[1:]),
    )


def audit_plan(outcomes: Outcomes, settings: CertifySettings) -> tuple[Ints, Floats]:
    """The rows that may be drawn for an audit (the test half), and for each a guess of the chance that the answer
    which would be served is wrong; for `cascade.risk.choose_audits`. Label-free."""
    case = divided(outcomes, replace(settings, basis="vs_teacher"), None)
    scorers, path = _learned(case)
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


def _learned(case: Case) -> tuple[list[Scorer | None], Path]:
    """A scorer per tier but the last, and the path to test: with the agreement between tiers, or where that is cheaper
    without it, as a tier that is not asked has no answer to agree with."""
    learn, tiers = case.outcomes.take(case.learn), range(len(case.outcomes.tiers) - 1)
    test = (len(case.test), case.settings.alpha, case.settings.delta)

    def made(scorers: list[Scorer | None]) -> tuple[list[Scorer | None], Path]:
        compared = {tier for tier, one in enumerate(scorers) if one is not None and AGREEMENT in one.signals}
        table, losses = score_table(learn, scorers), case.losses[case.learn]
        return scorers, best_path(table, losses, _prices(case.outcomes), test, compared=compared)

    found = [made([_scorer(case, learn, tier) for tier in tiers])]
    if any(one is not None and AGREEMENT in one.signals for one in found[0][0]):
        plain = replace(learn, signals={name: table for name, table in learn.signals.items() if name != AGREEMENT})
        found.append(made([_scorer(case, plain, tier) for tier in tiers]))
    return min(found, key=lambda one: promised(one[1], test))


def _scorer(case: Case, learn: Outcomes, tier: int) -> Scorer | None:
    name = learn.tiers[tier]
    if not answered(learn, tier).any():
        case.note(f"{name} never answered and is skipped")
        return None
    found = choose(learn, tier, case.losses[case.learn, tier], case.settings.alpha, fusion=case.settings.fusion)
    if found is None:
        case.note(f"{name} has fewer than {FEWEST} answers with a signal that tells them apart, and is skipped")
        return None
    return found.scorer


def _unused(outcomes: Outcomes) -> Scorer:
    """The scorer of a tier that is skipped: never asked for."""
    return Scorer(signals=(next(iter(outcomes.signals)),), weights=(1.0,))


def _prices(outcomes: Outcomes) -> Floats:
    """What a call of each tier takes (t,): money where all is known, else seconds, else one call of the last tier."""
    for table in (outcomes.cost, outcomes.latency):
        known = ~np.isnan(table)
        if known.any(axis=0).all():
            return np.asarray(np.where(known, table, 0.0).sum(axis=0) / known.sum(axis=0))
    return np.asarray(np.eye(len(outcomes.tiers))[-1])


def _tested(case: Case, scorers: Sequence[Scorer | None], path: Path) -> tuple[Floats, Certificate]:
    """Thresholds (steps, t - 1): those to use, then more careful ones; and what is certified of the first."""
    rows = case.outcomes.take(case.test)
    scores, losses, settings = score_table(rows, scorers), case.losses[case.test], case.settings
    nowhere = np.full((1, len(scorers)), np.inf)

    def of(thresholds: Floats) -> tuple[Ints, Floats]:
        tier = serve(scores, thresholds)
        return tier, served(losses, tier)

    perfect = np.where(np.isnan(losses).any(axis=1), np.nan, 0.0)
    if not len(rows) or case.p_value(perfect) > settings.delta:
        return nowhere, _certificate(case, of(nowhere[0]), nowhere[0], (Verdict.INCONCLUSIVE, _too_few(case, perfect)))
    passed = fixed_sequence(lambda step: case.p_value(of(path.thresholds[step])[1]), len(path.risk), settings.delta)
    if not passed:
        return nowhere, _certificate(case, of(nowhere[0]), nowhere[0], _wrong_teacher(case, losses[:, -1]))
    step = 1 + int(np.argmin(path.cost[1:passed])) if passed > 1 else 0
    tier, lost = of(path.thresholds[step])
    value = worth(expect(rows, tier, asked(path.thresholds[step])), rows.tiers, settings.least_saved)
    if step == 0 or value.saves is not True:
        return nowhere, _certificate(case, of(nowhere[0]), nowhere[0], _useless(case, path, step, value))
    top = settings.alpha
    if step == len(path.risk) - 1:
        # The end of the path was fixed beforehand, so its own bound holds too, and may be lower than alpha.
        top = min(top, bound(lost, settings.delta, None if case.chance is None else case.chance[case.test]))
    kept = np.unique(np.linspace(step, 1, FALLBACKS + 1).round().astype(np.int64))[::-1]
    said = Verdict.PASS, _held(case, top, value)
    return path.thresholds[kept], _certificate(case, (tier, lost), path.thresholds[step], said, top)


def _certificate(
    case: Case, tested: tuple[Ints, Floats], thresholds: Floats, said: tuple[Verdict, str], top: float | None = None
) -> Certificate:
    (tier, lost), settings = tested, case.settings
    weight = np.ones(len(lost)) if case.chance is None else 1.0 / case.chance[case.test]
    known = ~np.isnan(lost)
    expected: Expected = expect(case.outcomes.take(case.test), tier, asked(thresholds))
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
        cost=expected.cost,
        baseline_cost=expected.baseline_cost,
        latency=expected.latency,
        baseline_latency=expected.baseline_latency,
        notes=tuple(case.notes),
        tolerance=settings.tolerance,
    )


def _held(case: Case, top: float, value: Worth) -> str:
    what = f"differ from {case.teacher}'s" if case.settings.basis == "vs_teacher" else "are wrong"
    if off := case.settings.tolerance:
        what += f" by more than {off} level{'s' if off > 1 else ''}"
    return f"served answers {what} in at most {top:.2%} of queries; {value.reason}"


def _too_few(case: Case, perfect: Floats) -> str:
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


def _wrong_teacher(case: Case, lost: Floats) -> tuple[Verdict, str]:
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


def _useless(case: Case, path: Path, step: int, value: Worth) -> tuple[Verdict, str]:
    """Why the certified thresholds are not used: they save nothing, now or ever."""
    settings, alone = case.settings, float(_prices(case.outcomes)[-1])
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
