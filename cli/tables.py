"""What all tables of goldless.toml are, and the one that several others extend."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, SecretStr, model_validator

from curator.types import Json


class Table(BaseModel):
    """A table of the file. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineSettings(Table):
    """Who answers; `spec` may be `cascade:<policy>`, whose tiers are then connected as `[[cascade.tiers]]` says of
    their specs. Prices are money per million tokens; `settings` go to the engine as they are."""

    spec: str
    api_key: SecretStr | None = None
    price_input: NonNegativeFloat | None = None
    price_output: NonNegativeFloat | None = None
    currency: str = "USD"
    concurrency: PositiveInt | None = None
    long_text: Literal["keep_start", "keep_ends", "skip"] = "keep_start"
    settings: dict[str, Json] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _both_prices(self) -> Self:
        if (self.price_input is None) != (self.price_output is None):
            raise ValueError("give price_input and price_output, or neither")
        return self
