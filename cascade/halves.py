"""One question on its way to a certificate: the rows divided into a learning and a test half, and their losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cascade.outcomes import Outcomes, differ
from cascade.risk import p_value
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
class Case:
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

    def note(self, said: str) -> None:
        """Keep it for the certificate, once."""
        if said not in self.notes:
            self.notes.append(said)

    def p_value(self, losses: Floats) -> float:
        """Of "the risk is above alpha", from the losses of the test rows."""
        return p_value(losses, self.settings.alpha, None if self.chance is None else self.chance[self.test])


def divided(outcomes: Outcomes, settings: CertifySettings, chance: Floats | None) -> Case:
    """The case, with the rows divided by chance; for `chance` see `cascade.certify.certify`.

    Raises: InputError for outcomes that cannot be compared.
    """
    if len(outcomes.tiers) < 2:
        raise InputError("a cascade has two tiers or more", hint="name the cheap one first, the teacher last")
    if not outcomes.signals:
        raise InputError("the outcomes have no signals, so no answer can be told from another")
    rows = np.random.default_rng(settings.seed).permutation(len(outcomes))
    half = round(settings.learning * len(rows))
    if settings.basis == "vs_teacher":
        return Case(outcomes, settings, differ(outcomes, settings.tolerance), rows[:half], rows[half:])
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
        return Case(outcomes, settings, tested, rows[~drawable[rows]], rows[drawable[rows]], chance)
    if (~known).sum() >= known.sum():
        return Case(outcomes, settings, losses, rows[~known[rows]], rows[known[rows]])
    audited, half = rows[known[rows]], round(settings.learning * int(known.sum()))
    return Case(outcomes, settings, losses, audited[:half], audited[half:])
