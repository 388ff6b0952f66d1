"""Errors as HTTP answers, in the shape of the endpoint's dialect.

What the client did wrong is told in full. What went wrong behind the gateway is told by its kind only: messages of
engines hold addresses and other people's text, and belong into the log.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

from cascade.wire.models import UnknownModelError
from cascade.wire.reading import BODY, FieldError
from curator.errors import (
    BudgetExceededError,
    ContextLengthError,
    EngineError,
    EngineTimeoutError,
    GoldlessError,
    InputError,
    KeyRejectedError,
    MissingExtraError,
    NotAllowedError,
    RateLimitError,
    RefusalError,
    RequestRejectedError,
)
from curator.types import Json, JsonObject

Dialect = Literal["openai", "systemone"]
"""Whose shape an error has. `openai` is that of all endpoints but `/v1/systemone`."""

_ADDRESS: Final = re.compile(r"\bhttps?://\S+")
_PARTS: Final = re.compile(r"[^.\[\]]+")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, before it has a shape. `param` is the path of the field, `code` machine-readable; `after` is
    how many seconds to wait before trying again."""

    status: int
    message: str
    type: str
    code: str | None = None
    param: str | None = None
    after: float | None = None

    def body(self, dialect: Dialect = "openai") -> JsonObject:
        """The JSON body."""
        if dialect == "openai":
            return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}
        if self.param is None:
            return {"detail": self.message}
        parts = [] if self.param == BODY else _PARTS.findall(self.param)
        place: list[Json] = [BODY, *(int(part) if part.isdecimal() else part for part in parts)]
        return {"detail": [{"loc": place, "msg": self.message, "type": self.code or self.type}]}

    def status_in(self, dialect: Dialect = "openai") -> int:
        """The HTTP status: System One's servers call a body that cannot be read 422."""
        return 422 if dialect == "systemone" and self.status == 400 else self.status

    @property
    def headers(self) -> dict[str, str]:
        """The response header that says when to come back, if that is worth it."""
        return {} if self.after is None else {"Retry-After": str(max(1, math.ceil(self.after)))}


def fault(error: BaseException) -> Fault:
    """What to tell the client of an error."""
    if isinstance(error, FieldError):
        return Fault(400, str(error), "invalid_request_error", "invalid_value", error.path)
    if isinstance(error, UnknownModelError):
        return Fault(404, str(error), "invalid_request_error", "model_not_found", "model")
    if isinstance(error, KeyRejectedError):
        return Fault(401, str(error), "invalid_request_error", "invalid_api_key")
    if isinstance(error, NotAllowedError):
        return Fault(403, str(error), "invalid_request_error", "not_allowed")
    if isinstance(error, InputError):
        return Fault(400, str(error), "invalid_request_error")
    if isinstance(error, BudgetExceededError):
        return _over_budget(error)
    if isinstance(error, EngineError):
        return _engine_fault(error)
    if isinstance(error, MissingExtraError):
        return Fault(501, "this server was installed without what the request needs", "server_error", "not_available")
    if isinstance(error, GoldlessError) and error.retryable:
        return Fault(503, error.message, "server_error", "overloaded", after=_wait(error) or 1.0)
    return Fault(500, "the server failed; its log says why", "server_error", "internal_error")


def _engine_fault(error: EngineError) -> Fault:
    if isinstance(error, RateLimitError):
        return Fault(429, _public(error), "rate_limit_error", "rate_limit_exceeded", after=_wait(error) or 1.0)
    if isinstance(error, ContextLengthError):
        # Without a field: what holds the text is called otherwise in every dialect.
        return Fault(400, _public(error), "invalid_request_error", "context_length_exceeded")
    if isinstance(error, RequestRejectedError):
        return Fault(400, _public(error), "invalid_request_error", "rejected_by_model")
    if isinstance(error, RefusalError):
        return Fault(422, "the model declined to answer", "invalid_request_error", "refusal")
    if isinstance(error, EngineTimeoutError):
        return Fault(504, "no model answered in time", "server_error", "timeout", after=_wait(error))
    if error.retryable:
        text = "the model's server failed; the log and /status of this one say which"
        return Fault(503, text, "server_error", "upstream_failed", after=_wait(error) or 1.0)
    return Fault(502, "the model's server could not answer", "server_error", "upstream_failed")


def _over_budget(error: BudgetExceededError) -> Fault:
    """A budget that fills again is worth waiting for; one that does not is not (clients retry a 429 by themselves)."""
    after = _wait(error)
    status = 402 if after is None else 429
    return Fault(status, error.message, "insufficient_quota", "insufficient_quota", after=after)


def _wait(error: GoldlessError) -> float | None:
    found: object = getattr(error, "retry_after", None)
    return float(found) if isinstance(found, int | float) else None


def _public(error: GoldlessError) -> str:
    """The message without the addresses in it."""
    return _ADDRESS.sub("the model's server", error.message)
