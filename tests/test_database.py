from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from curator.database import Database, explain
from curator.errors import StoreCorruptError, StoreError, StoreFullError, StoreLockedError, StoreVersionError

HOLDER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
connection.close()
"""


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "x.duckdb", wait=20)
    with database.writing() as connection:
        connection.execute("CREATE TABLE numbers AS SELECT range AS n FROM range(100000)")
    return database


def numbers(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute("SELECT count(n) FROM numbers").fetchall()[0][0])


def delete_and_fail(database: Database) -> None:
    with database.writing() as connection:
        connection.execute("DELETE FROM numbers")
        raise ZeroDivisionError


def hold(path: Path) -> subprocess.Popen[str]:
    """Another process that has the file open until it reads a line."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    return other


def test_what_is_written_is_read(database):
    assert numbers(database) == 100000


def test_an_error_rolls_everything_back(database):
    with pytest.raises(ZeroDivisionError):
        delete_and_fail(database)
    assert numbers(database) == 100000


def test_reading_cannot_write(database):
    with pytest.raises(StoreError), database.reading() as connection:
        connection.execute("DELETE FROM numbers")


def test_an_sql_error_is_a_store_error_that_names_the_file(database):
    with pytest.raises(StoreError, match=r"x\.duckdb"), database.reading() as connection:
        connection.execute("SELECT nothing FROM nowhere")


def test_a_writer_in_another_process_is_waited_for(database):
    other = hold(database.path)
    threading.Timer(0.3, other.communicate, ("go\n",)).start()
    assert numbers(database) == 100000
    assert other.wait(10) == 0


def test_waiting_ends_with_an_error_that_can_be_retried(database):
    other = hold(database.path)
    with pytest.raises(StoreLockedError) as caught:
        numbers(Database(database.path, wait=0.2))
    other.communicate("go\n")
    assert caught.value.retryable
    assert str(other.pid) in str(caught.value)
    assert numbers(database) == 100000


def test_threads_take_turns(database):
    def write() -> None:
        for _ in range(5):
            with database.writing() as connection:
                connection.execute("INSERT INTO numbers VALUES (0)")
            numbers(database)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(database) == 100020


def test_a_busy_thread_is_not_waited_for_longer_than_asked(database):
    with database.reading(), pytest.raises(StoreLockedError, match="busy"):
        numbers(Database(database.path, wait=0.1))


def test_one_engine_serves_one_file_after_the_other(database, tmp_path):
    other = Database(tmp_path / "other.duckdb", wait=1)
    with other.writing() as connection:
        connection.execute("CREATE TABLE numbers AS SELECT 7 AS n")
    for _ in range(2):
        assert numbers(database) == 100000
        assert numbers(other) == 1
    with database.reading() as connection, other.reading() as second:
        assert connection.execute("SELECT max(n) FROM numbers").fetchall() == [(99999,)]
        assert second.execute("SELECT max(n) FROM numbers").fetchall() == [(7,)]


def test_nothing_of_one_piece_of_work_is_there_in_the_next(database):
    with database.writing() as connection:
        connection.register("numbers", pa.table({"n": [1, 2]}))
        connection.execute("CREATE TEMP TABLE mine AS SELECT 1")
        connection.execute("SET enable_progress_bar = true")
    assert numbers(database) == 100000
    with database.reading() as connection:
        assert connection.execute("SELECT current_setting('enable_progress_bar')").fetchall() == [(False,)]
        with pytest.raises(duckdb.CatalogException):
            connection.execute("SELECT * FROM mine")


def test_a_closed_file_is_free_even_if_a_result_was_not_read_to_its_end(database):
    with database.reading() as connection:
        unread = connection.execute("SELECT * FROM numbers")
        assert unread.fetchone() == (0,)
    hold(database.path).communicate("go\n")


def test_work_that_spills_leaves_no_folder_behind(database):
    folder = Path(f"{database.path}.tmp")
    with database.reading() as connection:
        connection.execute("SET memory_limit = '20MB'")
        connection.execute("CREATE TEMP TABLE large AS SELECT random() AS chance FROM range(4000000)")
        assert any(folder.iterdir())
    assert not folder.exists()
    assert numbers(database) == 100000


FORKED = """
import os, sys
from pathlib import Path
from curator.database import Database

database = Database(Path(sys.argv[1]), wait=5)

def count():
    with database.reading() as connection:
        return connection.execute("SELECT count(*) FROM numbers").fetchall()[0][0]

assert count() == 100000
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
assert count() == 100000
"""


def test_a_forked_child_has_an_engine_of_its_own(database):
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(database.path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_is_not_a_store(tmp_path):
    with pytest.raises(StoreError, match="directory") as caught:
        numbers(Database(tmp_path, wait=1))
    assert not isinstance(caught.value, StoreCorruptError)


@pytest.mark.parametrize("content", [b"", b"not a database at all\n" * 500, os.urandom(20000)])
def test_another_file_is_called_damaged_and_left_alone(tmp_path, content):
    path = tmp_path / "x.duckdb"
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"x\.duckdb"):
        numbers(Database(path, wait=1))
    assert path.read_bytes() == content


@pytest.mark.parametrize("size", [3000, 5000, 13000])
def test_a_truncated_file_is_damaged(database, size):
    with database.path.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(StoreCorruptError) as caught:
        numbers(database)
    assert "journal" in caught.value.hint


def test_overwritten_blocks_are_found_by_their_checksum(database):
    with database.path.open("r+b") as file:
        file.seek(12288)
        file.write(os.urandom(database.path.stat().st_size - 12288))
    with pytest.raises(StoreCorruptError, match=r"x\.duckdb"):
        numbers(database)


def test_the_errors_of_a_full_disk_are_told_apart(tmp_path):
    for text in ("No space left on device", "Disk quota exceeded", "File too large"):
        assert isinstance(explain(OSError(text), tmp_path), StoreFullError)


def test_a_file_of_a_newer_duckdb_asks_for_an_upgrade(tmp_path):
    error = duckdb.IOException("Trying to read a database file with version number 99, but we can only read 64")
    found = explain(error, tmp_path)
    assert isinstance(found, StoreVersionError)
    assert "upgrade" in found.hint


def test_every_duckdb_error_becomes_a_store_error(tmp_path):
    kinds = [kind for kind in vars(duckdb).values() if isinstance(kind, type) and issubclass(kind, duckdb.Error)]
    assert len(kinds) > 20
    for kind in kinds:
        assert isinstance(explain(kind("something"), tmp_path), StoreError)
