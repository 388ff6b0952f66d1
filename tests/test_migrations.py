from __future__ import annotations

import pyarrow as pa
import pytest

from curator import migrations
from curator import store as store_package
from curator.database import Database
from curator.errors import StoreVersionError
from curator.migrations import MIGRATIONS, Migration, migrate, schema_version
from curator.store import DATASET_INPUT, Store
from curator.types import Document

DESIGNED = {
    "documents", "completions", "annotations", "labels", "verdicts", "runs", "datasets", "dataset_rows", "models",
    "policies", "audits", "traffic", "audit_draws", "preference_rows",
}  # fmt: skip


def tables(store: Store) -> set[str]:
    with Database(store.path, 5).reading() as connection:
        return {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def version(store: Store) -> int:
    with Database(store.path, 5).reading() as connection:
        return schema_version(connection)


def add_step(monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    steps = (*MIGRATIONS, Migration("next", sql))
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    monkeypatch.setattr(store_package, "MIGRATIONS", steps)


def test_a_new_store_has_all_designed_tables(tmp_path):
    store = Store(tmp_path / "x.duckdb")
    assert tables(store) >= DESIGNED
    assert version(store) == len(MIGRATIONS)


def test_an_older_store_gets_only_the_missing_steps_and_keeps_its_rows(tmp_path, monkeypatch):
    Store(tmp_path / "x.duckdb").add_documents([[Document("a", "text")]], source="s", run_id="r")
    add_step(monkeypatch, "ALTER TABLE documents ADD COLUMN language VARCHAR; CREATE TABLE extra (n INTEGER)")
    store = Store(tmp_path / "x.duckdb")
    assert version(store) == len(MIGRATIONS) + 1
    assert "extra" in tables(store)
    assert list(store.documents()) == [[Document("a", "text")]]
    assert version(Store(tmp_path / "x.duckdb")) == len(MIGRATIONS) + 1


def test_a_step_that_fails_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "x.duckdb"
    store = Store(path)
    add_step(monkeypatch, "CREATE TABLE half (n INTEGER); SELECT * FROM nowhere")
    with pytest.raises(store_package.StoreError, match="nowhere"):
        Store(path)
    assert "half" not in tables(store)
    assert version(store) == len(MIGRATIONS)


def test_a_newer_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "x.duckdb"
    with Database(path, 5).writing() as connection:
        migrate(connection, path)
        connection.execute("INSERT INTO schema_version VALUES (99, 'later', now()::TIMESTAMP)")
    before = path.read_bytes()
    with pytest.raises(StoreVersionError, match="99") as caught:
        Store(path)
    assert "upgrade" in caught.value.hint
    assert not caught.value.retryable
    assert path.read_bytes() == before


def test_names_of_steps_are_unique():
    assert len({step.name for step in MIGRATIONS}) == len(MIGRATIONS)


def test_versions_of_a_store_without_preferences_hold_labels_and_keep_their_hash(tmp_path, monkeypatch):
    path, hashed = tmp_path / "x.duckdb", "0478e2847dded36cf1beb98fdd9a0aee"
    with monkeypatch.context() as older:
        older.setattr(migrations, "MIGRATIONS", MIGRATIONS[:4])
        with Database(path, 5).writing() as connection:
            migrate(connection, path)
            policy = '{"quota":1}'
            row = [1, "task", hashed, 2, policy, "{}", "r"]
            connection.execute("INSERT INTO datasets VALUES (?, ?, ?, ?, ?, ?, ?, now()::TIMESTAMP)", row)
    store = Store(path)
    (made,) = store.datasets()
    assert (made.kind, made.hash) == ("labels", hashed)
    store.add_documents([[Document(name, f"text of {name}") for name in "ab"]], source="s", run_id="r")
    row = {"output": '{"topic":"a"}', "confidence": 0.75, "weight": 1.0, "fields": "{}"}
    table = pa.Table.from_pylist([{"document_id": name, **row} for name in "ab"], DATASET_INPUT)
    assert store.create_dataset("task", {"quota": 1}, [table], {}, "r") == made
