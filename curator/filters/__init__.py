"""Quality filters: a document in, a verdict out.

`Filter = Callable[[Document], Verdict]`. The three built-in ones are made by `length`, `repetition`
and `language`; `load_filter` takes anybody's own function. `build_filters` makes them from a plain
mapping (the `[filters]` table of a configuration), `settings_hash` names such a mapping, and
`judge` applies them to a batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import orjson

from curator.errors import ConfigError
from curator.filters.builtin import Filter, language, length
from curator.filters.loading import guarded, load_filter
from curator.filters.repetition import repetition
from curator.sources.base import suggest
from curator.types import Document, Json, Verdict

__all__ = [
    "Filter",
    "build_filters",
    "guarded",
    "judge",
    "language",
    "length",
    "load_filter",
    "repetition",
    "settings_hash",
]

NamedFilter = tuple[str, Filter]
REVISION = 1
"""Part of every settings hash: raised when a built-in filter changes what it rejects."""
FACTORIES: dict[str, Callable[..., Filter]] = {"length": length, "repetition": repetition, "language": language}
"""The built-in filters, in the order in which they are applied: the cheap ones first."""


def build_filters(config: Mapping[str, Json], folder: Path | None = None) -> list[NamedFilter]:
    """The filters of a `[filters]` table, with their names, in the order of application.

    A built-in name maps to its settings, to true (defaults) or to false (off); any other name to the
    "module:function" of a user's own filter. Built-in ones come first, then own ones in the given
    order; `folder` is where those are looked for first, see `load_filter`. Raises ConfigError for unknown
    names, settings and values of the wrong type.
    """
    own = [name for name in config if name not in FACTORIES]
    chosen = [name for name in FACTORIES if config.get(name, False) is not False]
    return [(name, _builtin(name, config[name])) for name in chosen] + [
        (name, _own(name, config[name], folder)) for name in own if config[name] is not False
    ]


def _builtin(name: str, settings: Json) -> Filter:
    factory = FACTORIES[name]
    if settings is True:
        settings = {}
    if not isinstance(settings, Mapping):
        raise ConfigError(f"filter {name!r} is {settings!r}", hint="give a table of settings, true or false")
    known = inspect.signature(factory).parameters
    for key in settings:
        if key not in known:
            raise ConfigError(f"filter {name!r} has no setting {key!r}", hint=suggest(key, known))
    try:
        return factory(**settings)
    except TypeError as error:
        raise ConfigError(f"filter {name!r}: {error}", hint=f"its settings are {', '.join(known)}") from error


def _own(name: str, spec: Json, folder: Path | None) -> Filter:
    if isinstance(spec, str) and ":" in spec:
        return load_filter(spec, folder)
    raise ConfigError(
        f"unknown filter {name!r}",
        hint=f'{suggest(name, FACTORIES)}; your own one is a string, {name} = "module:function"',
    )


def settings_hash(config: Mapping[str, Json], folder: Path | None = None) -> str:
    """16 hex digits that name what `config` rejects, for use as the key of its verdicts.

    Independent of the order of the keys; defaults count as if written out, and own filters with
    their source text, so that editing one counts as another setting. Tables that are not filters'
    (`dedup`, say) are hashed as they are.
    """
    resolved: dict[str, Json] = {"revision": REVISION}
    for name, settings in config.items():
        if settings is not False:
            resolved[name] = _resolved(name, settings, folder)
    return sha256(orjson.dumps(resolved, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _resolved(name: str, settings: Json, folder: Path | None) -> Json:
    if isinstance(settings, str) and ":" in settings:
        return [settings, _source_hash(load_filter(settings, folder))]
    if name not in FACTORIES or not (settings is True or isinstance(settings, Mapping)):
        return settings
    defaults = {key: item.default for key, item in inspect.signature(FACTORIES[name]).parameters.items()}
    return defaults | (dict(settings) if isinstance(settings, Mapping) else {})


def _source_hash(check: Filter) -> str:
    """Of the whole file that holds a user's filter, because a filter may call its neighbours."""
    function = inspect.unwrap(check)
    try:
        file = inspect.getsourcefile(function)
        return sha256(Path(file).read_bytes()).hexdigest() if file else ""
    except (TypeError, OSError):
        return ""


def judge(filters: Sequence[NamedFilter], documents: Iterable[Document]) -> Iterator[tuple[str, str, Verdict]]:
    """Document id, name of the filter and verdict for every document that a filter rejects; the
    first filter that does decides."""
    for document in documents:
        for name, check in filters:
            verdict = check(document)
            if not verdict.keep:
                yield document.id, name, verdict
                break
