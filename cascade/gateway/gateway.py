"""What the handlers work with: the policies, who may ask, what it costs; and the way of one request through them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cascade.gateway.control import PLAIN, Control
from cascade.gateway.policy_life import PolicyLife
from cascade.gateway.settings import ServeSettings
from cascade.gateway.tiers import usable
from cascade.observer import Observer
from cascade.routed import Answer, Routed
from cascade.traffic import Request
from curator.engines.deadline import deadline
from curator.types import Completion, DecideRequest, Decision, GenerateRequest, JsonObject, Template


@dataclass(slots=True)
class Call:
    """One HTTP request on its way: when it began, and how many seconds of it the tiers took."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    began: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
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
        *,
        template: Template,
        scrape: Callable[[], bytes] | None = None,
    ) -> None:
        self.settings = settings
        self.life = life
        self.template = template
        self.scrape = scrape
        self.draining = False
        self.in_flight = 0

    @property
    def tiers(self) -> Sequence[str]:
        """The tiers of the policy that serves, the cheapest first."""
        return [tier.name for tier in self.life.main.policy.tiers]

    @property
    def currency(self) -> str:
        """What costs are in."""
        return self.life.main.policy.currency

    async def decide(self, call: Call, request: DecideRequest) -> Routed[Decision]:
        """Answer, and see to what follows an answer. Raises: as `Cascade.route`."""
        call.observer = observer = self.life.choose(call.id)
        with deadline(self.settings.limits.seconds):
            routed = await observer.cascade.route(request, call.control.wish)
        self._followed(call, observer, request, routed)
        return routed

    async def generate(self, call: Call, request: GenerateRequest) -> Routed[Completion]:
        """The same for a prompt."""
        call.observer = observer = self.life.choose(call.id)
        with deadline(self.settings.limits.seconds):
            routed = await observer.cascade.route_text(request, call.control.wish)
        self._followed(call, observer, request, routed)
        return routed

    def ready(self) -> tuple[bool, JsonObject]:
        """Whether requests should be sent here, and what is known about it."""
        cascade = self.life.main.cascade
        tiers = {tier.name: usable(tier.engine) for tier in cascade.tiers}
        able = not self.draining and tiers[cascade.tiers[-1].name]
        state = "draining" if self.draining else "ready" if able else "no upstream"
        return able, {"status": state, "tiers": dict(tiers)}

    def _followed(self, call: Call, observer: Observer, request: Request, routed: Routed[Answer]) -> None:
        call.waited += sum(attempt.latency for attempt in routed.attempts)
        self.life.follow(observer, call.id, request, routed, overridden=call.control.overrides)
