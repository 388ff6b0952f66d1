"""Refinement (Somerstep et al. 2024, arXiv 2405.16236): the strong model writes weak answers anew, then learns them.

    python examples/methods/refinement.py --rows 6

A weak model replies to film reviews in a voice that only it was told of. The strong model is shown its replies as
examples, or infers what their style is, or improves them; alone, it does not know the voice. Here both are one model
(SmolLM2-135M keeps to no voice), so what differs is only what they were told. `goldless refine` does
this for files.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import aclosing

import anyio
from film_reviews import PLAN, film_reviews

from curator import Engine, connect, respond
from curator.datasets import read_rows
from curator.methods.refinement import Refining, refine
from curator.store import Store
from curator.task import Output, Task

ASKED = "Reply to this film review in one short sentence."
VOICE = f"{ASKED} Begin with the two words 'Dear friend,'."


async def main(weak: Engine, strong: Engine, rows: int) -> None:
    """Refine in all three ways; print the share of each arm's replies that have the voice, and one reply."""
    reviews = film_reviews(rows)
    task = respond(ASKED, max_tokens=60)
    refining = Refining(strong=strong, weak=weak, weak_instruction=VOICE)
    async with aclosing(strong):
        found = await refine(task, reviews.store, refining, source=reviews.source, plan=PLAN)
    print("arm      version  replies  in the voice")
    for name, version in found.versions.items():
        replies = list(texts(reviews.store, task, version.version))
        voiced = sum(reply.lstrip().lower().startswith("dear friend") for reply in replies)
        print(f"{name:8} {version.version:7} {len(replies):8} {voiced / max(len(replies), 1):13.2f}  {replies[:1]}")


def texts(store: Store, task: Task[Output], version: int) -> Iterator[str]:
    """The replies of a version."""
    for row in read_rows(store, task, version):
        (reply,) = row.output.model_dump().values()
        yield str(reply)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weak", default="vllm:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--strong", default="vllm:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--rows", type=int, default=6)
    given = parser.parse_args()
    anyio.run(main, connect(given.weak), connect(given.strong), given.rows)
