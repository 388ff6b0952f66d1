"""What refinement's arms were answered, and the dataset version that each of them becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson
import pyarrow as pa

from curator.parsing import MISSING
from curator.store import DATASET_INPUT, DatasetVersion, Run, Store
from curator.task import Output, Task
from curator.types import Document, Json, JsonObject

CUT_OFF: Final = "length"
"""The finish reason of a text that ran into `max_tokens`. Training on such texts teaches to stop anywhere, so they are
left out."""

PAGE: Final = 8192
"""Rows that are written to a version at a time."""


@dataclass(frozen=True, slots=True)
class Replies:
    """Document -> its whole text; `missing` counts the documents without one by why: the code of a failure, `cut_off`,
    `empty`, `no_answer` (of a column), `not_asked`."""

    texts: dict[str, str] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, text: str, finish: str = "") -> None:
        """One document's text."""
        if finish == CUT_OFF:
            self.missing["cut_off"] += 1
        elif not text.strip():
            self.missing["empty"] += 1
        else:
            self.texts[name] = text.strip()


def read_replies(store: Store, asked: str, wanted: Collection[str]) -> Replies:
    """What the documents in `wanted` were answered under the annotation id `asked`, the first sample of each."""
    found = Replies()
    for table in store.samples(asked):
        columns = (table[name].to_pylist() for name in ("document_id", "samples", "finish_reasons", "error"))
        for name, texts, finishes, error in zip(*columns, strict=True):
            if name not in wanted:
                continue
            if error or not texts:
                found.missing[error or "empty"] += 1
            else:
                found.add(name, texts[0] or "", (finishes or [""])[0])
    return found


def written_answers(documents: Mapping[str, Document], column: str) -> Replies:
    """The answers that stand beside the documents' texts, in the column `column`."""
    found = Replies()
    for name, document in documents.items():
        answer = document.meta.get(column)
        if answer is None:
            found.missing["no_answer"] += 1
        else:
            found.add(name, answer if isinstance(answer, str) else orjson.dumps(answer).decode())
    return found


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to have the documents answered: its name, who answered (empty: a person's column), and what."""

    name: str
    written_by: str
    replies: Replies
    annotation: JsonObject

    def report(self, others: Mapping[str, Arm]) -> JsonObject:
        """Counts, the mean length, and the share of texts that are another arm's word for word."""
        texts = self.replies.texts
        same: dict[str, Json] = {
            f"same_as_{name}": sum(text == other.replies.texts.get(key) for key, text in texts.items())
            / max(len(texts), 1)
            for name, other in others.items()
            if other is not self
        }
        return {
            "written_by": self.written_by,
            "rows": len(texts),
            "missing": dict(self.replies.missing.items()),
            "mean_characters": sum(map(len, texts.values())) / max(len(texts), 1),
            **same,
            "annotation": self.annotation,
        }


def freeze_arm(
    task: Task[Output], store: Store, run: Run, arm: Arm, policy: JsonObject, report: JsonObject
) -> DatasetVersion | None:
    """Freeze an arm's texts as a version that is exported and trained on like any; None where there is none.

    Nothing is known about how good a free text is: there is no confidence, and every row weighs 1.
    """
    if not arm.replies.texts:
        return None
    described: JsonObject = {"refinement": {**policy, "arm": arm.name}}
    return store.create_dataset(task.id, described, _tables(task, arm), report, run.id)


def _tables(task: Task[Output], arm: Arm) -> Iterator[pa.Table]:
    (kept,) = task.sampled
    page: list[JsonObject] = []
    shown: JsonObject = {kept.name: {"confidence": None, "basis": arm.name, "flags": []}}
    fields = orjson.dumps({**shown, "written_by": arm.written_by}).decode()
    for name, text in arm.replies.texts.items():
        output = task.build({kept.name: text if text else MISSING})
        if output is None:
            continue
        row: JsonObject = {"document_id": name, "output": output.model_dump_json(), "confidence": None}
        page.append({**row, "weight": 1.0, "fields": fields})
        if len(page) >= PAGE:
            yield pa.Table.from_pylist(page, DATASET_INPUT)
            page = []
    if page:
        yield pa.Table.from_pylist(page, DATASET_INPUT)
