"""curator/export.py: a version as files that other tools read."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from curator.engines.scripted import ScriptedEngine
from curator.errors import ConfigError, SourceError
from curator.export import export_dataset, to_dataset
from curator.pipeline import Curation, Plan, curate
from curator.preferences import Preference, freeze_preferences
from curator.screening import Screening
from curator.sources import open_source
from curator.store import Store
from curator.task import Task, classify, solve
from curator.types import DecideRequest, Document, Message

pytestmark = pytest.mark.anyio

TASK = classify(["ham", "spam"], "What is this message?")
TEXTS = ["win a prize now", "see you at nine", "Gewinnen Sie «jetzt»", "晚上见"]


def answer(request: DecideRequest) -> dict[str, float]:
    spam = 0.9 if request.state in (TEXTS[0], TEXTS[2]) else 0.2
    return {"spam": spam, "ham": 1 - spam}


async def curated(folder: Path, task: Task[BaseModel], engine: ScriptedEngine) -> Curation[BaseModel]:
    file = folder / "in.jsonl"
    rows = [{"id": f"m{i}", "text": text, "lang": "x"} for i, text in enumerate(TEXTS)]
    file.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    plan = Plan(screening=Screening(near=None))
    return await curate(task, engine, Store(folder / "s.duckdb"), source=open_source(str(file)), plan=plan)


async def test_parquet_and_jsonl_hold_the_same_rows(tmp_path):
    result = await curated(tmp_path, TASK, ScriptedEngine(decide=answer))
    for kind in ("parquet", "jsonl"):
        assert export_dataset(result.store, TASK, 1, tmp_path / f"out.{kind}", kind) == 4
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    lines = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert table == lines
    assert [row["text"] for row in table] == TEXTS
    assert table[0]["label"] == "spam"
    assert table[0]["label_basis"] == "batch"
    assert orjson.loads(table[0]["meta"]) == {"lang": "x"}
    assert table[0]["weight"] == table[0]["label_confidence"] == table[0]["confidence"]


async def test_trl_rows_ask_what_the_task_asks(tmp_path):
    result = await curated(tmp_path, TASK.with_views(2), ScriptedEngine(decide=answer))
    export_dataset(result.store, result.task, 1, tmp_path / "train.jsonl", "trl")
    first = orjson.loads((tmp_path / "train.jsonl").read_bytes().splitlines()[0])
    assert first["prompt"] == [
        {
            "role": "user",
            "content": "What is this message?\nOptions:\n- ham\n- spam\n"
            "Answer with one of the options only.\n\nText: win a prize now",
        }
    ]
    assert first["completion"] == [{"role": "assistant", "content": "spam"}]
    assert 0.5 < first["weight"] <= 1


async def test_trl_reads_the_dataset_as_conversations(tmp_path):
    from trl import is_conversational

    result = await curated(tmp_path, TASK, ScriptedEngine(decide=answer))
    dataset = to_dataset(result.store, TASK, 1)
    assert dataset.column_names == ["id", "prompt", "completion", "weight"]
    assert len(dataset) == 4
    assert is_conversational(dataset[0])


async def test_a_solved_row_ends_with_its_answer(tmp_path):
    task = solve(Decimal, "Count.")
    engine = ScriptedEngine(generate=lambda request: ["one, two\nAnswer: 2", "So it is 2."] * 5)
    result = await curated(tmp_path, task, engine)
    export_dataset(result.store, task, 1, tmp_path / "train.jsonl", "trl")
    first = orjson.loads((tmp_path / "train.jsonl").read_bytes().splitlines()[0])
    assert first["completion"][0]["content"] == "one, two\nAnswer: 2"


def preferred(folder: Path) -> tuple[Store, Task[BaseModel]]:
    """A store whose version 1 holds two pairs."""
    store, task = Store(folder / "p.duckdb"), solve(int, "Add.")
    document = Document("q1", "1 + 1?", {"source": "x"})
    store.add_documents([[document]], source="s", run_id="r")
    prompt = (Message("system", "Be brief."), Message("user", "1 + 1?"))
    first = Preference(document, prompt, "Answer: 2", "Answer: «3»", 0.75, {"chosen": {"sample": 4}})
    second = Preference(document, prompt, "So 2.\nAnswer: 2", "Answer: 11", 0.5, {})
    with store.run("pairs", {}) as run:
        freeze_preferences(task, store, run, [first, second], {}, {})
    return store, task


GOLDEN_PAIRS = """\
{"id":"q1","prompt":[{"role":"system","content":"Be brief."},{"role":"user","content":"1 + 1?"}],\
"chosen":[{"role":"assistant","content":"Answer: 2"}],"rejected":[{"role":"assistant","content":"Answer: «3»"}],\
"confidence":0.75}
{"id":"q1","prompt":[{"role":"system","content":"Be brief."},{"role":"user","content":"1 + 1?"}],\
"chosen":[{"role":"assistant","content":"So 2.\\nAnswer: 2"}],"rejected":[{"role":"assistant","content":"Answer: 11"}],\
"confidence":0.5}
"""


async def test_pairs_are_written_in_trls_preference_format(tmp_path):
    store, task = preferred(tmp_path)
    assert export_dataset(store, task, 1, tmp_path / "pairs.jsonl", "trl") == 2
    assert (tmp_path / "pairs.jsonl").read_text() == GOLDEN_PAIRS


async def test_trl_reads_the_pairs_as_conversations(tmp_path):
    from trl import is_conversational
    from trl.data_utils import extract_prompt

    store, task = preferred(tmp_path)
    dataset = to_dataset(store, task, 1)
    assert dataset.column_names == ["id", "prompt", "chosen", "rejected", "confidence"]
    assert is_conversational(dataset[0])
    implicit = {side: dataset[0]["prompt"] + dataset[0][side] for side in ("chosen", "rejected")}
    assert extract_prompt(implicit) == {name: dataset[0][name] for name in ("prompt", "chosen", "rejected")}


async def test_parquet_and_jsonl_hold_the_same_pairs_and_where_they_come_from(tmp_path):
    store, task = preferred(tmp_path)
    for kind in ("parquet", "jsonl"):
        assert export_dataset(store, task, 1, tmp_path / f"out.{kind}", kind) == 2
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert table == [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert (table[0]["text"], table[0]["chosen"], table[0]["rejected"]) == ("1 + 1?", "Answer: 2", "Answer: «3»")
    assert orjson.loads(table[0]["details"]) == {"chosen": {"sample": 4}}
    assert orjson.loads(table[0]["meta"]) == {"source": "x"}


async def test_clear_errors_and_no_half_file(tmp_path):
    result = await curated(tmp_path, TASK, ScriptedEngine(decide=answer))
    with pytest.raises(ConfigError, match="unknown export format 'xml'"):
        export_dataset(result.store, TASK, 1, tmp_path / "out.xml", "xml")
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(SourceError, match="cannot write"):
        export_dataset(result.store, TASK, 1, blocked / "out.parquet")
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(SourceError, match="cannot write"):
        export_dataset(result.store, TASK, 1, taken)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
