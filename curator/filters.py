"""Quality filters: a document in, a verdict out.

`Filter = Callable[[Document], Verdict]`. The three built-in ones are made by `length`, `repetition`
and `language`; `load_filter` takes anybody's own function. `build_filters` makes them from a plain
mapping (the `[filters]` table of a configuration), `settings_hash` names such a mapping, and
`judge` applies them to a batch.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import orjson

from curator.errors import ConfigError, MissingExtraError
from curator.repetition import repetition
from curator.sources.base import suggest
from curator.types import Document, Json, Verdict

__all__ = ["Filter", "build_filters", "judge", "language", "length", "load_filter", "repetition", "settings_hash"]

Filter = Callable[[Document], Verdict]
NamedFilter = tuple[str, Filter]
KEEP = Verdict(True)
REVISION = 1
"""Part of every settings hash: raised when a built-in filter changes what it rejects."""
LANGUAGE_SAMPLE = 2000
"""Characters from which the language is told; more cost time and change next to nothing."""


def length(
    *,
    min_chars: int | None = None,
    max_chars: int | None = None,
    min_words: int | None = None,
    max_words: int | None = None,
) -> Filter:
    """Bounds, inclusive, on characters and on words separated by white space.

    Reasons: `length.too_short`, `length.too_long`. Raises ConfigError for bounds that nothing meets.
    """
    for low, high in ((min_chars, max_chars), (min_words, max_words)):
        if low is not None and high is not None and low > high:
            raise ConfigError(f"length: the minimum {low} is above the maximum {high}")

    def check(document: Document) -> Verdict:
        verdict = _bounded(len(document.text), min_chars, max_chars, "characters")
        if verdict.keep and (min_words is not None or max_words is not None):
            verdict = _bounded(len(document.text.split()), min_words, max_words, "words")
        return verdict

    return check


def _bounded(size: int, low: int | None, high: int | None, unit: str) -> Verdict:
    if low is not None and size < low:
        return Verdict(False, "length.too_short", f"{size} {unit}, at least {low} are asked for")
    if high is not None and size > high:
        return Verdict(False, "length.too_long", f"{size} {unit}, at most {high} are asked for")
    return KEEP


def language(*, allowed: Collection[str] = ("en",), min_probability: float = 0.8, keep_unsure: bool = True) -> Filter:
    """Reject documents in other languages than `allowed` (ISO 639 codes), by py3langid.

    A language counts as recognised from `min_probability` on. Where none is, which is common below
    some 30 characters, `keep_unsure` decides. Reasons: `language.not_allowed`, `language.unsure`.
    Raises MissingExtraError without py3langid, ConfigError for a code that it does not know.
    """
    identify = _identifier(allowed)
    codes = frozenset(allowed)

    def check(document: Document) -> Verdict:
        code, probability = identify(document.text[:LANGUAGE_SAMPLE])
        if code in codes and (probability >= min_probability or keep_unsure):
            return KEEP
        detail = f"{code} with probability {probability:.2f}"
        if code not in codes and probability >= min_probability:
            return Verdict(False, "language.not_allowed", detail)
        return KEEP if keep_unsure else Verdict(False, "language.unsure", detail)

    return check


def _identifier(allowed: Collection[str]) -> Callable[[str], tuple[str, float]]:
    """py3langid's `classify` with probabilities. Loading its model takes about half a second."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtraError(
            "the language filter needs py3langid", hint='pip install "goldless[lang]", or leave the filter out'
        ) from None
    if isinstance(allowed, str) or not allowed:
        raise ConfigError(f"language: allowed is {allowed!r}", hint='give a list of codes, like ["en", "de"]')
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = set(identifier.labels)
    for code in allowed:
        if code not in known:
            raise ConfigError(f"language: unknown code {code!r}", hint=suggest(code, sorted(known)))
    classify: Callable[[str], tuple[str, float]] = identifier.classify
    return classify


FACTORIES: dict[str, Callable[..., Filter]] = {"length": length, "repetition": repetition, "language": language}
"""The built-in filters, in the order in which they are applied: the cheap ones first."""


def load_filter(spec: str) -> Filter:
    """The user's own filter from "module:function" or "path/to/file.py:function".

    The function takes a Document and returns a Verdict, or a bool (then the reason is
    `filter.<function>`). What it raises on a row becomes a rejecting verdict with the reason
    `filter.error:<Type>`. Raises ConfigError where it cannot be loaded.
    """
    module_name, _, name = spec.rpartition(":")
    if not module_name or not name:
        raise ConfigError(f"filter {spec!r} names no function", hint='write "module:function" or "file.py:function"')
    module = _module(spec, module_name)
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(
            f"filter {spec!r}: {module_name} has no function {name!r}", hint=suggest(name, _public(module))
        )
    return _guarded(name, function)


def _public(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


def _module(spec: str, name: str) -> ModuleType:
    """Import a module, also from the working directory, where a console script does not look."""
    try:
        if name.endswith(".py"):
            return _from_file(Path(name))
        sys.path.append(os.getcwd())
        try:
            return importlib.import_module(name)
        finally:
            sys.path.pop()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"filter {spec!r}: there is no module {error.name!r}", hint="check its name and folder"
        ) from error
    except Exception as error:  # the user's module may do anything while it is imported
        raise ConfigError(f"filter {spec!r} cannot be imported: {type(error).__name__}: {error}") from error


def _from_file(path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None or not path.is_file():
        raise ConfigError(f"there is no filter file {path}", hint="check the path")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _guarded(name: str, function: Callable[[Document], object]) -> Filter:
    def check(document: Document) -> Verdict:
        try:
            answer = function(document)
        except Exception as error:
            return Verdict(False, f"filter.error:{type(error).__name__}", str(error)[:200])
        if isinstance(answer, Verdict):
            return answer
        if isinstance(answer, bool):
            return KEEP if answer else Verdict(False, f"filter.{name}")
        return Verdict(False, "filter.error:TypeError", f"{name} returned {type(answer).__name__}, not Verdict or bool")

    check.__wrapped__ = function  # type: ignore[attr-defined]
    return check


def build_filters(config: Mapping[str, Json]) -> list[NamedFilter]:
    """The filters of a `[filters]` table, with their names, in the order of application.

    A built-in name maps to its settings, to true (defaults) or to false (off); any other name to the
    "module:function" of a user's own filter. Built-in ones come first, then own ones in the given
    order. Raises ConfigError for unknown names, settings and values of the wrong type.
    """
    own = [name for name in config if name not in FACTORIES]
    chosen = [name for name in FACTORIES if config.get(name, False) is not False]
    return [(name, _builtin(name, config[name])) for name in chosen] + [
        (name, _own(name, config[name])) for name in own if config[name] is not False
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


def _own(name: str, spec: Json) -> Filter:
    if isinstance(spec, str) and ":" in spec:
        return load_filter(spec)
    raise ConfigError(
        f"unknown filter {name!r}",
        hint=f'{suggest(name, FACTORIES)}; your own one is a string, {name} = "module:function"',
    )


def settings_hash(config: Mapping[str, Json]) -> str:
    """16 hex digits that name what `config` rejects, for use as the key of its verdicts.

    Independent of the order of the keys; defaults count as if written out, and own filters with
    their source text, so that editing one counts as another setting. Tables that are not filters'
    (`dedup`, say) are hashed as they are.
    """
    resolved: dict[str, Json] = {"revision": REVISION}
    for name, settings in config.items():
        if settings is not False:
            resolved[name] = _resolved(name, settings)
    return sha256(orjson.dumps(resolved, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _resolved(name: str, settings: Json) -> Json:
    if isinstance(settings, str) and ":" in settings:
        return [settings, _source_hash(load_filter(settings))]
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
