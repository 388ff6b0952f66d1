"""A cascade where the settings name an engine: curating, the dry run, the reference, budgets, and tiers of tiers."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from pydantic import BaseModel

from benchmarks.mock_server import MockServer
from curator.task import Task
from tests.cli.conftest import Project, Serve
from tests.cli.test_certification import TIERS, Large

COUNT = 220
CURATED = 60


class Servers:
    """The two tiers, and what they were asked."""

    def __init__(self, serve: Serve) -> None:
        self.small, self.large = serve(MockServer()), serve(Large())

    @property
    def asked(self) -> list[int]:
        return [sum(server.counts.values()) for server in (self.small, self.large)]


@pytest.fixture
def servers(serve: Serve) -> Servers:
    return Servers(serve)


@pytest.fixture
def certified(project: Project, servers: Servers) -> Project:
    """A policy made from some documents, and others to curate with it."""
    project.texts = [f"film number {i} was seen" for i in range(COUNT)]
    project.write(TIERS.replace("SMALL", servers.small.url).replace("LARGE", servers.large.url))
    project.ok("ingest")
    project.ok("certify", "--no-gate", "--out", str(policy_of(project)))
    project.texts = [f"film number {i} was seen" for i in range(COUNT, COUNT + CURATED)]
    (project.folder / "goldless.duckdb").unlink()
    use(project, servers)
    return project


def policy_of(project: Project, name: str = "policy.json") -> Path:
    return project.folder / name


def use(project: Project, servers: Servers, extra: str = "", query: str = "", **engine: object) -> None:
    """Settings whose engine is the cascade."""
    tiers = TIERS.replace("SMALL", servers.small.url).replace("LARGE", servers.large.url)
    project.write(f"{tiers}{extra}", **engine)
    text = project.settings.read_text(encoding="utf-8")
    spec = f'[engine]\nspec = "cascade:{policy_of(project)}{query}"'
    project.settings.write_text(re.sub(r'\[engine\]\nspec = "[^"]*"', spec, text), encoding="utf-8")


def certificate(project: Project, name: str = "policy.json") -> dict:
    return orjson.loads(policy_of(project, name).read_bytes())["questions"][0]["certificate"]


def test_documents_are_curated_and_the_store_says_who_answered(certified: Project, servers: Servers) -> None:
    before = servers.asked
    (report,) = certified.json("curate")
    small, large = (now - then for now, then in zip(servers.asked, before, strict=True))
    served = report["annotation"]["served_by"]
    assert served.keys() == {"small", "large"}
    assert sum(served.values()) == CURATED
    assert CURATED <= small < CURATED + 10, "a few calls find out what the server speaks"
    assert served["large"] <= large < served["large"] + 10
    # The calls that find out what a server speaks are paid too.
    cost = CURATED * 41e-7 + served["large"] * 41e-6
    assert cost - 1e-9 <= report["annotation"]["cost"] < cost + 10 * 45.1e-6

    lives = [certified.json("why", f"d{number}")[0]["annotations"][0] for number in range(30)]
    assert {tuple(life["served_by"]) for life in lives} == {("small",), ("large",)}
    usual = [life["cost"] == pytest.approx(45.1e-6 if life["served_by"] == ["large"] else 41e-7) for life in lives]
    assert sum(usual) > 20
    assert all(life["engine"] == "cascade:small>large" for life in lives)
    assert "served by" in certified.ok("why", "d0").stdout

    before = servers.asked
    (status,) = certified.json("status")
    assert (status["engines"][0]["engine"], status["unpriced"]) == ("cascade:small>large", 0)
    done = certified.ok("curate")
    assert servers.asked == before, "the same policy, the same answers: nothing is asked again"
    assert f"{CURATED} from before" in done.stdout
    assert "answers are expected of: small" in done.stderr


def test_a_dry_run_says_what_it_would_take(certified: Project, servers: Servers) -> None:
    before, found = servers.asked, certificate(certified)
    (dry,) = certified.json("curate", "--dry-run")
    assert (dry["calls"], dry["uncovered"]) == (CURATED, {})
    assert dry["cost"] == pytest.approx(CURATED * found["cost"])
    assert list(dry["served_by"].values()) == found["shares"]
    done = certified.ok("curate", "--dry-run")
    assert "the cost counts what is asked again" in done.stderr
    assert servers.asked[1] == before[1], "nothing is sent"


def test_what_no_certificate_covers_is_said_and_asked_of_the_teacher(certified: Project, servers: Servers) -> None:
    text = certified.settings.read_text(encoding="utf-8")
    certified.settings.write_text(text.replace("Good or bad?", "Bad or good?"), encoding="utf-8")
    (dry,) = certified.json("curate", "--dry-run")
    assert "its wording, options, examples or models are not those" in dry["uncovered"]["label"]
    assert dry["cost"] == pytest.approx(CURATED * certificate(certified)["baseline_cost"])
    before = servers.asked
    done = certified.ok("curate")
    assert "label: no certificate covers it: its wording" in done.stderr
    assert servers.asked[0] == before[0]
    use(certified, servers, query="?uncertified=refuse")
    text = certified.settings.read_text(encoding="utf-8")
    certified.settings.write_text(text.replace("Good or bad?", "Bad or good?"), encoding="utf-8")
    refused = certified.run("curate")
    assert refused.exit_code == 2
    assert "'label' is not certified" in refused.stderr


def test_a_tier_that_does_not_run_is_told(certified: Project, servers: Servers) -> None:
    servers.small.status["/v1/chat/completions"] = (400, {"error": {"message": "no such thing"}})
    done = certified.ok("curate")
    assert re.search(r"cost +0\.00\d+ USD", done.stdout)
    assert re.search(r"answered by +large 60", done.stdout)
    assert re.search(r"small was to give \d+% of 60 answers, and gave none: does it run\?", done.stderr)


def test_the_teacher_that_fails_fails_the_row_and_not_the_small_one_answers(
    certified: Project, servers: Servers
) -> None:
    servers.large.status["/v1/chat/completions"] = (400, {"error": {"message": "no such thing"}})
    done = certified.run("curate", "--json")
    assert done.exit_code == 3
    report = orjson.loads(done.stdout)["annotation"]
    assert report["served_by"].keys() == {"small"}
    assert report["failed"] + report["served_by"]["small"] == CURATED
    assert report["failed"] > 5


def test_a_budget_holds_over_all_tiers(certified: Project, servers: Servers) -> None:
    use(certified, servers, "[budget]\nmoney = 0.0002\n")
    done = certified.run("curate")
    assert done.exit_code == 4
    assert "the cap of 0.0002 on money is reached" in done.stderr
    (status,) = certified.json("status")
    assert 0 < status["cost"] <= 0.0002
    use(certified, servers, "[budget]\ncalls = 30\n")
    before = servers.asked
    assert certified.run("curate").exit_code == 4
    assert sum(servers.asked) - sum(before) <= 30 + 10


def test_a_cascade_is_a_reference_and_a_tier(certified: Project, servers: Servers) -> None:
    certified.write(f'[reference]\nspec = "cascade:{policy_of(certified)}"\nrows = 60\n')
    (report,) = certified.json("curate")
    assert report["fields"]["label"]["basis"] == "reference:cascade:small>large"

    certified.texts = [f"film number {i} was seen" for i in range(COUNT)]
    use(certified, servers)
    certified.ok("ingest")
    largest = servers.large.url
    inner = f"cascade:{policy_of(certified)}?uncertified=rules"
    tiers = ["--tier", f"inner={inner}", "--tier", f"last={largest}#mock?dialect=chat", "--price", "last=10,10"]
    outer = policy_of(certified, "outer.json")
    certified.ok("certify", *tiers, "--no-gate", "--out", str(outer))
    found = orjson.loads(outer.read_bytes())
    assert found["tiers"][0]["spec"] == inner
    assert found["questions"][0]["certificate"]["cost"] < found["questions"][0]["certificate"]["baseline_cost"]
    text = certified.settings.read_text(encoding="utf-8")
    certified.settings.write_text(re.sub(r'\[engine\]\nspec = "[^"]*"', f'[engine]\nspec = "cascade:{outer}"', text))
    (report,) = certified.json("curate")
    assert {"inner/small", "inner/large"} & report["annotation"]["served_by"].keys()


def test_what_is_wrong_is_said_before_anything_is_asked(certified: Project, servers: Servers) -> None:
    before = servers.asked
    wrong: list[tuple[dict[str, object], str, str]] = [
        ({"api_key": "k"}, "", "is a cascade: keys and prices are those of its tiers"),
        ({"price_input": 1, "price_output": 1}, "", "is a cascade: keys and prices are those of its tiers"),
        ({}, "?uncertified=maybe", "uncertified is 'maybe'"),
        ({}, "?key=absent.pub", "is not signed"),
    ]
    for engine, query, message in wrong:
        use(certified, servers, query=query, **engine)
        done = certified.run("curate")
        assert done.exit_code == 2
        assert message in done.stderr
    spec = f"cascade:{policy_of(certified)}"
    tiers = ["--tier", f"inner={spec}", "--tier", "last=http://localhost:1/v1#m"]
    done = certified.run("certify", *tiers, "--out", str(policy_of(certified)))
    assert done.exit_code == 2
    assert "is the policy of the tier inner" in done.stderr
    assert servers.asked == before


def test_a_lesson_is_of_one_model_and_a_policy_must_be_there(certified: Project) -> None:
    done = certified.run("curate", "--lesson", str(certified.folder / "lesson.json"))
    assert done.exit_code == 2
    assert "the engine is a cascade" in done.stderr
    policy_of(certified).unlink()
    done = certified.run("curate", "--dry-run")
    assert done.exit_code == 2
    assert "cannot be read: No such file" in done.stderr


WORDS = ("wonderful", "moving", "funny", "clever"), ("dreadful", "boring", "clumsy", "noisy")
PLAIN = ("The film starts slowly.", "My sister chose it.", "It runs for two hours.", "We saw it on a Friday.")


def review(number: int) -> str:
    """A review whose words say what it is; in every third others say the opposite, and they count."""
    own, other = WORDS[number % 2], WORDS[1 - number % 2]
    said = f"{PLAIN[number % 4]} I found it {own[number // 2 % 4]}"
    others = f"Others said {other[number // 3 % 4]}, {other[number // 5 % 4]} and {other[number // 7 % 4]}"
    return f"{said}. {others}, number {number}." if number % 3 == 0 else f"{said}, number {number}."


@pytest.mark.engine
def test_heads_on_a_real_encoder_as_tiers(project: Project) -> None:
    """A head that saw twelve simple reviews before one that saw two hundred of both kinds, on MiniLM."""
    pytest.importorskip("torch")
    from curator.engines.known import DEFAULT_ENCODER
    from curator.training.classifier import train_classifier
    from curator.training.supervision import Supervision

    project.texts = [review(number) for number in range(1000, 1300)]
    lines = ["[cascade]", "alpha = 0.1", "sample = 300", "gate = {rows = 0}"]
    project.write()
    (question,) = _task(project).questions
    simple = [number for number in range(30) if number % 3]
    for name, seen, price in (("few", simple[:12], 0.01), ("many", range(200), 1.0)):
        folder = project.folder / name
        supervision = Supervision.of_labels(
            question, [("positive", "negative")[(number + (number % 3 == 0)) % 2] for number in seen]
        )
        train_classifier(list(map(review, seen)), [supervision], folder, DEFAULT_ENCODER)
        prices = [f"price_input = {price}", f"price_output = {price}"]
        lines += ["[[cascade.tiers]]", f'name = "{name}"', f'spec = "head:{folder}"', *prices]
    tiers = "\n".join(lines) + "\n"
    project.write(tiers)
    project.ok("ingest")
    project.ok("certify", "--out", str(policy_of(project)))
    found = certificate(project)
    assert found["verdict"] == "PASS"
    project.write(tiers)
    text = project.settings.read_text(encoding="utf-8")
    spec = f'[engine]\nspec = "cascade:{policy_of(project)}"'
    project.settings.write_text(re.sub(r'\[engine\]\nspec = "[^"]*"', spec, text), encoding="utf-8")
    (dry,) = project.json("curate", "--dry-run")
    (report,) = project.json("curate")
    served = report["annotation"]["served_by"]
    assert served.keys() == {"few", "many"}
    assert served["few"] / 300 == pytest.approx(found["shares"][0], abs=0.1)
    assert report["annotation"]["cost"] == pytest.approx(dry["cost"], rel=0.25)
    (life,) = project.json("why", "d0")
    assert [one["served_by"] for one in life["annotations"] if "served_by" in one] in ([["few"]], [["many"]])


def _task(project: Project) -> Task[BaseModel]:
    from cli.build import task_of
    from cli.config import read_settings

    return task_of(read_settings(project.settings), project.folder)
