from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.gateway.key_file import changing, read_keys
from cascade.gateway.key_records import KeyRecord, new_key
from cascade.gateway.keys import LOOK, Keyring, is_loopback, may_listen
from curator.errors import ConfigError, KeyRejectedError, NotAllowedError

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def add(path: Path, name: str = "ci", **given: object) -> str:
    key, record = new_key(name, NOW, **given)
    with changing(path) as records:
        records.append(record)
    return key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.jsonl"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def edited(path: Path, change: Callable[[list[KeyRecord]], None]) -> None:
    with changing(path) as records:
        change(records)


def test_a_key_opens_and_the_file_does_not_hold_it(path: Path) -> None:
    key = add(path, name="billing", models=("cascade",))
    assert Keyring(path).authenticate(key).name == "billing"
    assert key.startswith("sk-gl-")
    secret = key.rpartition("-")[2]
    assert secret.encode() not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("spoil", [lambda key: key[:-1] + "f" * (key[-1] != "f") + "0" * (key[-1] == "f")])
def test_a_wrong_secret_and_an_unknown_id_are_the_same(path: Path, spoil: Callable[[str], str]) -> None:
    key = add(path)
    ring = Keyring(path)
    said = set()
    for wrong in (spoil(key), "sk-gl-" + "0" * 12 + "-" + "0" * 64, "sk-gl-x", "sk-proj-1", "\ud800\n" * 99):
        with pytest.raises(KeyRejectedError) as caught:
            ring.authenticate(wrong)
        said.add(str(caught.value))
        assert wrong not in str(caught.value)
    assert len(said) == 1
    for none in (None, ""):
        with pytest.raises(KeyRejectedError, match="no API key was sent"):
            ring.authenticate(none)


@given(st.text())
def test_no_text_is_a_key(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "one-key.jsonl"
    if not path.exists():
        add(path)
    with pytest.raises(KeyRejectedError):
        Keyring(path).authenticate(text)


def test_disabled_and_expired_keys_say_so(path: Path) -> None:
    disabled, expired = add(path, disabled=True), add(path, expires=NOW - timedelta(days=1))
    good = add(path, expires=NOW + timedelta(seconds=1))
    ring = Keyring(path, now=lambda: NOW)
    with pytest.raises(KeyRejectedError, match="disabled"):
        ring.authenticate(disabled)
    with pytest.raises(KeyRejectedError, match="expired on 2026-11-25"):
        ring.authenticate(expired)
    assert ring.authenticate(good)


def test_a_key_may_be_held_to_models_and_tiers(path: Path) -> None:
    key = add(path, models=("cascade",), tiers=("small",))
    record = Keyring(path).authenticate(key)
    record.allow(model="cascade", tier="small")
    record.allow(model="cascade")
    with pytest.raises(NotAllowedError, match=r"model 'cascade:strong'.*may use: cascade"):
        record.allow(model="cascade:strong")
    with pytest.raises(NotAllowedError, match="tier 'strong'"):
        record.allow(tier="strong")
    key = add(path)
    Keyring(path).authenticate(key).allow(model="anything", tier="strong")


def test_the_file_is_read_again_when_it_changes(path: Path) -> None:
    clock = Clock()
    first = add(path)
    ring = Keyring(path, clock=clock)
    second = add(path)
    with pytest.raises(KeyRejectedError):
        ring.authenticate(second)
    clock.now += LOOK
    assert ring.authenticate(second)
    edited(path, lambda records: records.__setitem__(0, records[0].model_copy(update={"disabled": True})))
    clock.now += LOOK
    with pytest.raises(KeyRejectedError, match="disabled"):
        ring.authenticate(first)


@pytest.mark.parametrize("broken", [b"{", b'{"id": "x"}\n', b"\xff", None])
def test_a_file_that_breaks_changes_nothing(path: Path, broken: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    key = add(path)
    ring = Keyring(path, clock=clock)
    if broken is None:
        path.unlink()
    else:
        path.write_bytes(broken)
    clock.now += LOOK
    with caplog.at_level(logging.ERROR):
        assert ring.authenticate(key)
        assert ring.authenticate(key)
    assert len(caplog.records) == 1
    assert "the keys stay as they were" in caplog.text
    assert key.rpartition("-")[2] not in caplog.text


def test_keys_that_do_not_pass_the_check_stay_out(path: Path) -> None:
    def check(records: object) -> None:
        if len(list(records)) > 1:  # type: ignore[call-overload]
            raise ConfigError("too many")

    clock = Clock()
    key = add(path)
    ring = Keyring(path, check=check, clock=clock)
    other = add(path)
    clock.now += LOOK
    assert ring.authenticate(key)
    with pytest.raises(KeyRejectedError):
        ring.authenticate(other)
    with pytest.raises(ConfigError, match="too many"):
        Keyring(path, check=check)


def test_files_that_cannot_be_trusted_are_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keys\.jsonl cannot be read"):
        Keyring(path)
    key = add(path)
    path.chmod(0o620)
    with pytest.raises(ConfigError, match="others can write"):
        Keyring(path)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ConfigError, match="line 2: a second key with the id"):
        Keyring(path)
    path.write_bytes(b'{"id": "0123456789ab", "digest": "' + key.encode() + b'", "created": "2026-01-01T00:00:00Z"}')
    with pytest.raises(ConfigError, match="line 1: digest") as caught:
        Keyring(path)
    assert key not in str(caught.value)


def test_a_file_that_others_can_read_is_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = add(path)
    path.chmod(0o644)
    assert Keyring(path).authenticate(key)
    assert "others can read" in caplog.text


def test_an_update_that_fails_leaves_the_file(path: Path) -> None:
    add(path)
    before = path.read_bytes()

    def fail(records: list[KeyRecord]) -> None:
        records.clear()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        edited(path, fail)
    assert path.read_bytes() == before
    assert len(read_keys(path)) == 1


def test_two_processes_do_not_lose_each_others_keys(path: Path) -> None:
    children = []
    for _ in range(4):
        if not (child := os.fork()):
            for _ in range(5):
                add(path)
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    assert len(read_keys(path)) == 20


def test_a_key_that_cannot_be_is_said() -> None:
    with pytest.raises(ConfigError, match=r"limits\.requests_per_minute"):
        new_key("x", NOW, limits={"requests_per_minute": 0})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_without_keys_only_this_machine_may_be_served(host: str) -> None:
    assert is_loopback(host)
    may_listen(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.4", "example.org"])
def test_without_keys_no_other_address_is_listened_at(host: str, path: Path) -> None:
    with pytest.raises(ConfigError, match="without API keys"):
        may_listen(host, None)
    may_listen(host, None, anyone=True)
    add(path)
    may_listen(host, Keyring(path))
