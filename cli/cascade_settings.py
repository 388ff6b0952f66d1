"""The tables of goldless.toml that `goldless certify` reads."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from cli.tables import EngineSettings, Table

Kind = Literal["order", "paraphrase", "negation", "injection"]
Share = Annotated[float, Field(ge=0, le=1)]
Chance = Annotated[float, Field(gt=0, lt=1)]


class TierSettings(EngineSettings):
    """One tier: an engine, and the name that it has in the policy. Write `[[cascade.tiers]]` once per tier, the
    cheapest first; the last is the teacher."""

    name: str = Field(min_length=1)


class GateSettings(Table):
    """Changes that must not change a tier's answers: how many `rows` are asked again (0: none), and the share of
    answers that each change may flip; see cascade.gate."""

    rows: NonNegativeInt = 40
    order: Share = 0.3
    paraphrase: Share = 0.3
    negation: Share = 0.5
    injection: Share = 0.2

    @property
    def limits(self) -> dict[Kind, float]:
        """The limits by check, as cascade.gate takes them."""
        return {kind: getattr(self, kind) for kind in get_args(Kind)}


class CascadeSettings(Table):
    """A small model first, a strong one behind it. At most the share `alpha` of the served answers may differ from the
    teacher's, and the certificate may be wrong with chance `delta`. Every tier is asked about `sample` documents; the
    policy expires after so many `days`. See cascade.halves for the rest."""

    tiers: list[TierSettings] = Field(default_factory=list)
    alpha: Chance = 0.05
    delta: Chance = 0.1
    tolerance: NonNegativeInt = 0
    learning: Chance = 0.5
    least_saved: Share = 0.01
    fusion: bool = True
    sample: PositiveInt = 500
    seed: NonNegativeInt = 0
    days: PositiveInt = 90
    gate: GateSettings = GateSettings()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [tier.name for tier in self.tiers]
        if len(set(names)) < len(names):
            raise ValueError("two tiers have the same name")
        return self
