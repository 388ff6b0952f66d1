"""The whole circle with real models: curate, train, certify, serve, take the traffic in, and again.

    python -m benchmarks.flywheel --data DATA --folder circle --turns 3 --json flywheel.json

The strong tier is a MiniLM head that rules of thumb taught (no gold), the small one a MiniLM head that learns from the
strong one's answers: at first to a few documents, after each turn also to the queries that were escalated or audited.
Every step is the command or the class that a user has. Prices are made up, the small tier's a fiftieth; the
questions of trec are the traffic. The risk is measured by asking the strong tier about every query afterwards.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import anyio
import orjson
from typer.testing import CliRunner

from cascade.artifact import load
from cascade.live import LiveSettings
from cascade.observer import Observer
from cascade.policy import Policy
from cascade.router import Cascade
from cascade.traffic_files import read_traffic
from cascade.traffic_writer import TrafficSettings, TrafficWriter
from cli.main import app
from cli.session import Session
from curator.engines import connect
from curator.engines.wrappers import wrap
from curator.training.classifier import train_classifier
from curator.training.supervision import Supervision
from curator.types import Document, JsonObject, Price

LABELS = ("abbreviation", "description", "entity", "human", "location", "number")
RULES = (
    ("abbreviation", ("stand for", "abbreviat", "acronym")),
    ("human", ("who ", "whose ", "whom ")),
    ("location", ("where ", "country", "city", "state ", "river", "mountain")),
    ("number", ("how many", "how much", "how long", "how old", "how far", "when ", "what year", "date", "population")),
    ("description", ("how ", "why ", "what is ", "what are ", "mean", "define", "describe", "difference")),
)
SMALL, STRONG = Price(0.02, 0.02), Price(1.0, 1.0)
SETTINGS = """\
[source]
uri = "seed.jsonl"
[task]
instruction = "What does the question ask for?"
[task.fields.label]
kind = "choice"
labels = {labels}
[engine]
spec = "head:{strong}"
price_input = 1.0
price_output = 1.0
[dedup]
near = false
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many texts teach the strong tier, begin the first curation, are asked about for one certificate, and are
    served in one turn."""

    taught: int = 1000
    seed: int = 100
    sample: int = 500
    served: int = 700


@dataclass(frozen=True, slots=True)
class Turn:
    """One time around. Costs are per 1,000 queries; `audit_cost` comes on top of `cost`. `risk` is the share of the
    queries whose answer was not the strong tier's; `labels` is what the small tier learned from, `asked` how many of
    them were asked for that."""

    verdict: str
    labels: int
    asked: int
    served_small: float
    cost: float
    audit_cost: float
    strong_alone: float
    risk: float
    bound: float | None
    seconds: float


@dataclass(slots=True)
class Circle:
    """A project's folder, and the texts that are left for its traffic."""

    folder: Path
    texts: list[str]
    sizes: Sizes
    alpha: float = 0.1

    def begin(self) -> None:
        """Teach the strong tier, write the settings and the first documents."""
        taught = self._next(self.sizes.taught)
        strong = self.folder / "strong"
        self._settings(strong)
        field = Supervision.of_labels(self._session.task().questions[0], [rule_of_thumb(text) for text in taught])
        train_classifier(taught, [field], strong)
        self._write("seed.jsonl", self._next(self.sizes.seed))

    def turn(self, number: int) -> Turn:
        """Curate, train, certify, serve, and take in what was served."""
        started, small = monotonic(), self.folder / f"small-{number}"
        curated = self._run("curate", "--limit", str(self.sizes.seed), *(["--no-ingest"] if number else []))
        self._run("train", "--method", "head", "--out", str(small))
        sample = self._write(f"sample-{number}.jsonl", self._next(self.sizes.sample))
        tiers = ["--tier", f"small=head:{small}", "--tier", f"strong=head:{self.folder / 'strong'}"]
        tiers += ["--price", "small=0.02,0.02", "--price", "strong=1,1"]
        asked = ["--traffic", str(sample), "--sample", str(self.sizes.sample), "--alpha", str(self.alpha)]
        path = self.folder / f"policy-{number}.json"
        self._run("certify", *tiers, *asked, "--no-gate", "--out", str(path), allowed=(0, 3))
        traffic = self.folder / f"traffic-{number}"
        served = anyio.run(self._serve, load(path), small, traffic, self._next(self.sizes.served))
        self._run("ingest", "--traffic", str(traffic))
        annotated = curated["annotation"]
        assert isinstance(annotated, dict)
        return Turn(labels=curated["rows"], asked=annotated["sent"], seconds=monotonic() - started, **served)

    async def _serve(self, policy: Policy, small: Path, traffic: Path, texts: Sequence[str]) -> JsonObject:
        """Answer the texts one after the other, follow each, and measure."""
        task, wrong = self._session.task(), 0
        writer = TrafficWriter(TrafficSettings(folder=traffic, content=True))
        async with (
            aclosing(wrap(connect(f"head:{small}"), price=SMALL)) as first,
            aclosing(wrap(connect(f"head:{self.folder / 'strong'}"), price=STRONG)) as last,
        ):
            tiers = {"small": first, "strong": last}
            observer = Observer(lambda made: Cascade(tiers, made), policy, LiveSettings(), writer=writer)
            for number, text in enumerate(texts):
                request = task.decide_request(Document("", text))
                routed = await observer.cascade.route(request)
                await observer.follow(f"{traffic.name}-{number}", request, routed, datetime.now(UTC))
                theirs, (ours,) = (await last.decide(request)).answers[0], routed.answers
                wrong += theirs is None or ours.answer is None or ours.answer.top != theirs.top
        writer.close()
        (question,) = policy.questions
        return {
            **_costs(traffic),
            "verdict": str(question.certificate.verdict),
            "bound": question.certificate.bound,
            "risk": wrong / len(texts),
        }

    @property
    def _session(self) -> Session:
        return Session(config=self.folder / "goldless.toml")

    def _settings(self, strong: Path) -> None:
        text = SETTINGS.format(labels=orjson.dumps(LABELS).decode(), strong=strong)
        (self.folder / "goldless.toml").write_text(text, encoding="utf-8")

    def _next(self, count: int) -> list[str]:
        taken, self.texts = self.texts[:count], self.texts[count:]
        assert len(taken) == count, "the corpus is too small for so many turns"
        return taken

    def _write(self, name: str, texts: Sequence[str]) -> Path:
        path = self.folder / name
        path.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))
        return path

    def _run(self, command: str, *arguments: str, allowed: Sequence[int] = (0,)) -> JsonObject:
        given = [command, "--config", str(self.folder / "goldless.toml"), *arguments, "--json"]
        done = CliRunner().invoke(app, given)
        assert done.exit_code in allowed, (command, done.stdout, done.stderr, done.exception)
        found: JsonObject = orjson.loads(done.stdout.splitlines()[0])
        return found


def _costs(traffic: Path) -> JsonObject:
    """Money per 1,000 queries, and the share that the small tier served, from the traffic records."""
    records = [row.record for row in read_traffic(traffic) if row.record]
    small = [record.served[0].tier == "small" for record in records]
    spent = audits = strong = asked = 0.0
    for record, alone in zip(records, small, strict=True):
        for answer in record.answers:
            cost, last = answer.answer.cost or 0.0, answer.tier == "strong"
            strong, asked = strong + cost * last, asked + last
            audits, spent = audits + cost * (last and alone), spent + cost * (not (last and alone))
    count = len(records)
    return {
        "served_small": sum(small) / count,
        "cost": 1000 * spent / count,
        "audit_cost": 1000 * audits / count,
        "strong_alone": 1000 * strong / max(asked, 1),
    }


def rule_of_thumb(text: str) -> str:
    """The first label whose words are in the question."""
    lower = text.lower() + " "
    return next((label for label, words in RULES if any(word in lower for word in words)), "entity")


def corpus(data: Path, seed: int = 0) -> list[str]:
    """The distinct questions of trec in a seeded order. Their labels are not read."""
    rows = (data / "trec" / "train.jsonl").read_bytes().splitlines()
    texts = sorted({orjson.loads(row)["text"] for row in rows})
    random.Random(seed).shuffle(texts)
    return texts


def main() -> None:
    """Print one line per turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds trec/")
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the project")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the turns")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    circle = Circle(given.folder.absolute(), corpus(given.data, given.seed), Sizes(), given.alpha)
    circle.begin()
    turns = [circle.turn(number) for number in range(given.turns)]
    for turn in turns:
        print(" | ".join(f"{name} {value}" for name, value in asdict(turn).items()))
    if given.json:
        given.json.write_bytes(orjson.dumps(turns, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
