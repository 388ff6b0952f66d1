"""The life of policies in a running server: read, replaced, tried, followed, and tightened.

A file that changes is read again. It takes over only if it is whole (checksum, signature, not expired), made for these
tiers, and certifies something; else the old one goes on, and that is said. Another policy is tried in three stages
(`cascade.gateway.rollout`): it is judged beside the one that serves, then serves a share, then everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cascade.artifact import load
from cascade.gateway.background import Background
from cascade.gateway.live_file import read_states, write_states
from cascade.gateway.rehearsal import Rehearsal
from cascade.gateway.rollout import Rollout, falls_in, read_rollout
from cascade.gateway.settings import ServeSettings
from cascade.live import LiveSettings
from cascade.live_state import LiveState
from cascade.observer import Due, Observer
from cascade.policy import Policy, Verdict
from cascade.routed import Answer, Routed
from cascade.router import Cascade
from cascade.traffic import Request
from cascade.traffic_writer import TrafficWriter
from curator.errors import ConfigError, GoldlessError
from curator.types import DecideRequest, Decision

log = logging.getLogger(__name__)

MOST_STATES: Final = 256
"""Live states that are kept, those of policies that no longer serve included."""

Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy that is tried."""

    rollout: Rollout
    observer: Observer
    rehearsal: Rehearsal


class PolicyLife:
    """`make` makes a cascade of a policy, with the tiers that this server has. Call from one event loop.

    Raises: ConfigError for the settings' policy, as `cascade.artifact.load` and `make`; a candidate that cannot be used
    is only said.
    """

    def __init__(
        self, settings: ServeSettings, make: Callable[[Policy], Cascade], writer: TrafficWriter | None = None
    ) -> None:
        self.settings = settings
        self.candidate: Candidate | None = None
        self.problems: dict[str, str] = {}
        """File -> why what it says is not in use."""
        self.audits = Background(settings.live.waiting)
        self.rehearsals = Background(settings.live.waiting)
        self._make = make
        self.writer = writer
        states = read_states(settings.live.state) if settings.live.share else ()
        self._states = {(state.question, state.certificate): state for state in states}
        self._saved = tuple(states)
        self._tried: Path | None = None
        """The file of the policy that is, or should be, tried."""
        self._stamps: dict[Path, Stamp] = {settings.policy: _stamp(settings.policy)}
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
        if due is not None and not self.audits.start(lambda: self._audit(observer, due)):
            observer.lose(due)
        tried = self.candidate
        if (
            not overridden
            and tried is not None
            and tried.rollout.stage == "shadow"
            and isinstance(request, DecideRequest)
        ):
            decided: Routed[Decision] = routed  # type: ignore[assignment]
            self.rehearsals.start(lambda: tried.rehearsal.judge(request, decided))

    async def watch(self) -> None:
        """Look at the files every `watch_seconds`, and keep the live risk; for as long as the server runs."""
        while True:
            await asyncio.sleep(self.settings.watch_seconds)
            self.refresh()
            self.save()

    def refresh(self, *, again: bool = False) -> None:
        """Take over what has changed and holds. With `again`, files are read whether they changed or not."""
        path = self.settings.policy
        if self._changed(path) or again:
            self._attempt(path, self._replace_main)
        self._look_at_rollout(again=again)

    def save(self) -> None:
        """Write the live risk where it has changed. A disk that is full is said; serving goes on."""
        if not self.settings.live.share:
            return
        self._remember([self.main, *([self.candidate.observer] if self.candidate else [])])
        states = tuple(self._states.values())
        if states == self._saved:
            return
        try:
            write_states(self.settings.live.state, states)
            self._saved = states
            self.problems.pop(str(self.settings.live.state), None)
        except OSError as error:
            self._say(self.settings.live.state, f"the live risk cannot be kept: {error.strerror}")

    async def finish(self, seconds: float) -> None:
        """Finish what is in the background within `seconds`, and keep the live risk."""
        await asyncio.gather(self.audits.finish(seconds), self.rehearsals.finish(seconds))
        self.save()

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
        return Observer(self._make, policy, live, writer=self.writer, states=states)

    def _replace_main(self, path: Path) -> None:
        self._remember([self.main])
        found = self._open(path)
        if found.policy.checksum == self.main.policy.checksum:
            return
        _certifies(found.policy, path)
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
            self.candidate = None
            return
        self._changed(told.policy)
        if now is not None:
            self._remember([now.observer])
        found = self._open(told.policy)
        _certifies(found.policy, told.policy)
        if now is not None and found.policy.checksum == now.observer.policy.checksum:
            self.candidate = Candidate(told, now.observer, now.rehearsal)
        else:
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
        before, now = self._stamps.get(path), _stamp(path)
        self._stamps[path] = now
        return before != now


def certified(policy: Policy) -> str:
    """What a policy certifies, in a line."""
    said = [
        f"{entry.name}: {_certificate(entry.certificate.verdict, entry.certificate.bound)}"
        for entry in policy.questions
    ]
    return "; ".join(said) or "it certifies nothing"


def _certificate(verdict: Verdict, bound: float | None) -> str:
    return f"{verdict}, risk at most {bound:.3g}" if verdict is Verdict.PASS and bound is not None else str(verdict)


def _certifies(policy: Policy, path: Path) -> None:
    if not any(entry.certificate.verdict is Verdict.PASS for entry in policy.questions):
        raise ConfigError(f"{path} certifies nothing: {certified(policy)}", hint="certify again: `goldless certify`")


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
