"""The store's schema as an appended list of steps.

A step, once released, is never changed; a change of the schema is one more step. The number of
steps that a file has had is its schema version.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from curator.errors import StoreVersionError
from curator.migrations import (
    m0001_initial,
    m0002_trained_models,
    m0003_traffic,
    m0004_cascades,
    m0005_preferences,
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: SQL statements, run in one transaction with all other missing steps."""

    name: str
    sql: str


MIGRATIONS: tuple[Migration, ...] = (
    Migration(m0001_initial.NAME, m0001_initial.SQL),
    Migration(m0002_trained_models.NAME, m0002_trained_models.SQL),
    Migration(m0003_traffic.NAME, m0003_traffic.SQL),
    Migration(m0004_cascades.NAME, m0004_cascades.SQL),
    Migration(m0005_preferences.NAME, m0005_preferences.SQL),
)


def schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Steps that this file has had; 0 for a file without tables."""
    found = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_version'").fetchall()
    if not found[0][0]:
        return 0
    return int(connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchall()[0][0])


def check_version(connection: duckdb.DuckDBPyConnection, path: object) -> int:
    """The file's version. Raises: StoreVersionError if a newer goldless wrote it."""
    version = schema_version(connection)
    if version > len(MIGRATIONS):
        raise StoreVersionError(
            f"{path} has schema version {version}; this goldless knows {len(MIGRATIONS)}",
            hint="it was written by a newer goldless: upgrade with pip install -U goldless",
        )
    return version


def migrate(connection: duckdb.DuckDBPyConnection, path: object) -> None:
    """Run the missing steps. The caller's transaction makes it all or nothing."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, name VARCHAR NOT NULL,"
        " applied_at TIMESTAMP NOT NULL)"
    )
    done = check_version(connection, path)
    for version, step in enumerate(MIGRATIONS[done:], done + 1):
        connection.execute(step.sql)
        connection.execute("INSERT INTO schema_version VALUES (?, ?, now()::TIMESTAMP)", [version, step.name])
