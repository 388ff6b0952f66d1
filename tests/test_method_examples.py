"""Every program in examples/methods/ runs with real models, on fewer reviews than it takes by default.

They run in one process and one folder, so that torch is loaded once and what one has asked is not asked again.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from curator import Engine, connect

METHODS = Path(__file__).parents[1] / "examples" / "methods"
SMALL = "transformers:wheel:smollm2-135m"
ROWS = 60
pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("methods")


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(METHODS))
    yield
    for path in METHODS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def printed(capsys: pytest.CaptureFixture[str], name: str, *given: object) -> str:
    """What an example prints."""
    anyio.run(importlib.import_module(name).main, *given)
    return capsys.readouterr().out


def shares(text: str, pattern: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, text, re.MULTILINE)]


def test_every_method_has_an_example_in_the_table_of_its_page():
    page = (METHODS / "README.md").read_text(encoding="utf-8")
    programs = {path.name for path in METHODS.glob("*.py")} - {"film_reviews.py"}
    assert programs == set(re.findall(r"\]\((\w+\.py)\)", page))


def test_weak_to_strong_grades_every_arm(capsys):
    out = printed(capsys, "weak_to_strong", SMALL, ROWS)
    assert re.findall(r"^(\w+) +\d", out, re.MULTILINE) == ["weak", "naive", "filtered", "random", "ceiling"]
    assert f"{ROWS} answers asked for, 0 from before" in out


def test_misfit_compares_three_teachers_without_gold(capsys):
    out = printed(capsys, "misfit", SMALL, ROWS)
    assert f"0 answers asked for, {ROWS} from before" in out
    assert len(shares(out, r"misfit ([\d.]+)")) == 3
    assert re.search(r"^chosen: (weak|words of \w+|none)", out, re.MULTILINE)


def test_knowledge_free_uses_the_checked_reviews_that_there_are(capsys):
    out = printed(capsys, "knowledge_free", SMALL, ROWS)
    budgets = re.findall(r"^ +(\d+) ", out, re.MULTILINE)
    assert budgets[:2] == ["0", "10"]


def test_small_selection_holds_every_score_against_chance(capsys):
    out = printed(capsys, "small_selection", SMALL, ROWS, SMALL.removeprefix("transformers:"))
    names = re.findall(r"^(\w+) +\d+ +[\d.]+ +[\d.]+ +[\d.]+$", out, re.MULTILINE)
    assert names == ["confidence", "perplexity", "difficulty", "disagreement"]


def test_zero_to_strong_reports_its_rounds(capsys):
    out = printed(capsys, "zero_to_strong", SMALL, ROWS, 1)
    assert f"round 0: {ROWS} labelled, changed: None" in out
    assert re.search(r"round 1: \d+ labelled, changed: 0\.\d+", out)
    assert 0.4 < shares(out, r"labels, ([\d.]+) of them right")[0] <= 1.0


def test_cascading_certifies_and_serves(capsys):
    out = printed(capsys, "cascading", connect(SMALL), (40, 40, 10), 0.2)
    assert re.match(r"(PASS|BLOCK|INCONCLUSIVE): ", out)
    assert re.search(r"\d+ of 10 answered by the head alone, 0\.\d+ spent", out)


def test_progressive_keeps_what_two_models_agree_on(capsys, vllm_server):
    weak, strong = at(vllm_server, "smol"), at(vllm_server, "smol-strong")
    out = printed(capsys, "progressive", weak, strong, 20, 2)
    (kept,) = shares(out, r"^kept (\d+) of 20")
    assert 0 < kept <= 20
    assert f"'kept': {kept:.0f}" in out
    assert re.search(
        r"^pairs \d+, chosen right [\d.]+, rejected wrong [\d.]+$|^Stage II: there is not one", out, re.MULTILINE
    )


def test_refinement_compares_every_arm_with_the_untouched_model(capsys, vllm_server):
    out = printed(capsys, "refinement", at(vllm_server, "smol"), at(vllm_server, "smol-strong"), 10)
    arms = re.findall(r"^(\w+) +\d+ +\d+ +[\d.]+", out, re.MULTILINE)
    # A model as small as this one does not always see what a style is; an arm without a reply has no row.
    assert arms[:2] == ["weak", "base"]
    assert {"icl", "improve"} <= set(arms[2:]) <= {"icl", "infer", "improve"}


def at(server: str, model: str) -> Engine:
    """A model of the suite's vLLM."""
    return connect(f"{server}#{model}", dialect="chat", timeout=600.0)
