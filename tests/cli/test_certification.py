"""goldless certify, against two mock servers: a small model that is unsure of some texts, and a large one."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from aiohttp import web

from benchmarks import mock_model
from benchmarks.mock_server import MockServer
from curator.engines.retry import RetryPolicy
from tests.cli.conftest import Project, Serve

TIERS = """
[cascade]
sample = 300
alpha = 0.1
gate = {rows = 20, order = 1, paraphrase = 1, negation = 1, injection = 1}
[[cascade.tiers]]
name = "small"
spec = "SMALL#mock?dialect=chat"
price_input = 0.1
price_output = 0.1
[[cascade.tiers]]
name = "large"
spec = "LARGE#mock?dialect=chat"
price_input = 1.0
price_output = 1.0
"""


class Large(MockServer):
    """Answers as the small one where that is sure, and its own way where it is not."""

    def _answer(self, request: web.BaseRequest, raw: bytes) -> web.Response:
        said = orjson.loads(raw)
        text = said["messages"][-1]["content"]
        if max(mock_model.distribution(text, self.labels)) < 0.75:
            said["messages"][-1]["content"] = text + "!"
        return super()._answer(request, orjson.dumps(said))


@pytest.fixture
def cascade(project: Project, serve: Serve) -> Project:
    """Four hundred documents in the store, two tiers in the settings."""
    project.texts = [f"film number {i} was seen" for i in range(400)]
    small, large = serve(MockServer()), serve(Large())
    project.write(TIERS.replace("SMALL", small.url).replace("LARGE", large.url))
    project.servers = small, large  # type: ignore[attr-defined]
    project.ok("ingest")
    return project


def asked(project: Project) -> list[int]:
    return [sum(server.counts.values()) for server in project.servers]  # type: ignore[attr-defined]


def policy_at(project: Project) -> Path:
    return project.folder / "policy.json"


def test_a_policy_is_made_and_nothing_is_paid_twice(cascade: Project) -> None:
    (found,) = cascade.json("certify", "--out", str(policy_at(cascade)))
    (question,) = found["questions"]
    certificate = question["certificate"]
    assert (certificate["verdict"], certificate["basis"], certificate["rows"]) == ("PASS", "vs_teacher", 150)
    assert certificate["risk"] <= certificate["bound"] <= 0.1
    assert 0.1 < certificate["shares"][0] < 1
    assert certificate["baseline_cost"] == pytest.approx(41e-6)
    assert certificate["cost"] == pytest.approx(41e-7 + 41e-6 * certificate["shares"][1])
    assert [note for note in certificate["notes"] if note.startswith("small: injection changes")]
    before = asked(cascade)
    assert before[0] >= 300 + 3 * 20
    assert 300 <= before[1] < 310, "a few calls find out what the server speaks"
    done = cascade.ok("certify", "--no-gate", "--out", str(policy_at(cascade)))
    assert asked(cascade) == before
    assert "PASS" in done.stdout
    assert "- label: served answers differ from large's in at most 10.00% of queries; saves" in done.stdout
    assert "the policy is in" in done.stderr


def test_the_policy_runs_as_a_cascade(cascade: Project) -> None:
    import asyncio

    from cascade.artifact import load
    from cascade.opening import open_cascade
    from cascade.policy import Verdict
    from cli.build import task_of
    from cli.config import read_settings
    from curator.types import Document

    cascade.ok("certify", "--no-gate", "--out", str(policy_at(cascade)))
    policy = load(policy_at(cascade))
    assert policy.questions[0].certificate.verdict is Verdict.PASS
    task = task_of(read_settings(cascade.settings), cascade.folder)
    before = asked(cascade)

    async def run() -> None:
        engine = open_cascade(policy_at(cascade))
        for number in range(300, 400):
            await engine.decide(task.decide_request(Document("d", f"film number {number} was seen")))
        await engine.aclose()

    asyncio.run(run())
    small, large = (now - then for now, then in zip(asked(cascade), before, strict=True))
    assert 100 <= small < 110
    assert 0 < large < 80, "the fingerprint fits, so sure answers are served by the small model"


def test_a_failed_gate_blocks(cascade: Project) -> None:
    text = cascade.settings.read_text(encoding="utf-8")
    cascade.settings.write_text(text.replace("injection = 1", "injection = 0.0"), encoding="utf-8")
    done = cascade.run("certify", "--out", str(policy_at(cascade)))
    assert done.exit_code == 3
    assert "the gate: small: injection changes" in done.stdout
    assert orjson.loads(policy_at(cascade).read_bytes())["questions"][0]["rules"][0]["threshold"] is None


def test_traffic_from_a_file_and_tiers_from_the_command_line(cascade: Project) -> None:
    rows = b"".join(orjson.dumps({"id": f"q{i}", "text": f"a query {i}"}) + b"\n" for i in range(250))
    (cascade.folder / "traffic.jsonl").write_bytes(rows)
    small, large = cascade.servers  # type: ignore[attr-defined]
    tiers = ["--tier", f"a={small.url}#mock?dialect=chat", "--tier", f"b={large.url}#mock?dialect=chat"]
    extra = ["--traffic", str(cascade.folder / "traffic.jsonl"), "--no-gate", "--out", str(policy_at(cascade))]
    done = cascade.run("certify", *tiers, *extra, "--price", "b=2,2", "--json")
    found = orjson.loads(done.stdout)
    assert [tier["name"] for tier in found["tiers"]] == ["a", "b"]
    assert [tier["price"] for tier in found["tiers"]] == [None, [2.0, 2.0]]
    certificate = found["questions"][0]["certificate"]
    assert certificate["rows"] == 125
    assert certificate["cost"] is None or certificate["verdict"] != "PASS"
    assert "the prices of a and b are not all known" in certificate["reason"]


def test_against_the_truth_with_audits(cascade: Project) -> None:
    cascade.ok("curate")
    sheet = cascade.folder / "sheet.jsonl"
    cascade.ok("audit", "--draw", "120", "--out", str(sheet))
    small = MockServer()
    rows = [orjson.loads(line) for line in sheet.read_bytes().splitlines()]
    for row in rows:
        row["label"] = small.labels[0]
    sheet.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    cascade.ok("audit", str(sheet), "--auditor", "ann")
    done = cascade.run("certify", "--audits", "--no-gate", "--json", "--out", str(policy_at(cascade)))
    assert done.exit_code == 3
    certificate = orjson.loads(done.stdout)["questions"][0]["certificate"]
    assert (certificate["basis"], certificate["rows"], certificate["verdict"]) == ("vs_truth", 120, "BLOCK")
    assert "large itself is wrong in" in certificate["reason"]


def test_too_few_documents(cascade: Project) -> None:
    done = cascade.run("certify", "--sample", "30", "--no-gate", "--out", str(policy_at(cascade)))
    assert done.exit_code == 3
    assert "INCONCLUSIVE" in done.stdout
    assert "at least 22 are needed, 44 with the learning half" in done.stdout


def test_a_tier_that_answers_nothing_is_skipped(
    cascade: Project, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0.0)
    broken = serve(MockServer(status={"/v1/chat/completions": (400, {"error": {"message": "no"}})}))
    _, large = cascade.servers  # type: ignore[attr-defined]
    tiers = ["--tier", f"a={broken.url}#mock?dialect=chat", "--tier", f"b={large.url}#mock?dialect=chat"]
    done = cascade.run("certify", *tiers, "--sample", "100", "--no-gate", "--out", str(policy_at(cascade)))
    assert done.exit_code == 3, done.stderr
    assert "a never answered and is skipped" in done.stdout
    assert "of a's answers, failed: rejected 100" in done.stderr
    assert "use b alone" in done.stdout
    gone = cascade.run("certify", "--tier", "a=http://127.0.0.1:9/v1#m?dialect=chat&timeout=1", *tiers[2:])
    assert gone.exit_code == 1, "a tier that cannot be reached is no tier that refuses"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tier", "a"], "--tier 'a' is not NAME=..."),
        (["--tier", "a=head:x"], "needs two tiers or more"),
        (["--tier", "a=head:x", "--tier", "a=head:y"], "with different names"),
        (["--price", "tiny=1,1"], "--price names 'tiny', which is no tier"),
        (["--price", "small=1"], "--price small=1 is not IN,OUT"),
        (["--price", "small=1,-1"], "is not IN,OUT"),
        (["--sign", "absent.pem"], "the key absent.pem cannot be read"),
        (["--out", "nowhere/policy.json"], "there is no folder for nowhere/policy.json"),
        (["--audits"], "no document was audited"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(cascade: Project, arguments: list[str], message: str) -> None:
    done = cascade.run("certify", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert asked(cascade) == [0, 0]


def test_an_empty_store(project: Project) -> None:
    project.write(TIERS.replace("SMALL", project.url).replace("LARGE", project.url))
    done = project.run("certify")
    assert done.exit_code == 2
    assert "there are no documents to ask the tiers about" in done.stderr
