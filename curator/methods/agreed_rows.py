"""What two models agree on, and the training set of both their rationales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa

from curator.errors import InputError
from curator.labeling import AGREEMENT
from curator.learning import Answers
from curator.methods.rationales import wrong_steps
from curator.methods.replies import forms, rationale, replies, row_of
from curator.parsing import normalise_text
from curator.store import DATASET_INPUT, DatasetVersion, Run
from curator.task import Output, Task
from curator.types import JsonObject
from curator.votes import vote

PAGE = 8192
"""Rows that are written to a version at a time."""


@dataclass(slots=True)
class Kept:
    """Document -> (form of the weak answer, form of the strong one), None where there is none; `ids` are the
    documents where both are there and equal, in the store's order."""

    forms: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    documents: int = 0

    @property
    def ids(self) -> list[str]:
        return [name for name, (weak, strong) in self.forms.items() if weak is not None and weak == strong]

    @property
    def both(self) -> int:
        """Documents that both models have answered."""
        return sum(weak is not None and strong is not None for weak, strong in self.forms.values())

    def report(self) -> JsonObject:
        """Counts, the share of documents that is kept, and how often the two models agree where both answer."""
        weak, strong = (sum(pair[side] is not None for pair in self.forms.values()) for side in (0, 1))
        kept = len(self.ids)
        return {
            "documents": self.documents,
            "answered_by_weak": weak,
            "answered_by_strong": strong,
            "kept": kept,
            "kept_share": kept / max(self.documents, 1),
            "agreement": kept / max(self.both, 1),
        }


def kept_of(weak: Answers[Output], strong: Answers[Output], limit: int | None = None) -> Kept:
    """Compare the first text of each document's two replies."""
    theirs = [{name: reply.finals[0] for name, reply in replies(one)} for one in (weak, strong)]
    found = Kept()
    for page in weak.store.documents(kept_by=weak.kept_by, limit=limit):
        for document in page:
            pair = forms(weak.task, [finals.get(document.id) for finals in theirs], document.text)
            found.forms[document.id] = pair[0], pair[1]
            found.documents += 1
    return found


def freeze_kept(
    task: Task[Output],
    pair: tuple[Answers[Output], Answers[Output]],
    kept: Kept,
    run: Run,
    policy: JsonObject,
    report: JsonObject,
) -> tuple[DatasetVersion, JsonObject]:
    """Freeze both models' rationales of the kept documents, a document's two rows one after the other, as a version
    of `task`; returns it and how many rows there are.

    `policy` says under `progressive.arithmetic` whether rationales that calculate wrongly are left out. Two rationales
    that say the same are one row, and an answer without one is none. The confidence is that of two dependent votes
    (`curator.votes`), the same for all rows; every row weighs 1, as published. Raises: InputError if there is no row.
    """
    settings = policy["progressive"]
    strict = isinstance(settings, dict) and bool(settings["arithmetic"])
    rows = _rows(task, pair, kept, strict)
    counts: JsonObject = {
        "rows": len(rows),
        "questions": len({row["document_id"] for row in rows}),
        "rationales_left_out": 2 * len(kept.ids) - len(rows),
    }
    if not rows:
        raise InputError(
            f"the models agree on {len(kept.ids)} of {kept.documents} documents, and no rationale of them can be used",
            hint="see the final answers with `goldless show`; a cut-off answer needs a higher max_tokens",
        )
    pages = (pa.Table.from_pylist(rows[at : at + PAGE], DATASET_INPUT) for at in range(0, len(rows), PAGE))
    version = pair[0].store.create_dataset(task.id, policy, pages, {**report, "selection": counts}, run.id)
    return version, counts


def _rows(
    task: Task[Output], pair: tuple[Answers[Output], Answers[Output]], kept: Kept, strict: bool
) -> list[JsonObject]:
    """The rows, in the store's order, the weak model's rationale first."""
    confidence = _confidence(kept)
    names = set(kept.ids)
    texts = [{name: reply.texts[0] for name, reply in replies(one) if name in names} for one in pair]
    rows: list[JsonObject] = []
    for name in kept.ids:
        seen: set[str] = set()
        for answers, written in zip(pair, texts, strict=True):
            output = row_of(task, written[name], str(kept.forms[name][0]))
            plain = normalise_text(rationale(task, written[name]))
            if output is None or plain in {"", *seen} or (strict and wrong_steps(written[name])):
                continue
            seen.add(plain)
            fields = _fields(task, confidence[name], str(answers.identity))
            row: JsonObject = {"document_id": name, "output": output.model_dump_json(), "confidence": confidence[name]}
            rows.append({**row, "weight": 1.0, "fields": orjson.dumps(fields).decode()})
    return rows


def _fields(task: Task[Output], confidence: float, written_by: str) -> JsonObject:
    answer: JsonObject = {"confidence": confidence, "basis": AGREEMENT, "flags": []}
    return {task.voted[0].name: answer, "written_by": written_by}


def _confidence(kept: Kept) -> Mapping[str, float]:
    """Document -> the discounted share of its two votes. The models' votes are dependent, as their agreement over the
    corpus tells; nothing here says how often both are wrong in the same way."""
    votes = vote(list(kept.forms.values()))
    shares = np.nan_to_num(votes.confidence)
    return dict(zip(kept.forms, shares.tolist(), strict=True))
