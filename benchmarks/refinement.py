"""Refinement on arc_easy: is the content kept that weak answers lose, and the style gained that they alone have?

    python -m benchmarks.refinement --questions 100 --folder runs --json refinement.json

A weak model answers in a style that only it is told; the strong one never sees that instruction. Arms: `base`, the
strong model alone; `naive`, answers like the weak ones (they themselves: what a model that is trained on them aims at);
and the three refinements. Scored by rule: content is the right choice, style the greeting. Gold is read to score,
after everything is answered. One store, so that a run that broke off goes on; one model at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson

from curator.annotate import Progress
from curator.confidence import Floats
from curator.datasets import read_rows
from curator.engines import connect
from curator.evaluation.grades import mean_interval
from curator.methods.refinement import METHODS, Refining, refine
from curator.pipeline import Plan
from curator.screening import Screening
from curator.sources import open_source
from curator.store import Store
from curator.task import respond
from curator.types import JsonObject

INSTRUCTION = "Answer the question with one of the choices."
STYLED = """\
Answer the question with one of the choices, as a pirate would. Begin with "Arr, matey!", then say which choice is right
and why, in one short sentence."""
"""No example: Qwen2.5-Coder-0.5B repeats one for every question. It keeps to a greeting, and not to a last line."""
PLAN = Plan(screening=Screening(exact=False, near=None))

_GREETING = re.compile(r"\W*arr\b", re.IGNORECASE)
_SAYS = re.compile(r"\b(?:answer|choice|option)\b(?:\s+is)?\W{0,4}([A-D])\b", re.IGNORECASE)
_LETTER = re.compile(r"(?:^|[\s(*\"])([A-D])(?=[).:*\"]|\s*$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Item:
    """A question, its choices (letter -> text), and the right letter."""

    text: str
    choices: Mapping[str, str]
    right: str


def items(folder: Path, count: int) -> dict[str, Item]:
    """Up to `count` questions with four choices, the same ones every time."""
    rows = [orjson.loads(line) for line in (folder / "test.jsonl").read_bytes().splitlines()]
    rows = [row for row in rows if [one[:2] for one in row["choices"]] == ["A)", "B)", "C)", "D)"]]
    random.Random(0).shuffle(rows)
    return {
        row["id"]: Item(
            "\n".join([row["question"], *row["choices"]]),
            {one[0]: one[3:].strip() for one in row["choices"]},
            row["answer"],
        )
        for row in rows[:count]
    }


def choice(text: str, item: Item) -> str:
    """The letter that an answer chooses: as it says, else the first that stands alone, else the one choice whose words
    it holds; empty where there is none."""
    for pattern, place in ((_SAYS, -1), (_LETTER, 0)):
        if found := pattern.findall(text):
            letter: str = found[place]
            return letter.upper()
    folded = text.casefold()
    named = [letter for letter, words in item.choices.items() if words.casefold().strip(" .") in folded]
    return named[0] if len(named) == 1 else ""


def style(text: str) -> float:
    """1 where it begins with the greeting, else 0."""
    return float(bool(_GREETING.match(text)))


@dataclass(frozen=True, slots=True)
class Scored:
    """Per question: whether the answer is right (0 or 1), and its style; 0 where there is no answer."""

    content: Floats
    style: Floats
    answered: int


def scored(texts: Mapping[str, str], asked: Mapping[str, Item]) -> Scored:
    content = [float(choice(texts.get(name, ""), item) == item.right) for name, item in asked.items()]
    return Scored(np.array(content), np.array([style(texts.get(name, "")) for name in asked]), len(texts))


def table(arms: Mapping[str, Scored]) -> list[JsonObject]:
    """Every arm's means, and what it has over `base` and `naive`, with paired bootstrap intervals."""
    rows: list[JsonObject] = []
    for name, arm in arms.items():
        row: JsonObject = {"arm": name, "answered": arm.answered}
        for part in ("content", "style"):
            row[part] = asdict(mean_interval(getattr(arm, part)))
            for other in ("base", "naive"):
                difference = getattr(arm, part) - getattr(arms[other], part)
                row[f"{part}_over_{other}"] = asdict(mean_interval(difference))
        rows.append(row)
    return rows


async def answered(
    options: argparse.Namespace, asked: Mapping[str, Item]
) -> tuple[dict[str, dict[str, str]], JsonObject]:
    """Arm -> question id -> text, and the report of the run."""
    options.folder.mkdir(parents=True, exist_ok=True)
    corpus, store = options.folder / "questions.jsonl", Store(options.folder / "refinement.duckdb")
    corpus.write_bytes(b"\n".join(orjson.dumps({"id": name, "text": item.text}) for name, item in asked.items()))
    task, settings = respond(INSTRUCTION, max_tokens=options.max_tokens), json.loads(options.settings)
    async with aclosing(connect(f"{options.engine}:{options.strong}", **settings)) as strong:
        weak = connect(f"{options.engine}:{options.weak}", **settings)
        refining = Refining(strong, weak, STYLED, seed=options.seed)
        source = open_source(str(corpus))
        found = await refine(task, store, refining, source=source, plan=PLAN, progress=Progress())
    texts = {
        name: {row.document.id: row.output.response for row in read_rows(store, task, version.version)}
        for name, version in found.versions.items()
    }
    return texts, found.report


def show(rows: list[JsonObject]) -> None:
    def cell(row: JsonObject, key: str) -> str:
        found = row[key]
        assert isinstance(found, dict)
        return f"{found['value']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})".replace(
            "+", "", key.count("_") == 0
        )

    heads = ("content", "style", "content_over_base", "content_over_naive", "style_over_base")
    print(f"{'arm':<9}" + "".join(f"{head:>26}" for head in heads))
    for row in rows:
        print(f"{row['arm']:<9}" + "".join(f"{cell(row, head):>26}" for head in heads))


def main() -> None:
    options = arguments()
    asked = items(options.data / "arc_easy", options.questions)
    texts, report = asyncio.run(answered(options, asked))
    arms = {"base": texts["base"], "naive": texts["weak"], **{name: texts.get(name, {}) for name in METHODS}}
    rows = table({name: scored(found, asked) for name, found in arms.items()})
    show(rows)
    examples = {name: {arm: found.get(name) for arm, found in arms.items()} for name in list(asked)[:3]}
    command = f"python -m benchmarks.refinement --questions {options.questions} --folder runs --json refinement.json"
    models = {"weak": options.weak, "strong": options.strong, "questions": len(asked)}
    kept = {"arms": report["arms"], "concepts": report["concepts"], "examples": examples}
    if options.json:
        options.json.write_text(json.dumps({"command": command, **models, "rows": rows, **kept}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0, help="draws the batches")
    parser.add_argument("--engine", default="vllm", help="vllm or transformers")
    parser.add_argument("--weak", default="wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--strong", default="wheel:qwen2.5-coder-1.5b")
    parser.add_argument("--settings", default='{"max_model_len": 4096}', help="engine settings as JSON")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GOLDLESS_DATA", "../shared/data")))
    parser.add_argument("--folder", type=Path, required=True, help="where the store lies")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
