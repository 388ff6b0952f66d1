"""What the handlers work with: the policies, who may ask, what it costs; and the way of one request through them."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cascade.gateway.access import Access
from cascade.gateway.billing import Bill, tiers_of
from cascade.gateway.control import PLAIN, Control, control_of
from cascade.gateway.key_records import KeyRecord
from cascade.gateway.policy_life import PolicyLife
from cascade.gateway.settings import ServeSettings
from cascade.gateway.shedding import Admission, AdmissionSettings
from cascade.gateway.tiers import TierPool
from cascade.gateway.upstreams import Upstreams
from cascade.observer import Observer
from cascade.routed import Answer, Routed
from cascade.routed_stream import RoutedStream
from cascade.traffic import Request
from curator.engines.deadline import deadline
from curator.types import Completion, DecideRequest, Decision, GenerateRequest, JsonObject, Template


@dataclass(slots=True)
class Call:
    """One HTTP request on its way: when it began, and how many seconds of it the tiers took."""

    id: str = field(default_factory=lambda: f"{random.getrandbits(128):032x}")
    began: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    key: KeyRecord | None = None
    control: Control = PLAIN
    observer: Observer | None = None

    @property
    def overhead(self) -> float:
        """Seconds so far that were not the tiers'."""
        return max(time.perf_counter() - self.began - self.waited, 0.0)


class Gateway:
    """One server's state. `template` is how decisions are put to models; `scrape` renders the metrics, where there is
    an SDK that keeps them."""

    def __init__(
        self,
        settings: ServeSettings,
        life: PolicyLife,
        pool: TierPool,
        access: Access,
        *,
        template: Template,
        scrape: Callable[[], bytes] | None = None,
    ) -> None:
        self.settings = settings
        self.life = life
        self.pool = pool
        self.access = access
        limits = settings.limits
        self.admission = Admission(AdmissionSettings(limits.in_flight, limits.queue, limits.queue_seconds))
        self.template = template
        self.scrape = scrape
        self.draining = False

    @property
    def tiers(self) -> Sequence[str]:
        """The tiers of the policy that serves, the cheapest first."""
        return [tier.name for tier in self.life.main.policy.tiers]

    @property
    def currency(self) -> str:
        """What costs are in."""
        return self.life.main.policy.currency

    async def decide(self, call: Call, request: DecideRequest) -> Routed[Decision]:
        """Answer, and see to what follows an answer.

        Raises: as `Cascade.route`, `Access.admit` and `Admission`.
        """
        async with self._admitted(call, request) as (observer, bill):
            routed = await observer.cascade.route(request, call.control.wish)
            self._followed(call, request, routed, bill)
            return routed

    async def generate(self, call: Call, request: GenerateRequest, *, part: int = 0) -> Routed[Completion]:
        """The same for a prompt; `part` numbers those of one call."""
        async with self._admitted(call, request) as (observer, bill):
            routed = await observer.cascade.route_text(request, call.control.wish)
            self._followed(call, request, routed, bill, part)
            return routed

    @asynccontextmanager
    async def stream(self, call: Call, request: GenerateRequest) -> AsyncIterator[RoutedStream]:
        """The same with the answer in pieces; what follows an answer follows where it has come to its end."""
        async with self._admitted(call, request) as (observer, bill):
            found = observer.cascade.route_stream(request, call.control.wish)
            yield found
            if found.routed is not None:
                self._followed(call, request, found.routed, bill)

    @asynccontextmanager
    async def _admitted(self, call: Call, request: Request) -> AsyncIterator[tuple[Observer, Bill]]:
        """A place for the request, who answers it, and its bill. Waiting for a place is no overhead."""
        call.observer = observer = self.life.choose(call.id)
        observer.users += 1
        try:
            with deadline(self.settings.limits.seconds):
                began = time.perf_counter()
                async with self.admission:
                    call.waited += time.perf_counter() - began
                    with self.access.admit(call.id, call.key, request, cap=call.control.budget) as bill:
                        yield observer, bill
        finally:
            observer.users -= 1

    @property
    def stacks(self) -> dict[str, Upstreams]:
        """The tiers of the policy that serves."""
        return self.pool.stacks(self.life.main.policy)

    def control(self, call: Call, headers: Mapping[str, str], model: str) -> None:
        """Read what the request asks of the cascade. Raises: as `control_of`; NotAllowedError."""
        call.control = control_of(headers, model, self.settings.name, self.tiers)
        if call.key is not None:
            call.key.allow(model=model, tier=call.control.wish.tier)

    def ready(self) -> tuple[bool, JsonObject]:
        """Whether requests should be sent here, and what is known about it."""
        tiers = {name: stack.replicas.ready for name, stack in self.stacks.items()}
        able = not self.draining and tiers[self.tiers[-1]]
        state = "draining" if self.draining else "ready" if able else "no upstream"
        return able, {"status": state, "tiers": dict(tiers)}

    def _followed(self, call: Call, request: Request, routed: Routed[Answer], bill: Bill, part: int = 0) -> None:
        """Inside the bill, so that audits are on it too."""
        call.waited += sum(attempt.latency for attempt in routed.attempts)
        bill.served(tiers_of(routed))
        name = f"{call.id}-{part}" if part else call.id
        if call.observer is not None:
            self.life.follow(call.observer, name, request, routed, overridden=call.control.overrides)
