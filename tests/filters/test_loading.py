"""Users' own filters."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from curator.errors import ConfigError
from curator.filters import load_filter
from curator.types import Document, Verdict

DOCUMENT = Document("a", "text", {"stars": 1})
CODE = """
from curator.types import Verdict
not_a_function = 3
def verdict(document): return Verdict(False, "mine.stars", str(document.meta["stars"]))
def yes(document): return True
def no(document): return False
def fails(document): return document.meta["no such key"]
def nothing(document): pass
class Strict:
    def __call__(self, document): return len(document.text) > 10
strict = Strict()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "goldless_test_filters.py").write_text(CODE)
    (tmp_path / "broken_filters.py").write_text("1 / 0\n")
    (tmp_path / "needs_more.py").write_text("import no_such_library\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", ["goldless_test_filters", "goldless_test_filters.py"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("verdict", Verdict(False, "mine.stars", "1")),
        ("yes", Verdict(True)),
        ("no", Verdict(False, "filter.no")),
        ("fails", Verdict(False, "filter.error:KeyError", "'no such key'")),
        ("nothing", Verdict(False, "filter.error:TypeError", "nothing returned NoneType, not Verdict or bool")),
        ("strict", Verdict(False, "filter.strict")),
    ],
)
def test_what_a_filter_answers_becomes_a_verdict(folder: Path, module: str, name: str, expected: Verdict) -> None:
    assert load_filter(f"{module}:{name}")(DOCUMENT) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("goldless_test_filters", "names no function"),
        (":yes", "names no function"),
        ("goldless_test_filters:", "names no function"),
        ("goldless_test_filters:yess", "has no function 'yess' (did you mean 'yes'?"),
        ("goldless_test_filters:not_a_function", "has no function"),
        ("goldless_no_filters:yes", "there is no module 'goldless_no_filters'"),
        ("needs_more:yes", "there is no module 'no_such_library'"),
        ("broken_filters:yes", "cannot be imported: ZeroDivisionError: division by zero"),
        ("missing/file.py:yes", "there is no filter file missing/file.py"),
    ],
)
def test_what_cannot_be_loaded_is_a_config_error(folder: Path, spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_filter(spec)
    assert message in str(caught.value)


@pytest.mark.parametrize("module", ["goldless_beside", "goldless_beside.py"])
def test_the_given_folder_comes_before_the_working_directory(
    folder: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "goldless_beside", raising=False)
    (folder / "settings").mkdir()
    (folder / "settings" / "goldless_beside.py").write_text("def first(document): return True\n")
    (folder / "goldless_beside.py").write_text("def last(document): return True\n")
    assert load_filter(f"{module}:first", folder / "settings")(DOCUMENT).keep
    assert load_filter("goldless_test_filters.py:yes", folder / "settings")(DOCUMENT).keep
    with pytest.raises(ConfigError, match="has no function 'last'"):
        load_filter(f"{module}:last", folder / "settings")
