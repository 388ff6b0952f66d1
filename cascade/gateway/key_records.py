"""One API key: `sk-gl-<id>-<secret>`, of which a hash is kept; who has it may ask for what, how much, how often."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, ValidationError

from curator.errors import ConfigError, NotAllowedError

PREFIX: Final = "sk-gl-"

Money = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Record):
    """Of one key; None is no limit."""

    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    in_flight: PositiveInt | None = None


class Caps(_Record):
    """Money that one key may spend: per day and month (UTC), and in all; None is no cap."""

    day: Money | None = None
    month: Money | None = None
    total: Money | None = None
    currency: str = "USD"

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return (self.day, self.month, self.total) != (None, None, None)


class KeyRecord(_Record):
    """One key as it is kept. `digest` is the hash of its secret; without `models` or `tiers` it may use all."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    name: str = ""
    created: AwareDatetime
    expires: AwareDatetime | None = None
    disabled: bool = False
    limits: Limits = Limits()
    caps: Caps = Caps()
    models: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()

    def allow(self, *, model: str = "", tier: str = "") -> None:
        """Raises: NotAllowedError where the key may not use them."""
        for what, name, allowed in (("model", model, self.models), ("tier", tier, self.tiers)):
            if name and allowed and name not in allowed:
                raise NotAllowedError(
                    f"this API key may not use the {what} {name!r}", hint=f"it may use: {', '.join(allowed)}"
                )


def new_key(name: str, now: datetime, **given: object) -> tuple[str, KeyRecord]:
    """A key, which is shown once, and what is kept of it. `given` are further fields of the record.

    Raises: ConfigError for values that a record cannot have.
    """
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    try:
        fields = {"id": key_id, "digest": digest(key_id, secret), "name": name, "created": now, **given}
        return f"{PREFIX}{key_id}-{secret}", KeyRecord.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(f"a key cannot have this: {first_fault(error)}") from None


def digest(key_id: str, secret: str) -> str:
    """What is kept of a secret (hex).

    A secret is 256 random bits, not a password: nobody can go through them, so a slow hash (scrypt, argon2) would
    protect nothing and cost every request its time. The id as salt lets equal secrets differ.
    """
    salted = hashlib.blake2b(secret.encode(), digest_size=32, salt=key_id.encode(), person=b"goldless-api-key")
    return salted.hexdigest()


def first_fault(error: ValidationError) -> str:
    """What is wrong with a record, without its values."""
    first = error.errors(include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
