"""The file that says which policy is tried, and who falls into a canary."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade.gateway.rollout import falls_in, read_rollout
from curator.errors import ConfigError


def test_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "rollout.toml"
    assert read_rollout(path) is None
    path.write_text('policy = "next.json"\n')
    found = read_rollout(path)
    assert found is not None
    assert (found.policy, found.stage, found.share) == (tmp_path / "next.json", "shadow", 0.1)
    path.write_text('policy = "next.json"\nstage = "off"\n')
    assert read_rollout(path) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("policy = ", "cannot be read"),
        ('stage = "shadow"', "policy"),
        ('policy = "x"\nstage = "now"', "stage"),
        ('policy = "x"\nshare = 1.5', "share"),
        ('policy = "x"\nshares = 0.5', "shares"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "rollout.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        read_rollout(path)


def test_a_canary_is_a_share_of_the_ids_and_always_the_same() -> None:
    names = [f"request-{number}" for number in range(5000)]
    small = {name for name in names if falls_in(name, 0.1)}
    large = {name for name in names if falls_in(name, 0.3)}
    assert 400 < len(small) < 600
    assert small < large
    assert small == {name for name in names if falls_in(name, 0.1)}
