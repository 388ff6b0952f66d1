"""The store as a file: made, refused, full, damaged."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from curator.errors import StoreCorruptError, StoreError, StoreFullError
from curator.store import Store
from curator.types import Document

SMALL_DISK = """
import hashlib, json, os, resource, sys
from curator.engines.base import EngineIdentity
from curator.errors import StoreFullError
from curator.records import CompletionRecord
from curator.store import Store
from curator.types import Completion, Sample

path, limit, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = Store(path)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
keys = [hashlib.blake2b(b"%d" % n, digest_size=16).hexdigest() for n in range(rows)]
done = []
try:
    with store.run("work", {}) as run:
        known = run.known(keys)
        for key in keys:
            if key not in known:
                text = hashlib.blake2b(key.encode()).hexdigest() * 20
                run.append(CompletionRecord(key, EngineIdentity("http", "m"), "generate", Completion((Sample(text),))))
                done.append(key)
            if len(done) % 200 == 199:
                run.flush()
except StoreFullError as error:
    print(json.dumps({"error": str(error), "hint": error.hint, "done": done}))
else:
    print(json.dumps({"error": "", "done": done}))
"""


def work(path: Path, limit: int, rows: int = 3000) -> dict[str, object]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    # A write over the limit is a signal where it is not ignored; then it is an error like on a full disk.
    command = [sys.executable, "-c", "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + SMALL_DISK]
    output = subprocess.run(
        [*command, str(path), str(limit), str(rows)], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(output.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder that this process may not write, even if it is root's."""
    folder = Path(tempfile.mkdtemp(prefix="goldless-test-"))
    folder.chmod(0o755)
    user = os.geteuid()
    try:
        Store(folder / "x.duckdb").add_documents([[Document("a", "text")]], source="s", run_id="r")
        folder.chmod(0o555)
        (folder / "x.duckdb").chmod(0o444)
        if user == 0:
            os.seteuid(65534)
        yield folder
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_store_is_made_where_there_is_none(tmp_path):
    path = tmp_path / "x.duckdb"
    assert Store(path).count() == 0
    assert Store(str(path)).path == path
    assert [found.name for found in tmp_path.iterdir()] == ["x.duckdb"]


def test_no_store_is_made_unless_wanted(tmp_path):
    with pytest.raises(StoreError, match="no store") as caught:
        Store(tmp_path / "x.duckdb", create=False)
    assert "goldless" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_two_that_make_it_at_once_make_one(tmp_path):
    stores: list[Store] = []
    threads = [threading.Thread(target=lambda: stores.append(Store(tmp_path / "x.duckdb"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stores[0].add_documents([[Document("a", "text")]], source="s", run_id="r")
    assert [store.count() for store in stores] == [1, 1, 1, 1]
    assert [found.name for found in tmp_path.iterdir()] == ["x.duckdb"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StoreError, match="nowhere"):
        Store(tmp_path / "nowhere" / "x.duckdb")


def test_a_path_with_quotes_and_spaces_works(tmp_path):
    folder = tmp_path / "it's a {folder}"
    folder.mkdir()
    store = Store(folder / "my 'store'.duckdb")
    store.add_documents([[Document("a", "text")]], source="it's", run_id="r")
    assert list(store.documents()) == [[Document("a", "text")]]
    assert list(store.labels("t")) == []


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="directory"):
        Store(tmp_path)


def test_one_damaged_store_leaves_another_alone(tmp_path):
    good, bad = Store(tmp_path / "good.duckdb"), tmp_path / "bad.duckdb"
    bad.write_bytes(os.urandom(50_000))
    with pytest.raises(StoreCorruptError, match=r"bad\.duckdb"):
        Store(bad)
    assert good.count() == 0


def test_a_store_in_a_folder_that_cannot_be_written_is_read(locked_folder):
    store = Store(locked_folder / "x.duckdb")
    assert store.document("a") == Document("a", "text")
    assert store.status().documents == 1
    assert list(store.labels("t")) == []


def test_what_would_write_there_is_an_error_that_names_the_file(locked_folder):
    store = Store(locked_folder / "x.duckdb")
    with pytest.raises(StoreError, match="Permission denied"), store.run("work", {}):
        pass
    with pytest.raises(StoreError, match=r"x\.duckdb"):
        store.add_documents([[Document("b", "text")]], source="s", run_id="r")
    with pytest.raises(StoreError, match=r"new\.duckdb"):
        Store(locked_folder / "new.duckdb")


@pytest.mark.parametrize("limit", [300_000, 900_000])
def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path, limit):
    path = tmp_path / "x.duckdb"
    first = work(path, limit)
    assert "space" in str(first["error"]) or "too large" in str(first["error"])
    assert "free" in str(first["hint"])
    assert 0 < len(first["done"]) < 3000
    second = work(path, 0)
    assert second["error"] == ""
    # Everything acknowledged was there, and nothing was asked twice.
    assert sorted([*first["done"], *second["done"]]) == sorted({*first["done"], *second["done"]})
    assert Store(path).status().completions == 3000


def test_a_full_disk_is_an_error_for_an_ingest_too(tmp_path):
    store = Store(tmp_path / "x.duckdb")
    documents = [Document(str(number), os.urandom(500).hex()) for number in range(5000)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(StoreFullError) as caught:
            store.add_documents([documents], source="s", run_id="r")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "x.duckdb" in str(caught.value)
    assert store.count() == 0
    assert store.add_documents([documents], source="s", run_id="r").added == 5000
