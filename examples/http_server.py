"""A model behind an OpenAI-compatible server, with a price, retries, and a cap on money.

    vllm serve Qwen/Qwen2.5-0.5B-Instruct
    python examples/http_server.py --engine http://localhost:8000/v1#Qwen/Qwen2.5-0.5B-Instruct

Every request is reserved against the budget before it is sent. When the cap is reached, the run stops
and what was answered is kept: with a larger budget the same program goes on from there.
"""

from __future__ import annotations

import argparse
from contextlib import aclosing
from pathlib import Path

import anyio

from curator import (
    Budget,
    Engine,
    GoldlessError,
    Plan,
    Price,
    Screening,
    Store,
    classify,
    connect,
    curate,
    open_source,
    wrap,
)
from curator.annotate import Progress
from curator.engines.wrappers import RetryPolicy
from curator.errors import BudgetExceededError

REVIEWS = Path(__file__).with_name("reviews.jsonl")
PRICE = Price(input=0.15, output=0.60, currency="USD")  # money per million tokens


async def main(server: Engine, source: Path, store: Path, money: float) -> None:
    """Label within the budget, and say what was spent."""
    engine = wrap(
        server,
        retry=RetryPolicy(attempts=6, total=300),  # 429, 5xx, dropped connections, timeouts
        concurrency=16,  # at most; fewer where the server says 429
        budget=Budget(calls=10_000, money=money),
        price=PRICE,
    )
    task = classify(["negative", "positive"], "Did the reviewer like the film?")
    progress = Progress()
    async with aclosing(engine):
        try:
            plan = Plan(screening=Screening(near=None))
            result = await curate(task, engine, Store(store), source=open_source(source), plan=plan, progress=progress)
        except BudgetExceededError as error:
            print(f"stopped: {error}")
        except GoldlessError as error:
            # One class for everything that goldless raises on purpose; the hint says how to mend it.
            print(f"failed: {error.message}\n  hint: {error.hint}")
            raise SystemExit(1) from None
        else:
            print(f"dataset version {result.version.version} has {result.version.rows} rows")
    print(f"{progress.sent} new answers, {progress.reused} from before, {progress.cost:.6f} {PRICE.currency}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default="http://localhost:8000/v1#Qwen/Qwen2.5-0.5B-Instruct")
    parser.add_argument("--source", type=Path, default=REVIEWS)
    parser.add_argument("--store", type=Path, default=Path("http_server.duckdb"))
    parser.add_argument("--money", type=float, default=0.50, help="the most that a run may cost")
    given = parser.parse_args()
    anyio.run(main, connect(given.engine), given.source, given.store, given.money)
