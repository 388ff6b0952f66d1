"""The tables of goldless.toml that `goldless progressive` reads."""

from __future__ import annotations

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from cli.tables import EngineSettings, Table


class ProgressiveSettings(Table):
    """Progressive weak-to-strong learning: the `weak` model and the `strong` one (by default [engine]), each a table
    like [engine]. Stage I keeps what both answer the same, in `rounds`, with `examples` of at most `longest` characters
    in the strong model's prompt. Stage II takes `samples` of each question and makes at most `pairs` of one, where the
    vote has a share of `least`, against a weak answer of `overrule`. With `arithmetic` no rationale is trained on that
    calculates wrongly. See curator.methods.agreement and curator.methods.contrast."""

    weak: EngineSettings | None = None
    strong: EngineSettings | None = None
    rounds: PositiveInt = 2
    examples: PositiveInt = 4
    longest: PositiveInt = 1500
    arithmetic: bool = False
    samples: int = Field(10, ge=2)
    temperature: PositiveFloat = 1.0
    least: float = Field(0.6, gt=0, le=1)
    overrule: float = Field(0.8, gt=0, le=1)
    pairs: PositiveInt = 1
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.overrule:
            raise ValueError("overrule is at least least")
        return self
