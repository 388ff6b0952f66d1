"""The settings of `goldless serve`: the table [serve] of goldless.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

MEGABYTE: Final = 1_000_000

Share = Annotated[float, Field(gt=0, le=1)]
Part = Annotated[float, Field(ge=0, le=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitSettings(_Table):
    """What one process takes on. Bodies of more than `body` bytes are refused, and those that are not all there after
    `body_seconds`; connections on which nobody asks anything are closed after `idle_seconds`. `in_flight` requests are
    answered at once, `queue` more wait for at most `queue_seconds`, the rest is told to come again. A request ends
    after `seconds`, whatever the tiers do, and at the end the server waits `drain_seconds` for those in flight. A chat
    or response that names no limit of its own may generate `max_tokens`: money is reserved for as many."""

    body: PositiveInt = 4 * MEGABYTE
    body_seconds: PositiveFloat = 20.0
    idle_seconds: PositiveFloat = 75.0
    in_flight: PositiveInt = 256
    queue: NonNegativeInt = 256
    queue_seconds: PositiveFloat = 5.0
    seconds: PositiveFloat = 120.0
    drain_seconds: NonNegativeFloat = 30.0
    max_tokens: PositiveInt = 1024


class ResilienceSettings(_Table):
    """A failed call is tried up to `attempts` times (below the last tier at most twice, as the next one answers sooner
    than a long wait ends), and each ends after `timeout` seconds. A second call on another
    replica is made for at most the share `hedge` of the requests (0: never). At most the share `escalation` of the
    requests (1: no cap), and at most `escalation_money` per minute, go to the last tier; beyond it the best lower
    answer is served, marked (`capped = "draft"`), or the request is refused (`"refuse"`)."""

    attempts: PositiveInt = 3
    timeout: PositiveFloat = 60.0
    hedge: Part = 0.0
    escalation: Share = 1.0
    escalation_money: Annotated[float, Field(gt=0)] | None = None
    capped: Literal["draft", "refuse"] = "draft"


class LiveTable(_Table):
    """Live risk: the `share` of accepted answers that the last tier answers too, off the request path (0: none);
    `delta` and `alpha` as in cascade.live. At most `waiting` audits are on their way, the rest is dropped, counted.
    What is known is kept in the file `state`."""

    share: Part = 0.05
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.05
    alpha: Share | None = None
    waiting: PositiveInt = 64
    state: Path = Path("live.json")


class TrafficTable(_Table):
    """Served queries as files in `folder`, for `goldless ingest --traffic`; see cascade.traffic_writer."""

    folder: Path
    content: bool = False
    rows: PositiveInt = 10_000
    seconds: NonNegativeFloat = 60.0


class ServeSettings(_Table):
    """The gateway. `policy` is what `goldless certify` wrote, signed by the owner of the public key `signed_by` where
    that is set; it is read again when it changes. `rollout` names a file that says which other policy is tried, and
    how far that is; see docs/gateway.md. `tiers` says where a tier is found where the policy does not, `replicas` lists
    more servers of the same model. `name` is what clients call the cascade as a model, `uncertified` says what happens
    to a question that no certificate covers. With `keys`, only who has one of its API keys is served; without, only a
    loopback address is listened on unless `open`. Every attempt is billed into the folder `ledger`. With `content`,
    spans hold texts."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    policy: Path = Path("policy.json")
    signed_by: Path | None = None
    rollout: Path | None = None
    tiers: dict[str, str] = Field(default_factory=dict)
    replicas: dict[str, list[str]] = Field(default_factory=dict)
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] = "cascade"
    uncertified: Literal["teacher", "rules", "refuse"] = "teacher"
    fallback: bool = True
    keys: Path | None = None
    open: bool = False
    ledger: Path | None = None
    content: bool = False
    watch_seconds: PositiveFloat = 2.0
    limits: LimitSettings = LimitSettings()
    resilience: ResilienceSettings = ResilienceSettings()
    live: LiveTable = LiveTable()
    traffic: TrafficTable | None = None

    @model_validator(mode="after")
    def _rollout_is_another(self) -> Self:
        if self.rollout is not None and self.rollout == self.policy:
            raise ValueError("rollout is a file about another policy, not the policy itself")
        return self
