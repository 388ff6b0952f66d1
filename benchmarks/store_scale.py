"""The store at scale: what a million documents cost, stage by stage.

    python -m benchmarks.store_scale --sizes 100000 1000000 --json store.json

Documents of `--words` words are generated; each gets one completion with `--votes` sampled answers,
appended to a run as the annotator does it. Stages: `ingest`, `again` (the same documents once more),
`append` (journal and flushes; two records per document), `aggregate` (read the samples and vote),
`label` (write the labels), `select` (read the labels, freeze the better half as a version), `export`
(the version to Parquet), `status`, `why` (of one document). Each stage is a process of its own, so
that the peak memory is its own. CPU is of the whole process, DuckDB's threads included.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curator.aggregate import vote
from curator.engines.base import EngineIdentity
from curator.records import AnnotationRecord, CompletionRecord
from curator.store import DATASET_INPUT, LABELS, Store
from curator.types import Completion, Document, Sample, Usage

Measured = dict[str, float | str]
BATCH = 2048
TASK = "topic"
OPTIONS = ('"news"', '"sport"', '"review"', '"question"')
ENGINE = EngineIdentity("http", "benchmark/model", "http://127.0.0.1:1/v1")


def name_of(number: int) -> str:
    return f"doc-{number:09d}"


def documents(count: int, words: int) -> Iterator[list[Document]]:
    """Batches of documents over a vocabulary of 20,000 words."""
    chooser = random.Random(7)
    vocabulary = [
        "".join(chooser.choices("abcdefghijklmnopqrstuvwxyz", k=chooser.randint(2, 10))) for _ in range(20_000)
    ]
    for start in range(0, count, BATCH):
        yield [
            Document(name_of(number), " ".join(chooser.choices(vocabulary, k=words)), {"stars": number % 5})
            for number in range(start, min(count, start + BATCH))
        ]


def ingest(store: Store, count: int, options: argparse.Namespace) -> None:
    store.add_documents(documents(count, options.words), source="generated", run_id="benchmark")


def append(store: Store, count: int, options: argparse.Namespace) -> None:
    chooser = random.Random(11)
    with store.run("benchmark", {}) as run:
        for number in range(count):
            right = number % 4
            votes = [OPTIONS[right if chooser.random() < 0.8 else chooser.randrange(4)] for _ in range(options.votes)]
            key = hashlib.blake2b(name_of(number).encode(), digest_size=16).hexdigest()
            answer = Completion(tuple(map(Sample, votes)), Usage(100, 40), 0.00001, 0.25)
            run.append(CompletionRecord(key, ENGINE, "generate", answer))
            run.append(AnnotationRecord(name_of(number), TASK, -1, 0, key))


def voted(store: Store) -> Iterator[pa.Table]:
    """Tables of labels."""
    for table in store.samples(TASK):
        ids = table["document_id"].to_pylist()
        result = vote(table["samples"].to_pylist(), options=len(OPTIONS))
        same: dict[str, object] = {"field": "topic", "basis": result.basis, "probabilities": None, "flags": []}
        columns = {"document_id": ids, "value": list(result.values), "confidence": result.confidence}
        columns |= {name: [value] * len(ids) for name, value in same.items()}
        columns["effective_votes"] = result.effective_votes
        yield pa.table([pa.array(columns[item.name], item.type) for item in LABELS], LABELS)


def aggregate(store: Store, count: int, options: argparse.Namespace) -> None:
    assert sum(table.num_rows for table in voted(store)) == count


def label(store: Store, count: int, options: argparse.Namespace) -> None:
    assert store.write_labels(TASK, "benchmark", voted(store)) == count


def select(store: Store, count: int, options: argparse.Namespace) -> None:
    confidence = pa.concat_arrays([chunk for table in store.labels(TASK) for chunk in table["confidence"].chunks])
    threshold = sorted(confidence.to_pylist())[count // 2]

    def rows() -> Iterator[pa.Table]:
        for table in store.labels(TASK):
            kept = table.filter(pc.greater_equal(table["confidence"], threshold))
            given = {
                "document_id": kept["document_id"],
                "output": pc.binary_join_element_wise('{"topic":', kept["value"], "}", ""),
                "confidence": kept["confidence"],
                "weight": kept["confidence"],
                "fields": pa.array(["{}"] * kept.num_rows),
            }
            yield pa.table(given).cast(DATASET_INPUT)

    made = store.create_dataset(TASK, {"threshold": threshold}, rows(), {}, "benchmark")
    assert made.rows >= count // 2


def export(store: Store, count: int, options: argparse.Namespace) -> None:
    version = store.datasets()[-1]
    target = store.path.with_name("export.parquet")
    writer: pq.ParquetWriter | None = None
    for table in store.dataset_rows(version.version):
        writer = writer or pq.ParquetWriter(target, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def status(store: Store, count: int, options: argparse.Namespace) -> None:
    assert store.status().documents == count


def why(store: Store, count: int, options: argparse.Namespace) -> None:
    assert store.why(name_of(count // 2))["labels"]


STAGES: dict[str, Callable[[Store, int, argparse.Namespace], None]] = {
    "ingest": ingest,
    "again": ingest,
    "append": append,
    "aggregate": aggregate,
    "label": label,
    "select": select,
    "export": export,
    "status": status,
    "why": why,
}


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(options: argparse.Namespace) -> Measured:
    """Run one stage in this process. Making the documents is measured too and taken off."""
    count, path = options.sizes[0], Path(options.folder) / "store.duckdb"
    store = Store(path)
    base = 0.0, 0.0
    if options.stage in ("ingest", "again"):
        began, started = cpu(), time.perf_counter()
        for _ in documents(count, options.words):
            pass
        base = cpu() - began, time.perf_counter() - started
    began, started = cpu(), time.perf_counter()
    STAGES[options.stage](store, count, options)
    used, seconds = cpu() - began - base[0], time.perf_counter() - started - base[1]
    return {
        "documents": count,
        "stage": options.stage,
        "seconds": round(seconds, 2),
        "rows_per_second": round(count / seconds),
        "cpu_ms_per_row": round(used / count * 1000, 4),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "bytes_per_row": round(path.stat().st_size / count),
    }


def in_a_process(stage: str, count: int, folder: str, options: argparse.Namespace) -> Measured:
    command = [sys.executable, "-m", "benchmarks.store_scale", "--stage", stage, "--folder", folder]
    command += ["--sizes", str(count), "--words", str(options.words), "--votes", str(options.votes)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert isinstance(found, dict)
    return found


def show(row: Measured) -> None:
    print("  ".join(f"{value:>14}" for value in row.values()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000], help="numbers of documents")
    parser.add_argument("--words", type=int, default=50, help="words per document")
    parser.add_argument("--votes", type=int, default=10, help="sampled answers per document")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(measure(options)))
        return
    rows: list[Measured] = []
    for count in options.sizes:
        with tempfile.TemporaryDirectory(prefix="goldless-store-") as folder:
            for stage in STAGES:
                rows.append(in_a_process(stage, count, folder, options))
                if len(rows) == 1:
                    print("  ".join(f"{name:>14}" for name in rows[0]))
                show(rows[-1])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
