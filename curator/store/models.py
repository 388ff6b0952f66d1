"""Models that were trained on dataset versions."""

from __future__ import annotations

import difflib

from curator.database import Connection
from curator.errors import InputError
from curator.store.base import Part, json_object, to_json
from curator.store.records import ModelRecord

_COLUMNS = (
    "name, kind, identity, dataset_version, dataset_hash, path, sha256, report, run_id, created_at::VARCHAR AS created"
)


class ModelPart(Part):
    """Recording trained models and finding them."""

    def add_model(self, record: ModelRecord) -> ModelRecord:
        """Record a trained model; returns the record with its time. A model under the name of another
        one stands for that name from now on; the older record stays."""
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO models (name, kind, identity, dataset_version, dataset_hash, path, sha256, report, run_id,"
                " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, now()::TIMESTAMP)",
                [
                    record.name,
                    record.kind,
                    to_json({"base": record.base, "revision": record.revision}),
                    record.dataset_version,
                    record.dataset_hash,
                    record.path,
                    record.sha256,
                    to_json(record.report),
                    record.run_id,
                ],
            )
            return _read(connection)[-1]

    def models(self) -> list[ModelRecord]:
        """All trained models, oldest first."""
        with self._database.reading() as connection:
            return _read(connection)

    def model(self, name: str) -> ModelRecord:
        """The latest model of this name. Raises: InputError if there is none, naming those that are close."""
        found = self.models()
        if named := [record for record in found if record.name == name]:
            return named[-1]
        names = sorted({record.name for record in found})
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:10]
        there = f"there are {', '.join(close)}" if close else "none was trained yet: run goldless train"
        raise InputError(f"there is no trained model {name!r}", hint=there)


def _read(connection: Connection) -> list[ModelRecord]:
    # rowid breaks ties of the clock: rows are only ever appended.
    rows = connection.execute(f"SELECT {_COLUMNS} FROM models ORDER BY created_at, rowid").fetchall()
    found = []
    for name, kind, identity, version, digest, path, sha256, report, run, created in rows:
        base = json_object(identity)
        made_from, revision = str(base.get("base", "")), str(base.get("revision", ""))
        found.append(
            ModelRecord(
                name, kind, made_from, revision, version, digest, path, sha256, json_object(report), run, created
            )
        )
    return found
