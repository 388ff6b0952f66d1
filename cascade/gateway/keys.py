"""Who may ask: the keys of a file, looked up by id. It is read again when it changes; one that cannot be read then
leaves the keys as they were, so that a slip of the pen locks nobody out and lets nobody in."""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cascade.gateway.key_file import read_keys
from cascade.gateway.key_records import KeyRecord, digest
from curator.errors import ConfigError, KeyRejectedError

logger = logging.getLogger(__name__)

LOOK: Final = 1.0
"""Seconds between two looks at the file."""

_KEY = re.compile(r"sk-gl-([0-9a-f]{12})-([0-9a-f]{64})", re.ASCII)


class Keyring:
    """The keys of the file at `path`.

    `check` is shown the records before they come into force, and raises what is wrong with them (a budget in money
    where a tier has no price). `clock` tells seconds, `now` the time of day; the file is looked at once in
    `LOOK` seconds.
    Raises: ConfigError if the file is missing, wrong, or writable by others.
    """

    def __init__(
        self,
        path: Path,
        *,
        check: Callable[[Sequence[KeyRecord]], None] = lambda records: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.path = path
        self._check = check
        self._clock = clock
        self._now = now
        self._mark = _mark(path)
        self._records = self._read()
        self._looked = clock()

    @property
    def records(self) -> Mapping[str, KeyRecord]:
        """The keys in force, by id."""
        self._look()
        return self._records

    def authenticate(self, presented: str | None) -> KeyRecord:
        """The record of a key, as it stands behind `Bearer` in a header.

        Raises: KeyRejectedError; for a key that never was and a wrong secret it says, and takes, the same.
        """
        self._look()
        if not presented:
            raise KeyRejectedError("no API key was sent", hint="send it as `Authorization: Bearer sk-gl-...`")
        found = _KEY.fullmatch(presented)
        key_id, secret = found.groups() if found else ("0" * 12, presented[:128].encode("ascii", "replace").decode())
        record = self._records.get(key_id) if found else None
        expected = record.digest if record else "0" * 64
        if not hmac.compare_digest(digest(key_id, secret), expected) or record is None:
            raise KeyRejectedError("the API key is not known", hint="ask whoever runs this server for one")
        if record.disabled:
            raise KeyRejectedError("the API key is disabled")
        if record.expires is not None and self._now() >= record.expires:
            raise KeyRejectedError(f"the API key expired on {record.expires:%Y-%m-%d}")
        return record

    def _look(self) -> None:
        if self._clock() - self._looked < LOOK:
            return
        self._looked = self._clock()
        mark = _mark(self.path)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._records = self._read()
            logger.info("%s has changed: %d key(s)", self.path, len(self._records))
        except ConfigError as error:
            logger.error("the keys stay as they were: %s", error)

    def _read(self) -> dict[str, KeyRecord]:
        records = read_keys(self.path)
        self._check(records)
        return {record.id: record for record in records}


def may_listen(host: str, keys: Keyring | None, *, anyone: bool = False) -> None:
    """Whether a server may listen at `host`: without keys only this machine may reach it, unless `anyone` shall.

    Raises: ConfigError
    """
    if keys is None and not anyone and not is_loopback(host):
        raise ConfigError(
            f"without API keys anyone who reaches {host or 'this machine'} could use the models",
            hint="make keys (`goldless keys add NAME`) and name their file, listen on 127.0.0.1, or say that the "
            "server is open",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _mark(path: Path) -> tuple[int, ...]:
    """What changes when the file does."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
