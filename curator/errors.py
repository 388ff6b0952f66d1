"""Every error that goldless raises on purpose.

    GoldlessError
    ├── InputError                 the user's data or settings; never retried
    │   ├── ConfigError            a setting: unknown key, wrong type, missing value
    │   ├── TaskError              a task that cannot be asked (labels, template, schema)
    │   └── SourceError            a file or row that cannot be read
    ├── EngineError                a model or the server in front of it
    │   ├── ContextLengthError     the prompt is longer than the model's context
    │   ├── RefusalError           the model declined to answer
    │   ├── InvalidOutputError     an answer that cannot be read (garbage, half JSON)
    │   ├── AuthenticationError    401 and 403
    │   ├── ModelNotFoundError     404, or no such model on this server
    │   ├── RequestRejectedError   other 4xx: the server says that the request is wrong
    │   ├── RateLimitError         429                                     (retryable)
    │   ├── ServerError            5xx, dropped or half-sent responses     (retryable)
    │   ├── EngineTimeoutError     no answer in time                       (retryable)
    │   │   └── DeadlineError      the request's own time is over
    │   └── CircuitOpenError       not asked: it failed too often of late  (retryable)
    ├── OverloadedError            no room for the request now             (retryable)
    ├── AccessError                who asks may not
    │   ├── KeyRejectedError       no API key, or none that is good
    │   └── NotAllowedError        a good key that may not do this
    ├── BudgetExceededError        a cap on calls, tokens or money was reached
    ├── TrainingError              a training that cannot go on (the loss is no number, out of memory)
    ├── WeightsError               weights that cannot be found, or whose sha256 is wrong
    ├── StoreError                 the database
    │   ├── StoreLockedError       another process has it                  (retryable)
    │   ├── StoreVersionError      written by a newer goldless
    │   ├── StoreCorruptError      the file is damaged
    │   └── StoreFullError         no space left on the device
    └── MissingExtraError          an optional dependency that is not installed

`retryable` says whether the same call may succeed later; `hint` says how to mend it.
"""

from __future__ import annotations


class GoldlessError(Exception):
    """Base of all errors raised on purpose. Printed without a traceback by the CLI.

    `gist` says what happened without a word that a user or a model wrote, where `message` may quote them; a server's
    log has it in place of the message (`cascade.gateway.redaction`)."""

    retryable: bool = False
    gist: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(GoldlessError):
    """The user's data or settings are wrong."""


class ConfigError(InputError):
    """A setting is unknown, missing or of the wrong type."""


class TaskError(InputError):
    """A task that no model can be asked."""


class SourceError(InputError):
    """A file or a row that cannot be read."""


class EngineError(GoldlessError):
    """A model, or the server in front of it, failed."""


class ContextLengthError(EngineError):
    """The prompt does not fit: `needed` tokens where `limit` is the most.

    Either figure is 0 where the server does not tell.
    """

    def __init__(self, message: str, *, limit: int = 0, needed: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.limit = limit
        self.needed = needed


class RefusalError(EngineError):
    """The model declined to answer."""


class InvalidOutputError(EngineError):
    """The model's answer cannot be read."""


class AuthenticationError(EngineError):
    """The server refused the credentials (401, 403)."""


class ModelNotFoundError(EngineError):
    """The server does not know the model or the path (404)."""


class RequestRejectedError(EngineError):
    """The server says that the request is wrong (other 4xx)."""


class RetryableEngineError(EngineError):
    """A failure that may pass. `retry_after` is the server's wish in seconds, if it gave one."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class RateLimitError(RetryableEngineError):
    """The server asks for fewer requests (429)."""


class ServerError(RetryableEngineError):
    """The server failed (5xx), dropped the connection or sent half a response."""


class EngineTimeoutError(RetryableEngineError):
    """No answer in time."""


class DeadlineError(EngineTimeoutError):
    """The request's own time is over. `sent` says whether the model had been asked by then.

    It says little about the model: a caller may have set a time that nobody could keep.
    """

    retryable = False

    def __init__(self, message: str, *, sent: bool, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.sent = sent


class CircuitOpenError(EngineError):
    """The model was not asked, as it failed too often of late. It is tried again in `retry_after` seconds.

    No `RetryableEngineError`: who waits for it holds up a request that another tier could answer.
    """

    retryable = True

    def __init__(self, message: str, *, retry_after: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class OverloadedError(GoldlessError):
    """There is no room for the request now. Ask again in `retry_after` seconds."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class AccessError(GoldlessError):
    """Who asks this server may not."""


class KeyRejectedError(AccessError):
    """No API key was sent, or one that is unknown, disabled or expired."""


class NotAllowedError(AccessError):
    """The API key is good, but may not do this."""


class BudgetExceededError(GoldlessError):
    """A cap on calls, tokens or money was reached before the request was sent."""


class TrainingError(GoldlessError):
    """A training cannot go on."""


class WeightsError(GoldlessError):
    """Weights cannot be found, are incomplete, or have the wrong sha256."""


class StoreError(GoldlessError):
    """The database failed."""


class StoreLockedError(StoreError):
    """Another process has the store."""

    retryable = True


class StoreVersionError(StoreError):
    """The store was written by a newer version of goldless."""


class StoreCorruptError(StoreError):
    """The store's file is damaged."""


class StoreFullError(StoreError):
    """The device that holds the store is full."""


class MissingExtraError(GoldlessError):
    """An optional dependency is not installed."""
