"""Every program in examples/ runs: two with a real model, the others with scripted answers."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast

import anyio
import orjson
import pytest
from docs_server import serving

from curator import Store
from curator.engines.scripted import ScriptedEngine
from curator.types import DecideRequest, Question

EXAMPLES = Path(__file__).parents[1] / "examples"
REVIEWS = EXAMPLES / "reviews.jsonl"
REAL = ("classify_reviews", "typed_fields")
"""Run as a user would, with the engine that is their default."""
SCRIPTED = ("audits", "export_trl", "http_server", "own_filter", "small_before_strong", "solve_with_votes")


class Program(Protocol):
    main: Callable[..., Coroutine[object, object, None]]


@contextmanager
def program(name: str) -> Iterator[Program]:
    """An example as a module."""
    found = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module
    try:
        found.loader.exec_module(module)
        yield cast(Program, module)
    finally:
        del sys.modules[module.__name__]


def checked() -> dict[str, str]:
    with (EXAMPLES / "checked.csv").open(encoding="utf-8") as file:
        return {row["id"]: row["label"] for row in csv.DictReader(file)}


def texts() -> dict[str, str]:
    return {row["text"]: row["id"] for row in map(orjson.loads, REVIEWS.read_bytes().splitlines())}


def reader(*, share_wrong: float = 0.2) -> ScriptedEngine:
    """A reader of reviews who is sure, and wrong about every so many."""
    truth, names = checked(), texts()

    def chances(state: str, question: Question) -> dict[str, float]:
        name = names[state]
        number = int(name.removeprefix("review-"))
        right = truth.get(name, "negative")
        wrong = next(label for label in question.labels if label != right)
        said = wrong if number % round(1 / share_wrong) == 0 else right
        sure = 0.75 + 0.2 * (number % 7) / 7
        return {label: sure if label == said else 1 - sure for label in question.labels}

    def decide(request: DecideRequest) -> dict[str, dict[str, float]]:
        return {question.name: chances(request.state, question) for question in request.questions}

    return ScriptedEngine(decide=decide)


def test_every_example_is_tested() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted([*REAL, *SCRIPTED])


@pytest.mark.engine
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", REAL)
def test_with_a_real_model(name: str, tmp_path: Path) -> None:
    source = tmp_path / "few.jsonl"
    source.write_bytes(b"\n".join(REVIEWS.read_bytes().splitlines()[:8]))
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--source", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Store(tmp_path / f"{name}.duckdb").datasets()) == 1
    shown = "positive" if name == "classify_reviews" else "uncalibrated"
    assert shown in done.stdout


def test_audits_make_the_confidence_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, engine = tmp_path / "audits.duckdb", reader()
    with program("audits") as audits:
        anyio.run(audits.main, engine, REVIEWS, store, None)
        asked = len(engine.requests)
        assert "rests on batch: uncalibrated" in capsys.readouterr().out
        with (tmp_path / "to_check.csv").open(encoding="utf-8") as file:
            chosen = [row["id"] for row in csv.DictReader(file)]
        filled = tmp_path / "filled.csv"
        truth = checked()
        filled.write_text("id,label\n" + "".join(f"{name},{truth.get(name, '')}\n" for name in chosen))
        anyio.run(audits.main, engine, REVIEWS, store, filled)
    answered = sum(name in truth for name in chosen)
    assert f"0 answers asked for; the confidence rests on audited({answered}): calibrated" in capsys.readouterr().out
    assert len(engine.requests) == asked


def test_own_filter_gives_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with program("own_filter") as own_filter:
        anyio.run(own_filter.main, reader(), REVIEWS, tmp_path / "own.duckdb")
    out = capsys.readouterr().out
    assert "review-61: duplicate.exact" in out
    assert "review-62: own.advertisement (it says 'SALE')" in out
    assert "review-63: length.too_short" in out


def test_export_trl_writes_conversations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("datasets")
    with program("export_trl") as export_trl:
        anyio.run(export_trl.main, reader(), REVIEWS, tmp_path / "trl.duckdb")
    rows = [orjson.loads(line) for line in (tmp_path / "trl.jsonl").read_bytes().splitlines()]
    answers = [row["completion"][0]["content"] for row in rows]
    assert answers.count("negative") == answers.count("positive") > 10
    assert "['id', 'prompt', 'completion', 'weight']" in capsys.readouterr().out


def test_solve_with_votes_takes_the_majority(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replies = [f"12 times 3 is 36.\nAnswer: {answer}" for answer in ("36", "36.0", "35", "36", "garbage")]
    with program("solve_with_votes") as solve:
        anyio.run(solve.main, ScriptedEngine(generate=lambda _: replies), tmp_path / "solve.duckdb", 5)
    out = capsys.readouterr().out
    assert out.count("    36  confidence") == 4
    assert "because: '12 times 3 is 36." in out
    assert "basis agreement" in out


def test_http_server_stops_at_its_budget_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from curator.engines import connect

    source, store = tmp_path / "reviews.jsonl", tmp_path / "http.duckdb"
    shutil.copy(REVIEWS, source)
    with serving(labels=("negative", "positive")) as url, program("http_server") as http_server:
        anyio.run(http_server.main, connect(f"{url}#mock?dialect=chat"), source, store, 0.0002)
        first = capsys.readouterr().out
        assert "stopped: the cap of 0.0002 on money is reached" in first
        anyio.run(http_server.main, connect(f"{url}#mock?dialect=chat"), source, store, 1.0)
        second = capsys.readouterr().out
    kept = int(first.splitlines()[-1].split()[0])
    assert 0 < kept < 62
    assert "dataset version 1 has 62 rows" in second
    assert f"{62 - kept} new answers, {kept} from before" in second


def test_small_before_strong_asks_the_strong_one_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, strong = reader(share_wrong=0.05), reader(share_wrong=0.01)
    with program("small_before_strong") as example:
        anyio.run(example.main, small, strong, REVIEWS)
    _, *answers, last = capsys.readouterr().out.splitlines()
    alone = sum(line.startswith("small") for line in answers)
    assert last.startswith(f"{alone} of {len(answers)} answered by the small model alone; 0.")
    assert (len(small.requests), len(strong.requests)) == (30 + len(answers), 30 + len(answers) - alone)
    assert alone > 10


def test_small_before_strong_says_where_a_cascade_is_useless(capsys: pytest.CaptureFixture[str]) -> None:
    asked = iter(range(100))
    guessing = ScriptedEngine(decide=lambda request: "positive" if next(asked) % 2 else "negative")
    with program("small_before_strong") as example:
        anyio.run(example.main, guessing, reader(), REVIEWS)
    assert "the strong one alone is the better choice" in capsys.readouterr().out
    assert len(guessing.requests) == 30


@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_small_before_strong_with_real_models(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "small_before_strong.py"), "--strong", "transformers:wheel:smollm2-135m"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "answered by the small model alone" in done.stdout
