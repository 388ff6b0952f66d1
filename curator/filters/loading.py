"""Filters that users write themselves."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from curator.errors import ConfigError
from curator.filters.builtin import KEEP, Filter
from curator.sources.base import suggest
from curator.types import Document, Verdict


def load_filter(spec: str, folder: Path | None = None) -> Filter:
    """The user's own filter from "module:function" or "path/to/file.py:function".

    The function takes a Document and returns a Verdict, or a bool (then the reason is
    `filter.<function>`). What it raises on a row becomes a rejecting verdict with the reason
    `filter.error:<Type>`. A module, or a file with a relative path, is looked for in `folder` first
    (the settings', say), then in the working directory. Raises ConfigError where it cannot be loaded.
    """
    module_name, _, name = spec.rpartition(":")
    if not module_name or not name:
        raise ConfigError(f"filter {spec!r} names no function", hint='write "module:function" or "file.py:function"')
    module = _module(spec, module_name, folder)
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(
            f"filter {spec!r}: {module_name} has no function {name!r}", hint=suggest(name, _public(module))
        )
    return guarded(name, function)


def _public(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


def _module(spec: str, name: str, folder: Path | None) -> ModuleType:
    """Import a module, also from the working directory, where a console script does not look."""
    try:
        if name.endswith(".py"):
            beside = (folder or Path()) / name
            return _from_file(beside if beside.is_file() else Path(name))
        if folder is not None and (first := str(folder.absolute())) not in sys.path:
            # For good: a filter may import its neighbours when it is called.
            sys.path.insert(0, first)
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


def guarded(name: str, function: Callable[[Document], object]) -> Filter:
    """`function` as a filter that never stops a run: a bool becomes a verdict with the reason
    `filter.<name>`, an exception or any other answer one with the reason `filter.error:<Type>`."""

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
