"""Progressive weak-to-strong reasoning (Yang et al. 2024, arXiv 2407.13647): what two models agree on, and pairs.

    python examples/methods/progressive.py --problems 30

Stage I keeps the problems that a weak and a strong model answer the same, compared by value. Stage II samples the
strong one: where its vote is clear, it makes preference pairs. `goldless train` and `goldless prefer` learn from the
two. Small models and small sums: what is shown is the way, not how far it leads (docs/benchmarks.md has gsm8k).
"""

from __future__ import annotations

import argparse
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import anyio
import orjson

from curator import Engine, Plan, Screening, Store, connect, open_source, solve
from curator.errors import InputError
from curator.evaluation.agreed import grade_kept, grade_pairs
from curator.methods.agreement import Agreement, Setup, agree
from curator.methods.contrast import Contrast, contrast
from curator.preferences import read_preferences
from curator.sources import Source

PROBLEMS = (
    ("Tom has {a} apples and gets {b} more. How many apples does he have?", lambda a, b: a + b),
    ("Ann has {a} books and gives {b} away. How many books are left?", lambda a, b: a - b),
    ("A pen costs {a} dollars and a cup {b} dollars. What do they cost together?", lambda a, b: a + b),
    ("A box holds {a} pens. How many pens do {b} boxes hold?", lambda a, b: a * b),
    ("Sam buys {b} toys at {a} dollars each and pays with 50 dollars. What does he get back?", lambda a, b: 50 - a * b),
)


def problems(count: int) -> list[tuple[str, str, str]]:
    """(id, text, answer) of `count` problems."""
    asked = [(PROBLEMS[number % 5], 5 + number % 7, 1 + number % 4) for number in range(count)]
    return [(f"p{i}", text.format(a=a, b=b), str(right(a, b))) for i, ((text, right), a, b) in enumerate(asked)]


def written(rows: list[tuple[str, str, str]]) -> Source:
    """The problems without their answers."""
    path = Path("problems.jsonl")
    path.write_bytes(b"\n".join(orjson.dumps({"id": name, "text": text}) for name, text, _ in rows))
    return open_source(path)


async def main(weak: Engine, strong: Engine, count: int, samples: int) -> None:
    """Both stages, then what gold says about what was kept."""
    rows = problems(count)
    task = solve(int, "Solve the problem step by step.")
    task = replace(task, sampling=replace(task.sampling, max_tokens=200))
    plan, setup = Plan(screening=Screening(near=None)), Setup(weak, strong, agreement=Agreement(rounds=1))

    # `agree` closes the weak engine itself, so that two models need no memory at the same time.
    async with aclosing(strong):
        agreed = await agree(task, setup, Store("problems.duckdb"), source=written(rows), plan=plan)
        kept, gold = agreed.rounds[0], {name: (text, answer) for name, text, answer in rows}
        print(f"kept {kept.report['kept']} of {count}, version {kept.version.version}: {kept.version.rows} rows")
        print({name: round(value, 2) for name, value in grade_kept(kept.kept, gold).items()})
        try:
            pairs = await contrast(agreed, strong, plan=plan, settings=Contrast(samples=samples))
        except InputError as error:
            print(f"Stage II: {error}")
            return
    print(f"Stage II: {pairs.report['outcomes']}")
    found = grade_pairs(read_preferences(agreed.store, pairs.version.version), gold)
    print(f"pairs {found['pairs']}, chosen right {found['chosen_right']}, rejected wrong {found['rejected_wrong']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weak", default="vllm:wheel:smollm2-135m")
    parser.add_argument("--strong", default="vllm:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--problems", type=int, default=30)
    parser.add_argument("--samples", type=int, default=8)
    given = parser.parse_args()
    anyio.run(main, connect(given.weak), connect(given.strong), given.problems, given.samples)
