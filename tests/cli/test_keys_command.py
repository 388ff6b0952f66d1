"""`goldless keys`."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from cascade.gateway.keys import Keyring
from cli.main import app
from curator.errors import KeyRejectedError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def ok(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_key_is_printed_once_and_opens(here: Path) -> None:
    key = ok("add", "search").strip()
    record = Keyring(here / "keys.jsonl").authenticate(key)
    assert record.name == "search"
    listed = ok("list")
    assert record.id in listed
    assert key.rpartition("-")[2] not in listed + (here / "keys.jsonl").read_text()
    assert record.digest not in listed


def test_limits_and_budgets_are_kept(here: Path) -> None:
    limits = ("--requests", "60", "--tokens", "1000", "--in-flight", "4")
    money = ("--day", "5", "--month", "50", "--total", "99", "--currency", "EUR")
    said = orjson.loads(
        ok("add", "batch", *limits, *money, "--expires", "2030-01-31", "--model", "cascade", "--tier",
           "small", "--file", "other/keys.jsonl", "--json")
    )  # fmt: skip
    record = Keyring(here / "other" / "keys.jsonl").authenticate(said["key"])
    assert record.limits.model_dump() == {"requests_per_minute": 60, "tokens_per_minute": 1000, "in_flight": 4}
    assert record.caps.model_dump() == {"day": 5.0, "month": 50.0, "total": 99.0, "currency": "EUR"}
    (row,) = map(orjson.loads, ok("list", "-f", "other/keys.jsonl", "--json").splitlines())
    assert (row["state"], row["expires"], row["models"], row["tiers"]) == ("good", "2030-01-31", ["cascade"], ["small"])
    assert row["budgets"] == {"day": 5.0, "month": 50.0, "total": 99.0, "currency": "EUR"}


def test_a_disabled_key_opens_no_more(here: Path) -> None:
    key = ok("add", "a").strip()
    other = ok("add", "b", "--expires", "2020-01-01").strip()
    ok("disable", key)
    with pytest.raises(KeyRejectedError, match="disabled"):
        Keyring(here / "keys.jsonl").authenticate(key)
    states = [orjson.loads(line)["state"] for line in ok("list", "--json").splitlines()]
    assert states == ["disabled", "expired"]
    ok("disable", other.split("-")[2])
    done = run("disable", "000000000000")
    assert done.exit_code == 2
    assert "no key with the id '000000000000'" in done.stderr


def test_the_settings_name_the_file(here: Path) -> None:
    (here / "goldless.toml").write_text('[serve]\nkeys = "secret/keys.jsonl"\n')
    ok("add", "a")
    assert (here / "secret" / "keys.jsonl").exists()


@pytest.mark.parametrize(("arguments", "said"), [(("list",), "cannot be read"), (("add", "x", "--day", "-1"), "--day")])
def test_what_is_wrong_is_said(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
