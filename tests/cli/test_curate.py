"""preview and curate against a mock server; interruption with real signals in a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from benchmarks.mock_server import Faults, MockServer
from curator import screening
from curator.store import Store
from curator.taught import read_lesson
from tests.cli.conftest import Project, Serve

PROBES = 3
"""Requests with which the engine finds out what a server can do."""
ROOT = Path(__file__).parents[2]


def sent(server: MockServer, project: Project) -> list[str]:
    """The documents that the server was sent: it is also asked what it can do, without any of them."""
    said = orjson.dumps(server.requests).decode()
    return [text for text in project.texts if text in said]


def test_curate_makes_a_version_and_asks_nothing_twice(project: Project) -> None:
    (report,) = project.json("curate")
    assert (report["version"], report["rows"], report["annotation"]["sent"]) == (1, 40, 40)
    assert report["fields"]["label"]["basis"] == "batch"
    (again,) = project.json("curate")
    assert (again["version"], again["annotation"]["sent"], again["annotation"]["reused"]) == (1, 0, 40)
    shown = project.ok("curate")
    assert "uncalibrated" in shown.stdout
    assert "40/40 rows" in shown.stderr


def test_more_documents_later_are_all_that_is_asked(project: Project) -> None:
    project.ok("curate", "--limit", "10")
    (report,) = project.json("curate", "--limit", "25")
    assert (report["annotation"]["sent"], report["rows"]) == (15, 25)


def test_filters_and_dedup_of_the_settings_apply(project: Project) -> None:
    project.texts += ["FILM number 1  was good", "x"]
    project.write("[filters]\nlength = { min_chars = 5 }\n")
    (report,) = project.json("curate")
    assert report["screening"] == {
        "documents": 42,
        "kept": 40,
        "rejected": {"duplicate.exact": 1, "length.too_short": 1},
    }


def test_a_filter_is_looked_for_beside_the_settings(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (project.folder / "filters_beside.py").write_text("def good(document): return 'good' in document.text\n")
    project.write('[filters]\ngood = "filters_beside:good"\n')
    (report,) = project.json("curate")
    assert report["screening"] == {"documents": 40, "kept": 26, "rejected": {"filter.good": 14}}


def test_without_the_dedup_extra_the_defaults_work(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "rensa", None)
    screening._say_that_near_duplicates_stay.cache_clear()
    text = project.settings.read_text()
    project.settings.write_text(text.replace("near = false\n", ""))
    assert project.ok("curate").stderr.count("near-duplicates stay") == 1
    project.settings.write_text(text.replace("near = false\n", "near = true\n"))
    done = project.run("curate")
    assert done.exit_code == 2
    assert "[dedup] near = false" in done.stderr


def test_a_dry_run_projects_and_sends_nothing(project: Project, serve: Serve) -> None:
    server = serve(MockServer())
    project.url = server.url
    project.write(price_input=1.0, price_output=2.0)
    (found,) = project.json("curate", "--dry-run")
    assert (found["documents"], found["calls"], found["answered"], found["seconds"]) == (40, 40, 0, None)
    assert found["input_tokens"] > 40 * 10
    assert found["cost"] == pytest.approx((found["input_tokens"] + 2 * found["output_tokens"]) / 1e6)
    assert not sent(server, project)
    assert not (project.folder / "goldless.duckdb").exists()
    assert "40 (before duplicates and filters)" in project.ok("curate", "--dry-run").stdout
    project.ok("ingest")
    (ingested,) = project.json("curate", "--dry-run")
    assert [found["screened"], ingested["screened"]] == [False, False]
    project.ok("curate", "--limit", "30")
    (rest,) = project.json("curate", "--dry-run")
    assert (rest["calls"], rest["answered"], rest["screened"]) == (10, 30, True)
    assert "before duplicates" not in project.ok("curate", "--dry-run").stdout
    assert rest["seconds"] > 0
    assert "time" in project.ok("curate", "--dry-run", "--limit", "5").stdout


@pytest.mark.parametrize("ingested", [False, True])
def test_a_dry_run_counts_the_probes(project: Project, ingested: bool) -> None:
    project.write("[prior]\nprobes = 8\n")
    if ingested:
        project.ok("ingest")
    (found,) = project.json("curate", "--dry-run")
    assert (found["documents"], found["calls"]) == (40, 48)


def test_shares_of_classes_come_from_the_settings(project: Project) -> None:
    project.write("[prior]\nshares = { label = { wrong = 0.1 } }\n")
    assert "shares of wrong" in project.run("curate").stderr


def test_rows_that_fail_make_the_run_partial(project: Project, serve: Serve) -> None:
    project.url = serve(MockServer(faults=Faults(script=[*[""] * 10, *["wrong_shape"] * 3]))).url
    project.write()
    done = project.run("curate", "--json")
    assert done.exit_code == 3, done.stderr
    report = orjson.loads(done.stdout)
    # The engine asks once more in another way when a server stops making sense.
    failed = report["annotation"]["failed"]
    assert 1 <= failed <= 3
    assert (report["rows"], report["annotation"]["errors"]) == (40 - failed, {"invalid_output": failed})


def test_a_budget_stops_the_run_and_a_second_run_goes_on(project: Project) -> None:
    project.write("[budget]\ncalls = 15\n")
    done = project.run("curate")
    assert done.exit_code == 4
    assert "calls is reached" in done.stderr
    assert "goes on from there" in done.stderr
    project.write()
    (report,) = project.json("curate")
    assert (report["annotation"]["reused"], report["annotation"]["sent"]) == (15, 25)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [(401, 1, "key"), (404, 1, "model")],
)
def test_a_server_that_refuses(project: Project, serve: Serve, status: int, code: int, message: str) -> None:
    answer = (status, {"error": {"message": f"no such {message}", "code": status}})
    project.url = serve(MockServer(status={"/v1/chat/completions": answer})).url
    project.write()
    done = project.run("curate")
    assert done.exit_code == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[engine]", "[enigne]", "did you mean 'engine'?"),
        ('["positive", "negative"]', '["positive", "positive"]', "listed twice"),
        ('["positive", "negative"]', '["positive"]', "one label"),
        ("docs.jsonl", "nowhere.jsonl", "nowhere.jsonl"),
        ("http:", "htp:", "names no engine"),
    ],
)
def test_wrong_settings_send_nothing(project: Project, old: str, new: str, message: str) -> None:
    project.settings.write_text(project.settings.read_text().replace(old, new))
    done = project.run("curate")
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_busy_store_says_who_has_it(project: Project) -> None:
    project.write("[store]\nwait = 0.1\n")
    project.ok("ingest")
    with Store(project.folder / "goldless.duckdb").run("training", {}):
        done = project.run("curate")
        assert project.run("status").exit_code == 0
    assert done.exit_code == 5
    assert "training" in done.stderr


def test_preview_shows_what_is_sent_and_sends_nothing(project: Project, serve: Serve) -> None:
    server = serve(MockServer())
    project.url = server.url
    project.write("[views]\ncount = 2\n")
    rows = project.json("preview")
    assert [(row["document"], row["view"]) for row in rows] == [("d0", 0), ("d0", 1)]
    assert project.texts[0] in rows[0]["prompt"]
    assert [option for option, _ in rows[0]["scored"]] == ["positive", "negative"]
    assert not sent(server, project)
    project.ok("ingest")
    assert "film number 7 " in project.ok("preview", "--document", "d7").stdout
    assert project.run("preview", "--document", "nope").exit_code == 2


def test_preview_of_sampled_fields(project: Project) -> None:
    project.settings.write_text(
        project.settings.read_text().replace('"choice"\nlabels = ["positive", "negative"]', '"number"')
    )
    (row,) = project.json("preview")
    assert (row["n"], row["messages"][0]["role"]) == (5, "user")
    assert "[user]" in project.ok("preview").stdout


def started(project: Project) -> subprocess.Popen[str]:
    code = "from cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "curate", "-c", str(project.settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def wait_for(server: MockServer, requests: int) -> None:
    deadline = time.monotonic() + 60
    while sum(server.counts.values()) < requests and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sum(server.counts.values()) >= requests


def slow(project: Project, serve: Serve) -> MockServer:
    server = serve(MockServer(latency=0.05))
    project.url, project.texts = server.url, [f"text number {i}" for i in range(200)]
    project.write(concurrency=8)
    return server


def statuses(project: Project) -> list[str]:
    (found,) = project.json("status")
    return [run["status"] for run in found["runs"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_it_ends_in_order(project: Project, serve: Serve, number: signal.Signals) -> None:
    server = slow(project, serve)
    with started(project) as process:
        wait_for(server, 60)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping" in said
    assert "goes on from there" in said
    assert "Traceback" not in said
    assert statuses(project) == ["interrupted"]
    answered = project.json("status")[0]["completions"]
    (report,) = project.json("curate")
    assert 0 < answered < 200
    assert (report["rows"], report["annotation"]["reused"]) == (200, answered)


def test_interrupted_twice_it_leaves_at_once_and_keeps_its_journal(project: Project, serve: Serve) -> None:
    server = slow(project, serve)
    with started(project) as process:
        wait_for(server, 60)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    asked = sum(server.counts.values())
    (report,) = project.json("curate")
    assert report["rows"] == 200
    # All that came back was kept; only what was in flight is asked again.
    assert len(sent(server, project)) == 200
    assert sum(server.counts.values()) <= 200 + 8 + 2 * PROBES
    assert report["annotation"]["sent"] >= 200 - asked


def test_a_lesson_is_written_and_labels_as_the_run_did(project: Project) -> None:
    lesson = project.folder / "lesson.json"
    done = project.ok("curate", "--lesson", str(lesson))
    assert f"taught:{lesson}" in done.stderr.replace("\n", "") + done.stdout.replace("\n", "")
    text = project.settings.read_text()
    project.settings.write_text(text.replace(f'spec = "{project.url}#mock?dialect=chat"', f'spec = "taught:{lesson}"'))
    (report,) = project.json("curate")
    assert report["engine"].endswith(f"taught-{read_lesson(lesson).key}")
    assert report["annotation"]["sent"] == 40
