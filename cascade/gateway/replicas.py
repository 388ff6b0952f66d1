"""One tier served by several upstreams: the less busy of two answers, and another one where it fails."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import replace

from cascade.gateway.breaker import Breaker, BreakerEngine, BreakerSettings, BreakerState
from cascade.gateway.replica import ELSEWHERE, Replica, ReplicaHealth, Spread, better, current_spread
from curator.engines.base import Engine, EngineIdentity, Preview, close_all
from curator.engines.deadline import time_left
from curator.engines.exchanges import purpose
from curator.engines.pieces import streamed
from curator.engines.retry import again, counted
from curator.engines.tries import failed_try, note
from curator.engines.wrapper import Request, Result
from curator.errors import CircuitOpenError, ConfigError, EngineError
from curator.types import Capability, Completion, DecideRequest, Decisions, Delta, GenerateRequest, Usage

log = logging.getLogger(__name__)

OnState = Callable[[str, BreakerState], None]
"""Told a replica's name and the new state of its breaker."""


class Replicas:
    """The engines in `replicas` (name -> engine) as one: they serve the same model, and either may answer.

    Of two drawn at random the one is asked that promises the earlier answer ("power of two choices", Mitzenmacher
    2001). Replicas whose breaker is open are left out, as are those that asked for a pause, as long as there are
    others; one whose breaker wants a probe is taken first. After a failure that another replica may not share, a
    second one is asked, if the request has time. `identity` is what policies and caches know the tier by: by default
    the first replica's.

    Raises: ConfigError where there is none, or they are not of one model.
    """

    def __init__(
        self,
        replicas: Mapping[str, Engine],
        *,
        identity: EngineIdentity | None = None,
        settings: BreakerSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        coin: random.Random | None = None,
        on_state: OnState | None = None,
    ) -> None:
        _check(replicas)
        self.identity = identity or next(iter(replicas.values())).identity
        self._coin = coin or random.Random()
        self._clock = clock
        self._replicas = [
            Replica(name, BreakerEngine(engine, _breaker(name, settings, clock, on_state), clock), clock)
            for name, engine in replicas.items()
        ]
        # Asked for with every request, and it goes through all wrappers: an engine's do not change.
        self._capabilities = frozenset.intersection(*(engine.capabilities for engine in replicas.values()))

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What all replicas can do."""
        return self._capabilities

    @property
    def concurrency(self) -> int:
        """Of all replicas together."""
        return sum(replica.engine.concurrency for replica in self._replicas)

    @property
    def health(self) -> tuple[ReplicaHealth, ...]:
        """What is known of each replica."""
        return tuple(replica.health() for replica in self._replicas)

    @property
    def ready(self) -> bool:
        """Whether a call would be sent to some replica now."""
        return any(replica.admits for replica in self._replicas)

    def decide(self, request: DecideRequest) -> Coroutine[object, None, Decisions]:
        """One replica's answer.

        Raises: CircuitOpenError where none may be asked; else what the last one that was asked raised.
        """
        return self._ask(lambda engine: engine.decide, request)

    def generate(self, request: GenerateRequest) -> Coroutine[object, None, Completion]:
        """The same for a prompt."""
        return self._ask(lambda engine: engine.generate, request)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """One replica's pieces. Another one is asked only as long as there are none. Raises: as `decide`."""
        spread, began, begun = current_spread(), self._clock(), False
        first = self._pick(spread)
        try:
            async with aclosing(_pieces(first, request)) as pieces:
                async for piece in pieces:
                    begun = True
                    yield piece
            return
        except ELSEWHERE as error:
            if begun:
                raise
            second = self._second(spread, error)
            note(failed_try(first.name, error, self._clock() - began))
        async with aclosing(again(_pieces(second, request))) as pieces:
            async for piece in pieces:
                yield counted(piece, 1)

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """What the first replica would be sent."""
        return await self._replicas[0].engine.preview(request)

    async def aclose(self) -> None:
        """Close every replica, also where closing one fails; the first failure is raised."""
        await close_all(replica.engine for replica in self._replicas)

    async def _ask(
        self, method: Callable[[Engine], Callable[[Request], Awaitable[Result]]], request: Request
    ) -> Result:
        spread, began = current_spread(), self._clock()
        first = self._pick(spread)
        try:
            return await _call(first, method(first.engine), request)
        except ELSEWHERE as error:
            second = self._second(spread, error)
            note(failed_try(first.name, error, self._clock() - began))
        with purpose("retry"):
            result = await _call(second, method(second.engine), request)
        return replace(result, usage=result.usage + Usage(calls=1))

    def _second(self, spread: Spread, error: EngineError) -> Replica:
        """Another replica. Raises: `error` where there is none, or no time."""
        if time_left() <= 0:
            raise error
        try:
            return self._pick(spread)
        except CircuitOpenError:
            raise error from None

    def _pick(self, spread: Spread) -> Replica:
        """A replica that is not in `spread`, and is entered there. Raises: CircuitOpenError where there is none."""
        able = [replica for replica in self._replicas if replica.admits and replica.name not in spread.tried]
        if not able:
            wait = min(replica.engine.breaker.wait for replica in self._replicas)
            raise CircuitOpenError(
                f"no replica of {self.identity} may be asked now", retry_after=max(1.0, wait), hint="ask again later"
            )
        chosen = self._best(able, first=not spread.tried)
        spread.tried.add(chosen.name)
        spread.at.append(chosen.name)
        return chosen

    def _best(self, able: list[Replica], first: bool) -> Replica:
        if len(able) == 1:
            return able[0]
        trusted = [replica for replica in able if replica.engine.breaker.closed]
        if first and len(trusted) < len(able):
            # A probe is made as soon as it is due, by a request that still has another replica to go to.
            return next(replica for replica in able if not replica.engine.breaker.closed)
        trusted = trusted or able
        rested = [replica for replica in trusted if not replica.rest]
        if not rested:
            return min(trusted, key=lambda replica: replica.rest)
        return better(*self._coin.sample(rested, 2)) if len(rested) > 1 else rested[0]


def _check(replicas: Mapping[str, Engine]) -> None:
    if not replicas:
        raise ConfigError("a tier needs at least one replica")
    models = {name: _model(engine.identity) for name, engine in replicas.items()}
    # A server does not say which revision it serves: then its word for the name must do.
    revisions = {engine.identity.revision for engine in replicas.values()} - {""}
    if len(set(models.values())) > 1 or len(revisions) > 1:
        said = ", ".join(f"{name} serves {models[name]}{_at(engine.identity)}" for name, engine in replicas.items())
        raise ConfigError(f"replicas must serve one model: {said}", hint="make a tier of its own for another model")


def _model(identity: EngineIdentity) -> str:
    return identity.model + (f"+{identity.adapter}" if identity.adapter else "")


def _at(identity: EngineIdentity) -> str:
    return f"@{identity.revision}" if identity.revision else ""


def _breaker(
    name: str, settings: BreakerSettings | None, clock: Callable[[], float], on_state: OnState | None
) -> Breaker:
    def tell(state: BreakerState) -> None:
        level = logging.WARNING if state is BreakerState.OPEN else logging.INFO
        log.log(level, "the circuit of replica %s is %s", name, state)
        if on_state is not None:
            on_state(name, state)

    return Breaker(settings, clock=clock, on_change=tell)


async def _call(replica: Replica, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
    """One call of a replica, counted."""
    began, failure = replica.began(), None
    try:
        return await call(request)
    except BaseException as error:
        failure = error
        raise
    finally:
        replica.ended(began, failure)


async def _pieces(replica: Replica, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
    """The same for a stream: in flight until it ends or is closed."""
    began, failure = replica.began(), None
    try:
        async with aclosing(streamed(replica.engine, request)) as pieces:
            async for piece in pieces:
                yield piece
    except BaseException as error:
        failure = error
        raise
    finally:
        replica.ended(began, failure)
