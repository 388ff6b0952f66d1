"""A policy's file opened as a cascade, with tiers that are really connected."""

from __future__ import annotations

import pytest
from route_builders import MOOD, policy, row

from cascade.opening import open_cascade
from cascade.policy import TierRecord
from curator.engines import connect
from curator.errors import ConfigError

pytestmark = pytest.mark.anyio
SPECS = {"small": "http://localhost:1/v1#tiny?dialect=chat", "strong": "http://localhost:2/v1#big?dialect=chat"}


@pytest.fixture
async def made():
    tiers = {name: connect(spec) for name, spec in SPECS.items()}
    found = policy(tiers, row("fine", MOOD), {"mood": [0.8]})
    for engine in tiers.values():
        await engine.aclose()
    return found


def written(folder, made, **specs):
    tiers = tuple(tier.model_copy(update={"spec": specs.get(tier.name, "")}) for tier in made.tiers)
    path = folder / "policy.json"
    path.write_text(made.model_copy(update={"tiers": tiers}).model_dump_json())
    return path


async def test_tiers_are_connected_as_recorded_and_priced_and_protected(made, tmp_path):
    priced = tuple(TierRecord(**{**tier.model_dump(), "price": (1.0, 2.0)}) for tier in made.tiers)
    cascade = open_cascade(written(tmp_path, made.model_copy(update={"tiers": priced}), **SPECS))
    assert [str(tier.engine.identity) for tier in cascade.tiers] == ["http:tiny", "http:big"]
    assert cascade.tiers[0].price.output == 2.0
    assert type(cascade.tiers[0].engine).__name__ == "RetryEngine"
    await cascade.aclose()


async def test_a_spec_given_now_is_used_in_place_of_the_recorded_one(made, tmp_path):
    path = written(tmp_path, made, small="vllm:gone", strong=SPECS["strong"])
    await open_cascade(path, specs={"small": SPECS["small"]}).aclose()


async def test_what_is_missing_or_wrong_says_so(made, tmp_path):
    with pytest.raises(ConfigError, match=r"does not say where tier 'small' is found .*specs=\{'small'"):
        open_cascade(written(tmp_path, made))
    with pytest.raises(ConfigError, match="specs names 'smal', which is no tier"):
        open_cascade(written(tmp_path, made, **SPECS), specs={"smal": "x"})
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        open_cascade(tmp_path / "none.json")
    bad = tmp_path / "bad.json"
    bad.write_text('{"version": 1}')
    with pytest.raises(ConfigError, match=r"bad.json is no policy: created: Field required"):
        open_cascade(bad)
    with pytest.raises(ConfigError, match="'small' is http:other"):
        open_cascade(written(tmp_path, made, **SPECS), specs={"small": "http://localhost:1/v1#other?dialect=chat"})
