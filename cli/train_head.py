"""`goldless train --method head`: a classification head on a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cli.output import plain
from cli.session import Session

if TYPE_CHECKING:
    from pydantic import BaseModel

    from curator.store import ModelRecord
    from curator.training.examples import TrainingSet


def train_head(
    session: Session, data: TrainingSet[BaseModel], encoder: str | None, folder: Path | None, seed: int
) -> None:
    """Train one head per closed field and say how to use them."""
    from curator.engines.known import DEFAULT_ENCODER
    from curator.training.head_settings import HeadSettings
    from curator.training.stored import train_heads

    target = folder or Path(f"head-v{data.found().version}")
    with session.out.guarded():
        record = train_heads(data, target, encoder or DEFAULT_ENCODER, HeadSettings(seed=seed))
    if session.out.json:
        return session.out.emit(plain(record))
    return _show(session, record)


def _show(session: Session, record: ModelRecord) -> None:
    session.out.facts(
        {"model": record.path, "encoder": record.base, "dataset version": record.dataset_version}, title="Trained"
    )
    fields = record.report["fields"]
    known = fields.items() if isinstance(fields, dict) else ()
    rows = [{"field": name, **values} for name, values in known if isinstance(values, dict)]
    columns = ("field", "rows", "best_epoch", "validation_rows", "validation_loss", "validation_agreement")
    session.out.rows(columns, rows, title="Heads; validation is on weak labels")
    session.out.say(f"load it: head:{record.path}")
