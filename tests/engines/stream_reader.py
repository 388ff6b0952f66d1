"""Reads a stream to its end, or to what it fails with."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from curator.errors import EngineError
from curator.types import Delta


async def read(pieces: AsyncGenerator[Delta, None]) -> tuple[list[Delta], EngineError | None]:
    """All pieces, and the error at their end."""
    found: list[Delta] = []
    async with aclosing(pieces):
        try:
            while (piece := await anext(pieces, None)) is not None:
                found.append(piece)
        except EngineError as error:
            return found, error
    return found, None
