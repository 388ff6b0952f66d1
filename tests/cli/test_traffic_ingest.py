"""goldless ingest --traffic, against a real store, with traffic about the project's own task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.traffic import ServedAnswer, TierAnswer, TrafficRecord
from cascade.traffic_files import SUFFIX, to_row, to_table
from cascade.traffic_writer import TrafficSettings, TrafficWriter
from cli.session import Session
from curator.engines import connect
from curator.engines.base import EngineIdentity
from curator.types import Completion, Decision, Decisions, Document, GenerateRequest, Message, Sample, Usage
from tests.cli.conftest import Project

SMALL = EngineIdentity("head", "small")


def strong(project: Project) -> EngineIdentity:
    """The project's engine is the strong tier of the cascade that served."""
    return connect(f"{project.url}#mock?dialect=chat").identity


def record(project: Project, number: int, *, escalated: bool, text: str = "") -> TrafficRecord:
    task = Session(config=project.settings).task()
    request = task.decide_request(Document("", text or f"served film {number}"))
    drafts = [TierAnswer("small", SMALL, ("label",), Decisions((Decision((-0.1, -2.4), None, "head"),), Usage(9, 1)))]
    if escalated:
        answer = Decisions((Decision((-2.0, -0.2), 0.9, "labels"),), Usage(40, 1), 0.5, 0.2)
        drafts.append(TierAnswer("strong", strong(project), ("label",), answer))
    tier, value = ("strong", "negative") if escalated else ("small", "positive")
    served = ServedAnswer("label", "f1", tier, value, 0.9, "reference:strong")
    time = datetime(2026, 5, 1, 12, number, tzinfo=UTC)
    return TrafficRecord(f"q{number}", time, "policy-1", request, (served,), tuple(drafts), 0.2)


def write(folder: Path, records: Sequence[TrafficRecord], *, content: bool = True) -> Path:
    writer = TrafficWriter(TrafficSettings(folder=folder, content=content))
    for item in records:
        writer.put(item)
    writer.close()
    return folder


@pytest.fixture
def traffic(project: Project) -> Path:
    return write(project.folder / "traffic", [record(project, n, escalated=n % 2 == 0) for n in range(20)])


def test_queries_become_documents_and_answers(project: Project, traffic: Path) -> None:
    (found,) = project.json("ingest", "--traffic", str(traffic))
    assert found == {
        "source": str(traffic), "records": 20, "known": 0, "without_content": 0, "documents": 20,
        "answers": 30, "answers_to_the_task": 30, "rejected": {},
    }  # fmt: skip
    assert project.json("status")[0]["traffic"] == {"small": 10, "strong": 10}
    documents = project.json("show", "documents")
    assert documents[0]["meta"]["tier"] == {"label": "small"} or documents[0]["meta"]["tier"] == {"label": "strong"}
    (life,) = project.json("why", documents[0]["id"])
    assert life["traffic"][0]["request_id"] == "q0"
    assert [row["engine"] for row in life["annotations"]]


def test_what_the_strong_tier_said_is_not_asked_again(project: Project, traffic: Path) -> None:
    """The ten escalated queries cost nothing; only the other ten are asked."""
    project.ok("ingest", "--traffic", str(traffic))
    (report,) = project.json("curate", "--no-ingest")
    assert (report["annotation"]["sent"], report["annotation"]["reused"]) == (10, 10)


def test_a_reference_that_answered_in_service_is_not_asked_again(project: Project, traffic: Path) -> None:
    project.write(f'[reference]\nspec = "{project.url}#other?dialect=chat"\nrows = 1000\n')
    other = EngineIdentity(**{**plain(strong(project)), "model": "other"})
    late = [_by(record(project, n, escalated=True), other) for n in range(20, 30)]
    write(traffic, late)
    project.ok("ingest", "--traffic", str(traffic))
    project.ok("curate", "--no-ingest")
    engines = {row["engine"]: row["completions"] for row in project.json("status")[0]["engines"]}
    # All 30 texts have the reference's answer, ten of them from service.
    assert engines[str(other)] == 30


def plain(identity: EngineIdentity) -> dict[str, str]:
    return {name: getattr(identity, name) for name in identity.__slots__}


def _by(item: TrafficRecord, engine: EngineIdentity) -> TrafficRecord:
    first, second = item.answers
    return replace(item, answers=(first, replace(second, engine=engine)))


def test_ingesting_again_changes_nothing(project: Project, traffic: Path) -> None:
    project.ok("ingest", "--traffic", str(traffic))
    before = project.json("status")[0]
    (again,) = project.json("ingest", "--traffic", str(traffic))
    assert (again["records"], again["known"], again["documents"], again["answers"]) == (20, 20, 0, 0)
    after = project.json("status")[0]
    assert {name for name in before if before[name] != after[name]} <= {"runs", "size_bytes"}
    # One more query: only that.
    write(traffic, [record(project, 30, escalated=True)])
    (more,) = project.json("ingest", "--traffic", str(traffic))
    assert (more["records"], more["known"], more["documents"]) == (21, 20, 1)


def test_a_text_that_is_a_document_already_keeps_its_id(project: Project) -> None:
    project.ok("ingest")
    same = record(project, 1, escalated=True, text=project.texts[3])
    twice = record(project, 2, escalated=False, text="twice served")
    folder = write(project.folder / "traffic", [same, twice, replace(twice, id="q3")])
    (found,) = project.json("ingest", "--traffic", str(folder))
    assert (found["documents"], found["known"]) == (1, 0)
    (life,) = project.json("why", "d3")
    assert life["document"]["meta"] == {}
    assert life["traffic"][0]["tier"] == "strong"
    assert project.json("status")[0]["traffic"] == {"small": 2, "strong": 1}


def test_without_content_only_answers_are_taken(project: Project) -> None:
    folder = write(project.folder / "bare", [record(project, n, escalated=True) for n in range(3)], content=False)
    (found,) = project.json("ingest", "--traffic", str(folder))
    assert (found["documents"], found["without_content"], found["answers"]) == (0, 3, 6)
    # The same texts from elsewhere find them.
    rows = b"\n".join(orjson.dumps({"text": f"served film {n}"}) for n in range(3))
    (project.folder / "texts.jsonl").write_bytes(rows)
    project.ok("ingest", str(project.folder / "texts.jsonl"))
    assert project.json("curate", "--no-ingest")[0]["annotation"]["reused"] == 3


def test_answers_to_another_question_are_kept_but_are_not_the_task_s(project: Project, traffic: Path) -> None:
    text = project.settings.read_text().replace("Good or bad?", "Any good?")
    project.settings.write_text(text)
    (found,) = project.json("ingest", "--traffic", str(traffic))
    assert (found["answers"], found["answers_to_the_task"]) == (30, 0)


def test_generated_answers_are_kept(project: Project) -> None:
    prompt = GenerateRequest((Message("user", "Tell me a joke."),))
    answer = TierAnswer("strong", strong(project), (), Completion((Sample("Why not?", "stop", -0.1),)))
    served = ServedAnswer("text", "f2", "strong", "Why not?", None, "raw")
    item = TrafficRecord("g1", datetime(2026, 5, 1, tzinfo=UTC), "p", prompt, (served,), (answer,))
    (found,) = project.json("ingest", "--traffic", str(write(project.folder / "t", [item])))
    assert (found["documents"], found["answers"], found["answers_to_the_task"]) == (1, 1, 0)
    assert project.json("show", "documents")[0]["text"] == "Tell me a joke."


def test_bad_rows_are_named_counted_and_skipped(project: Project, traffic: Path) -> None:
    rows = [to_row(record(project, 40, escalated=False)), to_row(record(project, 41, escalated=False, text=" "))]
    rows[0]["id"] = ""
    pq.write_table(to_table(rows), traffic / f"9{SUFFIX}")
    (traffic / f"99{SUFFIX}").write_bytes(b"half a file")
    for _ in range(2):
        (found,) = project.json("ingest", "--traffic", str(traffic))
        assert found["rejected"] == {
            "traffic.invalid_id": 1,
            "row.missing_text": 1,
            "traffic.unreadable_file": 1,
        }
        rejects = {(Path(row["source"]).name[:2], row["row"], row["reason"]) for row in project.json("show", "rejects")}
        assert rejects == {
            ("9.", 1, "traffic.invalid_id"), ("9.", 2, "row.missing_text"), ("99", 0, "traffic.unreadable_file"),
        }  # fmt: skip
    assert found["known"] == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--traffic", "nowhere"], "does not exist"),
        (["docs.jsonl", "--traffic", "traffic"], "not both"),
        (["--traffic", "other.parquet"], "traffic.missing_columns"),
    ],
)
def test_what_cannot_be_ingested_is_said(project: Project, arguments: list[str], message: str) -> None:
    pq.write_table(pa.table({"text": ["x"]}), project.folder / "other.parquet")
    where = [str(project.folder / item) if "." in item else item for item in arguments]
    done = project.run("ingest", *where)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_status_shows_what_was_served(project: Project, traffic: Path) -> None:
    project.ok("ingest", "--traffic", str(traffic))
    assert "small 10, strong 10" in project.ok("status").stdout
