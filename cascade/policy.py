"""The policy of a cascade: which answer of which tier is served, and what is certified about that.

A policy is data. It is made by `cascade.certify`, kept as JSON, and used by `Cascade`, by the server and by replay.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from curator.confidence import Floats
from curator.types import Price

VERSION: Final = 1
"""Of this format. A newer one is refused."""

Unit = Annotated[float, Field(ge=0, le=1)]
Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Verdict(StrEnum):
    """PASS: the risk is at most alpha, with confidence 1 - delta, and the cascade saves. BLOCK: it must not be used,
    the reason says why. INCONCLUSIVE: too few rows to say either."""

    PASS = "PASS"
    BLOCK = "BLOCK"
    INCONCLUSIVE = "INCONCLUSIVE"


class Scorer(_Frozen):
    """Signals of one tier's answer -> a score in [0, 1], higher is safer to serve.

    `signals` are weighted (`weights`, `bias`; a single signal with weight 1 and bias 0 is that signal itself); with
    `knots` (ascending) and `values` the sum is then mapped piecewise linearly, which makes it a probability. A score is
    NaN where a signal is.

    Thresholds come from tables and are applied to single answers, so `score` and `score_one` give the same to the last
    bit: both do the same sums in the same order, where a matrix product or `np.interp` would be free to differ.
    """

    signals: tuple[str, ...] = Field(min_length=1)
    weights: tuple[float, ...]
    bias: float = 0.0
    knots: tuple[float, ...] = ()
    values: tuple[Unit, ...] = ()

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if len(self.weights) != len(self.signals) or len(self.values) != len(self.knots):
            raise ValueError("a scorer has one weight per signal, and one value per knot")
        # By less, a slope would be infinite.
        if any(not high - low > sys.float_info.min for low, high in pairwise(self.knots)):
            raise ValueError("the knots of a scorer ascend")
        return self

    def score(self, signals: Floats) -> Floats:
        """Scores (n,) from signals (n, len(self.signals)), in this scorer's order."""
        total: Floats = np.full(len(signals), self.bias)
        for weight, column in zip(self.weights, signals.T, strict=True):
            total = total + weight * column
        if not self.knots:
            return total
        knots, values = np.array(self.knots), np.array(self.values)
        slopes = np.append(np.diff(values) / np.diff(knots), 0.0)
        inside = np.clip(total, knots[0], knots[-1])
        low = np.searchsorted(knots, inside, side="right") - 1
        result: Floats = slopes[low] * (inside - knots[low]) + values[low]
        return result

    def score_one(self, signals: Sequence[float]) -> float:
        """The score of one answer's signals, in this scorer's order."""
        total = self.bias
        for weight, signal in zip(self.weights, signals, strict=True):
            total += weight * signal
        if not self.knots:
            return total
        knots, values = self.knots, self.values
        # A NaN stays one: no comparison with it holds, so it goes through `max` and `min`.
        inside = min(max(total, knots[0]), knots[-1])
        low = bisect_right(knots, inside) - 1
        last = low + 1 == len(knots)
        slope = 0.0 if last else (values[low + 1] - values[low]) / (knots[low + 1] - knots[low])
        return slope * (inside - knots[low]) + values[low]


class Rule(_Frozen):
    """When one tier's answer is served: its score reaches `threshold`. Without one, never (the tier is skipped and
    costs nothing)."""

    tier: str
    scorer: Scorer
    threshold: float | None

    @property
    def limit(self) -> float:
        """The threshold as a number; infinity where there is none."""
        return math.inf if self.threshold is None else self.threshold


class Certificate(_Frozen):
    """What is known about the risk of one question, end to end after escalation.

    `basis` is `vs_teacher` (the share of answers that differ from the last tier's) or `vs_truth` (the share of wrong
    ones, from audited rows). With probability 1 - `delta` over the `rows` that tested it, the risk is at most `bound`.
    For a score, an answer that is at most `tolerance` levels off does not count. Shares are by tier; money and seconds
    are per query, None where a price or a time is unknown. `notes` say what was skipped, and what was never seen.
    """

    basis: Literal["vs_teacher", "vs_truth"]
    verdict: Verdict
    reason: str
    alpha: Unit
    delta: Unit
    rows: int
    risk: Unit | None
    bound: Unit | None
    shares: tuple[Unit, ...]
    cost: Money | None = None
    baseline_cost: Money | None = None
    latency: Money | None = None
    baseline_latency: Money | None = None
    notes: tuple[str, ...] = ()
    tolerance: NonNegativeInt = 0

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without a tolerance as policies were before there was one, so that their checksums and signatures hold."""
        found: dict[str, object] = dump(self)
        if not self.tolerance:
            del found["tolerance"]
        return found


class QuestionPolicy(_Frozen):
    """Rules for one question, one per tier but the last; `fingerprint` is of all that the answers depend on.

    `path` holds vectors of thresholds that were certified with the rules' own, each more conservative than the one
    before: what live risk falls back to.
    """

    name: str
    fingerprint: str
    rules: tuple[Rule, ...]
    certificate: Certificate
    path: tuple[tuple[float | None, ...], ...] = ()


class TierRecord(_Frozen):
    """A tier as it was certified: its name in the policy, who it is (`curator.engines.base.identity_text`), its price
    per million tokens, and the spec that `curator.connect` makes it from, if it is known."""

    name: str
    identity: str
    price: tuple[Money, Money] | None = None
    spec: str = ""

    @classmethod
    def of(cls, name: str, identity: str, price: Price | None, spec: str = "") -> Self:
        """The record of a tier with this price; its currency is the policy's."""
        pair = None if price is None else (price.input, price.output)
        return cls(name=name, identity=identity, price=pair, spec=spec)

    def price_in(self, currency: str) -> Price | None:
        """The price that the tier was certified with, in the policy's currency."""
        return None if self.price is None else Price(*self.price, currency, "policy")


class Policy(_Frozen):
    """Tiers, the cheapest first, and what may be served of them per question."""

    version: int = VERSION
    created: datetime
    expires: datetime | None = None
    currency: str = "USD"
    tiers: tuple[TierRecord, ...]
    questions: tuple[QuestionPolicy, ...]
    checksum: str = ""
    signature: str | None = None
