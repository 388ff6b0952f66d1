"""Live risk on disk, of one process and of several."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from gateway_builders import FUN_BODY, MOOD_BODY

from cascade.gateway.live_file import LiveFile, read_states, write_states
from cascade.live_state import LiveState
from curator.errors import ConfigError

ROOT = Path(__file__).parents[2]
STATE = LiveState(question="q", certificate="c", share=0.5)


def test_each_process_has_a_file_of_its_own_and_sees_the_others_change(tmp_path: Path) -> None:
    base = tmp_path / "live.json"
    first, second = LiveFile(base), LiveFile(base)
    assert (first.path, second.path) == (base, tmp_path / "live.2.json")
    assert first.others() == []
    write_states(second.path, [STATE])
    (tmp_path / "live.next.json").write_text("of somebody else")
    assert first.others() == [second.path]
    assert first.others() == []
    write_states(second.path, [STATE, STATE])
    assert first.others() == [second.path]
    # What has been let go of is the next one's; an end takes nothing back.
    first.close()
    first.close()
    third = LiveFile(base)
    assert third.path == base
    assert third.others() == [second.path]
    second.close()
    third.close()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be kept in") as caught:
        LiveFile(tmp_path / "file" / "live.json")
    assert "serve.live.state" in str(caught.value.hint)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "cascade")))
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "gateway" / "lone_gateway.py"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()
        assert process.wait(60) == 0


def tier_of(url: str, text: str) -> str:
    body = {"model": "cascade", "input": text, "questions": [MOOD_BODY, FUN_BODY]}
    return httpx.post(f"{url}/v1/decisions", json=body, timeout=30).headers["x-goldless-tier"]


def levels(url: str) -> list[bool]:
    questions = httpx.get(f"{url}/status").json()["policy"]["questions"]
    return [question["live"]["failed_safe"] for question in questions]


def within(seconds: float, what: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)


def test_an_alarm_in_one_process_tightens_the_other(tmp_path: Path) -> None:
    """Two servers with the same settings: only the first gets traffic, whose audits all disagree."""
    with serving(tmp_path) as first, serving(tmp_path) as second:
        assert tier_of(second, "before") == "small"
        for number in range(60):
            tier_of(first, f"query {number}")
        within(30, lambda: all(levels(first)))
        within(30, lambda: all(levels(second)))
        assert tier_of(second, "after") == "strong"
    files = sorted(path.name for path in tmp_path.glob("live*.json"))
    assert files == ["live.2.json", "live.json"]
    assert all(state.alarms for name in files for state in read_states(tmp_path / name))
    # Neither forgets it, whichever file it gets.
    with serving(tmp_path) as again:
        assert tier_of(again, "after a restart") == "strong"


def test_what_another_process_left_that_is_no_state_is_said_and_serving_goes_on(tmp_path: Path) -> None:
    (tmp_path / "live.2.json").write_text("{}")
    with serving(tmp_path) as url:
        problems = httpx.get(f"{url}/status").json()["problems"]
        assert "holds no live risk" in problems[str(tmp_path / "live.2.json")]
        assert tier_of(url, "fine") == "small"
