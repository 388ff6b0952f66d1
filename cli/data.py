"""Commands about what is in the store: ingest, status, show, why, diff, export."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    pass
