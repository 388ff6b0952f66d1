"""The life of policies in a running server: read, replaced, tried, followed, and tightened.

A file that changes is read again. It takes over only if it is whole (checksum, signature, not expired), made for these
tiers, and certifies something; else the old one goes on, and that is said. Another policy is tried in three stages
(`cascade.gateway.rollout`): it is judged beside the one that serves, then serves a share, then everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cascade.artifact import load
from cascade.gateway.background import Background
from cascade.gateway.certificates import certified, certifies
from cascade.gateway.live_file import LiveFile, Stamp, read_states, stamp, write_states
from cascade.gateway.rehearsal import Rehearsal
from cascade.gateway.rollout import Rollout, falls_in, read_rollout
from cascade.gateway.settings import ServeSettings
from cascade.live import LiveSettings
from cascade.live_state import LiveState
from cascade.observer import Due, Observer
from cascade.policy import Policy
from cascade.routed import Answer, Routed
from cascade.router import Cascade
from cascade.traffic import Request
from cascade.traffic_writer import TrafficWriter
from curator.errors import GoldlessError
from curator.types import DecideRequest, Decision

log = logging.getLogger(__name__)

MOST_STATES: Final = 256
"""Live states that are kept, those of policies that no longer serve included."""

Keep = Callable[[Sequence[Policy]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy that is tried."""

    rollout: Rollout
    observer: Observer
    rehearsal: Rehearsal


class PolicyLife:
    """`make` makes a cascade of a policy, with the tiers that this server has; `keep` closes those that none of the
    policies given to it has. Call from one event loop.

    Raises: ConfigError for the settings' policy, as `cascade.artifact.load` and `make`; a candidate that cannot be used
    is only said.
    """

    def __init__(
        self,
        settings: ServeSettings,
        make: Callable[[Policy], Cascade],
        writer: TrafficWriter | None = None,
        *,
        keep: Keep | None = None,
    ) -> None:
        self.settings = settings
        self.candidate: Candidate | None = None
        self.problems: dict[str, str] = {}
        """File -> why what it says is not in use."""
        self.audits = Background(settings.live.waiting)
        self.rehearsals = Background(settings.live.waiting)
        self._make = make
        self._keep = keep
        self.writer = writer
        self._file = LiveFile(settings.live.state) if settings.live.share else None
        states = () if self._file is None else read_states(self._file.path)
        self._states = {(state.question, state.certificate): state for state in states}
        self._saved = tuple(states)
        self._others: dict[Path, tuple[LiveState, ...]] = {}
        """What other processes know of their live risk, by file."""
        self._retired: list[Observer] = []
        """Those whose policy serves no more, while something of theirs is under way."""
        self._tried: Path | None = None
        """The file of the policy that is, or should be, tried."""
        self._stamps: dict[Path, Stamp] = {settings.policy: stamp(settings.policy)}
        self._look_at_others()
        self.main = self._open(settings.policy)
        self._look_at_rollout()

    def choose(self, request_id: str) -> Observer:
        """Who answers this request."""
        tried = self.candidate
        if tried is None or tried.rollout.stage == "shadow":
            return self.main
        whole = tried.rollout.stage == "serve"
        return tried.observer if whole or falls_in(request_id, tried.rollout.share) else self.main

    def follow(
        self, observer: Observer, query_id: str, request: Request, routed: Routed[Answer], *, overridden: bool = False
    ) -> None:
        """After an answer: count it, audit it and rehearse the candidate in the background, as far as there is room.
        What the caller has overridden is not rehearsed."""
        due = observer.note(query_id, request, routed, datetime.now(UTC))
        if due is not None and not self._start(self.audits, observer, lambda: self._audit(observer, due)):
            observer.lose(due)
        tried = self.candidate
        if (
            not overridden
            and tried is not None
            and tried.rollout.stage == "shadow"
            and isinstance(request, DecideRequest)
        ):
            decided: Routed[Decision] = routed  # type: ignore[assignment]
            self._start(self.rehearsals, tried.observer, lambda: tried.rehearsal.judge(request, decided))

    async def watch(self) -> None:
        """Look at the files every `watch_seconds`, keep the live risk, and close what nobody uses any more; for as
        long as the server runs."""
        while True:
            await asyncio.sleep(self.settings.watch_seconds)
            self.refresh()
            self.save()
            await self.sweep()

    async def sweep(self) -> None:
        """Close the tiers that only policies have had that serve no more, once nothing of theirs is under way."""
        if self._keep is not None:
            self._retired = [one for one in self._retired if one.users]
            tried = [] if self.candidate is None else [self.candidate.observer]
            await self._keep([one.policy for one in (self.main, *tried, *self._retired)])

    def refresh(self, *, again: bool = False) -> None:
        """Take over what has changed and holds, and the alarms of other processes. With `again`, the policies' files
        are read whether they changed or not."""
        if self._look_at_others():
            self._adopt([self.main, *([self.candidate.observer] if self.candidate else [])])
        path = self.settings.policy
        if self._changed(path) or again:
            self._attempt(path, self._replace_main)
        self._look_at_rollout(again=again)

    def save(self) -> None:
        """Write the live risk where it has changed. A disk that is full is said; serving goes on."""
        if self._file is None:
            return
        self._remember([self.main, *([self.candidate.observer] if self.candidate else [])])
        states = tuple(self._states.values())
        if states == self._saved:
            return
        try:
            write_states(self._file.path, states)
            self._saved = states
            self.problems.pop(str(self._file.path), None)
        except OSError as error:
            self._say(self._file.path, f"the live risk cannot be kept: {error.strerror}")

    async def finish(self, seconds: float) -> None:
        """Finish what is in the background within `seconds`, and keep the live risk."""
        await asyncio.gather(self.audits.finish(seconds), self.rehearsals.finish(seconds))
        self.save()
        if self._file is not None:
            self._file.close()

    def _start(
        self, background: Background, observer: Observer, work: Callable[[], Coroutine[object, object, None]]
    ) -> bool:
        """Begin work with the tiers of `observer`, which stay open for it."""

        async def using() -> None:
            try:
                await work()
            finally:
                observer.users -= 1

        observer.users += 1
        if background.start(using):
            return True
        observer.users -= 1
        return False

    async def _audit(self, observer: Observer, due: Due[Answer]) -> None:
        before = observer.cascade
        try:
            await observer.audit(due)
        except asyncio.CancelledError:
            observer.lose(due)
            raise
        if observer.cascade is not before:
            self.save()

    def _remember(self, observers: Iterable[Observer]) -> None:
        for observer in observers:
            for state in observer.live_states:
                key = (state.question, state.certificate)
                self._states.pop(key, None)
                self._states[key] = state
        for key in list(self._states)[:-MOST_STATES]:
            del self._states[key]

    def _open(self, path: Path) -> Observer:
        """Raises: as `load`, `make` and `Observer`."""
        policy = load(path, key=self.settings.signed_by)
        given = self.settings.live
        live = LiveSettings(share=given.share, delta=given.delta, alpha=given.alpha) if given.share else None
        states: Iterable[LiveState] = self._states.values()
        found = Observer(self._make, policy, live, writer=self.writer, states=states)
        self._adopt([found])
        return found

    def _look_at_others(self) -> bool:
        """Read what other processes have written since; whether there was anything."""
        changed = [] if self._file is None else self._file.others()
        for path in changed:
            try:
                self._others[path] = read_states(path)
                self.problems.pop(str(path), None)
            except GoldlessError as error:
                self._say(path, f"what another process knows is not in use: {error}")
        return bool(changed)

    def _adopt(self, observers: Iterable[Observer]) -> None:
        """Be as careful as the most careful of the processes."""
        for observer in observers:
            for states in self._others.values():
                observer.adopt(states)

    def _replace_main(self, path: Path) -> None:
        self._remember([self.main])
        found = self._open(path)
        if found.policy.checksum == self.main.policy.checksum:
            return
        certifies(found.policy, path)
        self._retired.append(self.main)
        self.main = found
        log.warning("the policy %s is in use now: %s", path, certified(found.policy))

    def _look_at_rollout(self, *, again: bool = False) -> None:
        path = self.settings.rollout
        if path is None:
            return
        # Both are looked at, so that both are known from now on.
        changed = [self._changed(one) for one in (path, self._tried) if one is not None]
        if any(changed) or again:
            self._attempt(path, self._replace_candidate)

    def _replace_candidate(self, path: Path) -> None:
        """Stages of the same policy follow one another without forgetting what was counted."""
        told, now = read_rollout(path), self.candidate
        self._tried = None if told is None else told.policy
        if told is None:
            if now is not None:
                log.warning("the policy %s is no longer tried", now.rollout.policy)
                self._retired.append(now.observer)
            self.candidate = None
            return
        self._changed(told.policy)
        if now is not None:
            self._remember([now.observer])
        found = self._open(told.policy)
        certifies(found.policy, told.policy)
        if now is not None and found.policy.checksum == now.observer.policy.checksum:
            self.candidate = Candidate(told, now.observer, now.rehearsal)
        else:
            if now is not None:
                self._retired.append(now.observer)
            self.candidate = Candidate(told, found, Rehearsal(found.cascade))
        log.warning("the policy %s: stage %s, %s", told.policy, told.stage, certified(found.policy))

    def _attempt(self, path: Path, change: Callable[[Path], None]) -> None:
        try:
            change(path)
            self.problems.pop(str(path), None)
        except GoldlessError as error:
            self._say(path, f"not in use, what served before goes on: {error}")

    def _say(self, path: Path, problem: str) -> None:
        if self.problems.get(str(path)) != problem:
            log.warning("%s: %s", path, problem)
        self.problems[str(path)] = problem

    def _changed(self, path: Path) -> bool:
        """Whether the file is another one than when this was asked last."""
        before, now = self._stamps.get(path), stamp(path)
        self._stamps[path] = now
        return before != now
