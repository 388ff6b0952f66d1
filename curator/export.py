"""A dataset version as files: Parquet, JSONL, or TRL's conversational formats: prompt and completion for labels,
prompt, chosen and rejected for preferences.

The conversations ask exactly what the task asks a model, so that a model trained on them answers the
same questions. Every row of labels has a `weight`, its confidence; every pair has its `confidence`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from curator.datasets import Row, read_rows
from curator.engines.base import render_messages, scored_texts
from curator.errors import ConfigError, MissingExtraError, SourceError
from curator.parsing import MISSING
from curator.preferences import Preference, read_preferences
from curator.store import Store
from curator.task import Output, Task
from curator.types import Json, JsonObject, Message

if TYPE_CHECKING:
    import datasets

ExportFormat = Literal["parquet", "jsonl", "trl"]
_PAGE = 8192


def export_dataset(store: Store, task: Task[Output], version: int, path: Path, kind: ExportFormat = "parquet") -> int:
    """Write a version to `path`; returns the rows written. The file appears whole or not at all.

    `trl` writes JSONL rows of messages: of labels `prompt`, `completion` and `weight`, of preferences `prompt`,
    `chosen`, `rejected` and `confidence`.
    Raises: ConfigError for an unknown format; SourceError if the file cannot be written.
    """
    writers: dict[str, Callable[[Iterator[JsonObject], Path], int]] = {
        "parquet": _write_parquet,
        "jsonl": _write_jsonl,
        "trl": _write_jsonl,
    }
    if kind not in writers:
        raise ConfigError(f"unknown export format {kind!r}", hint=f"one of {', '.join(writers)}")
    records = _records(store, task, version, kind)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        count = writers[kind](records, part)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise SourceError(f"cannot write {path}: {error.strerror}", hint="choose another path") from error
    return count


def to_dataset(store: Store, task: Task[Output], version: int) -> datasets.Dataset:
    """The version as a Hugging Face `datasets.Dataset` in TRL's conversational format: for `SFTTrainer`, or the
    preference trainers, by the version's kind; with the columns that `export_dataset` writes.

    Raises: MissingExtraError without the `datasets` extra.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets is not installed", hint="pip install 'goldless[datasets]'") from error
    return datasets.Dataset.from_list(list(_records(store, task, version, "trl")))


def _records(store: Store, task: Task[Output], version: int, kind: ExportFormat) -> Iterator[JsonObject]:
    """The rows of a version as `kind` has them."""
    if store.dataset(version).kind == "preferences":
        return map(_preferred if kind == "trl" else _pair, read_preferences(store, version))
    rows = read_rows(store, task, version)
    return _conversations(task, rows) if kind == "trl" else map(_flat, rows)


def conversations(task: Task[Output], row: Row[Output]) -> Iterator[tuple[tuple[Message, ...], str]]:
    """(prompt, completion) pairs of one row: one per closed field, one for the sampled fields."""
    values: JsonObject = orjson.loads(row.output.model_dump_json())
    if task.closed:
        request = task.decide_request(row.document)
        template = request.template
        for item, asked in zip(task.closed, request.questions, strict=True):
            index = item.values.index(values[item.name])
            shown = task.views[0].permutation(item.question).index(index)
            answer = template.answer_prefix + scored_texts(asked, template)[shown]
            yield render_messages(request, asked), answer
    if task.sampled:
        yield task.generate_request(row.document).messages, written(task, values)


def written(task: Task[Output], values: JsonObject) -> str:
    """The sampled fields' values as the text that a model is to answer with."""
    wanted = {item.name: values.get(item.name) for item in task.sampled}
    if task.answer_format == "json":
        return orjson.dumps(wanted).decode()
    if task.free:
        return "".join(str(value) for value in wanted.values())
    answer = str(wanted[task.voted[0].name])
    reasoning = [str(wanted[item.name]) for item in task.sampled if item.name != task.voted[0].name]
    text = "\n".join(part for part in reasoning if part and part != MISSING)
    return text if f"Answer: {answer}" in text else f"{text}\nAnswer: {answer}".strip()


def _conversations(task: Task[Output], rows: Iterator[Row[Output]]) -> Iterator[JsonObject]:
    for row in rows:
        for prompt, completion in conversations(task, row):
            yield {
                "id": row.document.id,
                "prompt": _turns(*prompt),
                "completion": _turns(Message("assistant", completion)),
                "weight": row.weight,
            }


def _preferred(pair: Preference) -> JsonObject:
    """A pair in TRL's preference format."""
    return {
        "id": pair.document.id,
        "prompt": _turns(*pair.prompt),
        "chosen": _turns(Message("assistant", pair.chosen)),
        "rejected": _turns(Message("assistant", pair.rejected)),
        "confidence": pair.confidence,
    }


def _pair(pair: Preference) -> JsonObject:
    """A pair with the answers as plain texts, and all that is known of it."""
    return {
        "id": pair.document.id,
        "text": pair.document.text,
        "prompt": _turns(*pair.prompt),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "confidence": pair.confidence,
        "details": orjson.dumps(pair.details).decode(),
        "meta": orjson.dumps(pair.document.meta).decode(),
    }


def _turns(*messages: Message) -> list[Json]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _flat(row: Row[Output]) -> JsonObject:
    """One column per field, and `<field>_confidence` beside it."""
    values: JsonObject = orjson.loads(row.output.model_dump_json())
    scores: JsonObject = {}
    for name, details in row.fields.items():
        if isinstance(details, dict):
            scores |= {f"{name}_confidence": details["confidence"], f"{name}_basis": details["basis"]}
    return {"id": row.document.id, "text": row.document.text, **values, **scores, **_meta(row), "weight": row.weight}


def _meta(row: Row[Output]) -> dict[str, Json]:
    return {"confidence": row.confidence, "meta": orjson.dumps(row.document.meta).decode()}


def _write_jsonl(records: Iterator[JsonObject], path: Path) -> int:
    count = 0
    with path.open("wb") as file:
        for record in records:
            file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def _write_parquet(records: Iterator[JsonObject], path: Path) -> int:
    count, page = 0, list[JsonObject]()
    writer: pq.ParquetWriter | None = None
    try:
        for record in records:
            page.append(record)
            if len(page) >= _PAGE:
                writer = _append(writer, page, path)
                count, page = count + len(page), []
        if page or writer is None:
            writer = _append(writer, page, path)
            count += len(page)
    finally:
        if writer is not None:
            writer.close()
    return count


def _append(writer: pq.ParquetWriter | None, page: list[JsonObject], path: Path) -> pq.ParquetWriter:
    # The first page decides the columns' types; a later page is cast to them.
    table = pa.Table.from_pylist(page, schema=writer.schema if writer else None)
    writer = writer or pq.ParquetWriter(path, table.schema)
    writer.write_table(table)
    return writer
