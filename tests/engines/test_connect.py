"""`connect`: from a spec to an engine, or to an error that says how to mend the spec."""

from __future__ import annotations

import builtins
import subprocess
import sys

import pytest

from curator.engines import connect
from curator.engines.http import HTTPEngine
from curator.engines.wrappers import PricedEngine
from curator.errors import ConfigError, MissingExtraError
from curator.types import Price


def test_an_address_makes_an_http_engine():
    engine = connect(
        "https://api.example.com/v1#org/model:8b@main?dialect=structured&timeout=5", api_key="key", concurrency=8
    )
    assert isinstance(engine, HTTPEngine)
    assert engine.identity.model == "org/model:8b@main"
    assert engine.identity.endpoint == "https://api.example.com/v1?dialect=structured"
    assert (engine.settings.timeout, engine.settings.api_key, engine.concurrency) == (5.0, "key", 8)


def test_a_price_wraps_the_engine():
    engine = connect("http://localhost:8000/v1#m", price=Price(1, 2))
    assert isinstance(engine, PricedEngine)
    assert engine.price.output == 2


@pytest.mark.parametrize(
    ("spec", "settings", "hint"),
    [
        ("org/model", {}, "put the engine in front: transformers:org/model"),
        ("vlm:org/model", {}, "did you mean vllm:org/model?"),
        ("htp://host/v1#m", {}, "did you mean http://host/v1#m?"),
        ("transformers:", {}, "say which weights: transformers:org/model"),
        ("", {}, "put the engine in front"),
        ("http://host/v1", {}, "write http://host/v1#<model>"),
        ("http://host/v1#m?dialekt=chat", {}, "did you mean 'dialect'?"),
        ("http://host/v1#m", {"max_model_len": 5}, "known: api_key"),
        ("http://host/v1#m?dialect=soap", {}, "one of auto, decisions"),
        ("http://host/v1#m?timeout=soon", {}, ""),
        ("http://#m", {}, "e.g. http://localhost:8000/v1"),
    ],
)
def test_a_wrong_spec_says_how_to_mend_it(spec, settings, hint):
    with pytest.raises(ConfigError) as raised:
        connect(spec, **settings)
    assert raised.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("scheme", "extra"), [("vllm", "goldless[vllm]"), ("transformers", "goldless[local]"), ("head", "goldless[local]")]
)
def test_a_missing_extra_is_named_with_its_command(monkeypatch, scheme, extra):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] in ("torch", "vllm", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    for name in [
        name
        for name in sys.modules
        if name.startswith(
            tuple(
                f"curator.engines.{part}" for part in ("vllm", "transformers", "torch_model", "encoder", "classifier")
            )
        )
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError) as raised:
        connect(f"{scheme}:org/model")
    assert f"pip install '{extra}'" in raised.value.hint


def test_an_unknown_setting_of_a_local_engine_is_refused():
    pytest.importorskip("torch")
    with pytest.raises(ConfigError, match="unknown setting 'dtypes' of the transformers engine") as raised:
        connect("transformers:org/model", dtypes="float32")
    assert raised.value.hint == "did you mean 'dtype'?"


def test_connecting_over_http_imports_no_model_library():
    code = (
        "import sys; from curator.engines import connect; connect('http://localhost:1/v1#m');"
        "print([n for n in ('torch', 'transformers', 'vllm', 'openai', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
