"""Open answers: the model reasons, answers several times, and the answers are voted on.

    python examples/solve_with_votes.py --engine transformers:wheel:qwen2.5-coder-0.5b

Samples of one model repeat each other's mistakes. So the confidence is the vote share, discounted by
how many independent votes they are worth, and it is called uncalibrated.
"""

from __future__ import annotations

import argparse
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path

import anyio

from curator import Engine, Plan, Screening, Store, connect, curate, open_source, solve

PROBLEMS = """\
A box holds 12 eggs. How many eggs are in 3 boxes?
A train leaves at 9 and arrives at 11. How many hours does it take?
Tom has 15 apples and gives away 6. How many are left?
A book costs 8 dollars and a pen 3. What do two books and a pen cost together?
"""


async def main(engine: Engine, store: Path, samples: int) -> None:
    """Answer every problem and print the winner, its share and a supporting line of reasoning."""
    problems = store.with_suffix(".txt")
    problems.write_text(PROBLEMS, encoding="utf-8")
    task = solve(Decimal, "Solve the problem.", samples=samples)
    plan = Plan(screening=Screening(near=None))
    async with aclosing(engine):
        result = await curate(task, engine, Store(store), source=open_source(problems), plan=plan)
    for row in result.rows():
        details = row.fields["answer"]
        assert isinstance(details, dict)
        print(f"{row.document.text}")
        print(f"    {row.output.answer}  confidence {row.confidence:.2f}, basis {details['basis']}")
        print(f"    {samples} samples are worth {details['effective_votes']:.1f} independent votes")
        print(f"    because: {row.output.reasoning[:100]!r}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default="transformers:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--store", type=Path, default=Path("solve_with_votes.duckdb"))
    parser.add_argument("--samples", type=int, default=5)
    given = parser.parse_args()
    anyio.run(main, connect(given.engine), given.store, given.samples)
