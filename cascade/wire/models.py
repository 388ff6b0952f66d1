"""`GET /v1/models`: the cascade, which chooses the tier by its policy, and `<cascade>:<tier>`, which asks one tier."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from curator.errors import ModelNotFoundError
from curator.types import Json, JsonObject

CASCADE: Final = "cascade"
"""What the cascade is called where nothing else is said."""

OWNER: Final = "goldless"


class UnknownModelError(ModelNotFoundError):
    """The client names a model that is not served here (a 404; a model that a server *behind* us does not know is a
    502, since the client cannot mend it)."""


def names(tiers: Sequence[str], cascade: str = CASCADE) -> tuple[str, ...]:
    """The models that are served, the cascade first."""
    return (cascade, *(f"{cascade}:{tier}" for tier in tiers))


def listing(tiers: Sequence[str], created: int, cascade: str = CASCADE) -> JsonObject:
    """All models. `data` is OpenAI's list, `models` System One's; `created` (Unix seconds) is when the policy was
    made."""
    day = datetime.fromtimestamp(created, UTC).date().isoformat()
    about = ["Answers with the first tier that the policy lets pass."]
    about += [f"The tier {tier!r} alone; its answers are not certified." for tier in tiers]
    known = names(tiers, cascade)
    told: list[Json] = [
        {"name": name, "description": text, "release_date": day} for name, text in zip(known, about, strict=True)
    ]
    return {"object": "list", "data": [one(name, created) for name in known], "models": told}


def one(name: str, created: int) -> JsonObject:
    """One model's entry in OpenAI's shape (`GET /v1/models/<name>`)."""
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}
