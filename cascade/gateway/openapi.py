"""The served OpenAPI document."""

from __future__ import annotations

from typing import Final

from curator.types import JsonObject

DOCUMENT: Final[JsonObject] = {"openapi": "3.1.0", "info": {"title": "goldless", "version": "1"}, "paths": {}}
