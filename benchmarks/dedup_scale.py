"""Near-duplicate removal at scale: speed, memory, and what it finds.

    python -m benchmarks.dedup_scale --sizes 100000 1000000 --json dedup.json

Documents are generated: `--words` words drawn from a Zipf law over 50,000; of 100 documents, 5 repeat
an earlier one exactly (in another case), 10 repeat one with 2% of its words replaced (true Jaccard
similarity of the 5-gram sets about 0.93), and 5 are boilerplate: one half is shared by all of them.
Each measurement has a process of its own, so that the peak memory is its own; the time of generating
is not counted. Arms: `near` is what goldless does, `exact` only the exact part, `signatures` only the
MinHash signatures, `rensa` the library's own streaming deduplicator over the same shingles as strings.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain

from curator.dedup import exact_duplicates, near_duplicates, normalised
from curator.dedup.minhash import PERMUTATIONS, SHINGLE, signatures
from curator.types import Document

Measured = dict[str, float | str]
BATCH = 2048
VOCABULARY = 50_000
HISTORY = 100_000
"""Earlier documents that duplicates are made from; it bounds the memory of the generator."""


def generate(documents: int, words: int, seed: int = 7) -> Iterator[list[Document]]:
    """Batches of documents whose ids say what they are: `new-5`, `exact-9`, `near-12`, `boiler-3`."""
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(VOCABULARY)]
    weights = list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    boilerplate = rng.choices(vocabulary, cum_weights=weights, k=words // 2)
    history: list[list[str]] = []
    batch: list[Document] = []
    for number in range(documents):
        draw = rng.random()
        kind, text = "new", rng.choices(vocabulary, cum_weights=weights, k=words)
        if draw < 0.15 and history:
            kind, text = ("exact", rng.choice(history)) if draw < 0.05 else ("near", list(rng.choice(history)))
            for _ in range(max(1, words // 50) if kind == "near" else 0):
                text[rng.randrange(words)] = rng.choice(vocabulary)
        elif draw < 0.20:
            kind, text = "boiler", boilerplate + text[: words - len(boilerplate)]
        elif len(history) < HISTORY:
            history.append(text)
        joined = " ".join(text)
        batch.append(Document(f"{kind}-{number}", joined.upper() if kind == "exact" else joined))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _near(batches: Iterator[list[Document]]) -> Iterator[str]:
    return (name for name, _ in near_duplicates(batches))


def _exact(batches: Iterator[list[Document]]) -> Iterator[str]:
    return (name for name, _ in exact_duplicates(batches))


def _signatures(batches: Iterator[list[Document]]) -> Iterator[str]:
    for batch in batches:
        signatures([normalised(document.text) for document in batch])
    yield from ()


def _rensa(batches: Iterator[list[Document]]) -> Iterator[str]:
    from rensa import RMinHashDeduplicator

    deduplicator = RMinHashDeduplicator(0.8, PERMUTATIONS, True, 16)
    for batch in batches:
        texts = [normalised(document.text) for document in batch]
        shingles = [[text[at : at + SHINGLE] for at in range(len(text) - SHINGLE + 1)] for text in texts]
        kept = deduplicator.add_pairs(zip((document.id for document in batch), shingles, strict=True))
        yield from (document.id for document, keep in zip(batch, kept, strict=True) if not keep)


ARMS: dict[str, Callable[[Iterator[list[Document]]], Iterator[str]]] = {
    "near": _near,
    "exact": _exact,
    "signatures": _signatures,
    "rensa": _rensa,
}


class Clock:
    """CPU seconds (user and system) spent outside the generator of documents."""

    def __init__(self) -> None:
        self.inside = 0.0
        self.start = time.process_time()

    def feed(self, batches: Iterator[list[Document]]) -> Iterator[list[Document]]:
        while True:
            began = time.process_time()
            batch = next(batches, None)
            self.inside += time.process_time() - began
            if batch is None:
                return
            yield batch

    def seconds(self) -> float:
        return time.process_time() - self.start - self.inside


def measure(arm: str, size: int, words: int) -> Measured:
    """One run in this process."""
    batches = generate(size, words)
    first = next(batches)  # vocabulary and libraries are loaded before the clock starts
    list(ARMS[arm](iter([first[:2]])))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = Clock()
    found: Counter[str] = Counter(name.split("-")[0] for name in ARMS[arm](clock.feed(chain([first], batches))))
    seconds = clock.seconds()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    planted = Counter(document.id.split("-")[0] for batch in generate(size, words) for document in batch)
    shares = {f"{kind}_rejected": found[kind] / max(planted[kind], 1) for kind in ("exact", "near", "boiler", "new")}
    return {
        "arm": arm,
        "documents": size,
        "rows_per_cpu_second": size / seconds,
        "cpu_ms_per_row": 1000 * seconds / size,
        "rss_growth_bytes_per_row": (peak - before) * 1024 / size,
        "peak_rss_mb": peak / 1024,
        **shares,
    }


def in_a_process(arm: str, size: int, words: int) -> Measured:
    """One run in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.dedup_scale",
        "--one",
        arm,
        "--sizes",
        str(size),
        "--words",
        str(words),
    ]
    answer: Measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return answer


def median(runs: Sequence[Measured]) -> Measured:
    """The median of each number over the repeats."""
    middle: Measured = {"arm": runs[0]["arm"]}
    for key in runs[0]:
        if key != "arm":
            middle[key] = statistics.median(float(run[key]) for run in runs)
    return middle


def table(rows: Sequence[Measured]) -> str:
    """As text, one line for each arm and size."""
    head = f"{'arm':<11}{'documents':>10}{'rows/s':>10}{'ms/row':>8}{'B/row':>7}{'peak MB':>9}"
    head += f"{'exact':>8}{'near':>7}{'boiler':>8}{'new':>8}   (share rejected)"
    return "\n".join([head, *map(_line, rows)])


def _line(row: Measured) -> str:
    return (
        f"{row['arm']:<11}{row['documents']:>10,.0f}{row['rows_per_cpu_second']:>10,.0f}"
        f"{row['cpu_ms_per_row']:>8.3f}{row['rss_growth_bytes_per_row']:>7,.0f}{row['peak_rss_mb']:>9,.0f}"
        f"{row['exact_rejected']:>8.3f}{row['near_rejected']:>7.3f}"
        f"{row['boiler_rejected']:>8.3f}{row['new_rejected']:>8.5f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5, help="for sizes up to 100,000; larger ones run once")
    parser.add_argument("--json", help="also write the rows to this file")
    parser.add_argument("--one", choices=list(ARMS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.sizes[0], args.words)))
        return
    rows = []
    for size in args.sizes:
        repeats = args.repeats if size <= 100_000 else 1
        runs = [[in_a_process(arm, size, args.words) for arm in args.arms] for _ in range(repeats)]
        rows += [median([run[position] for run in runs]) for position in range(len(args.arms))]
    print(table(rows))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
