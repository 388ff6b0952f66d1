"""The table of goldless.toml that `goldless refine` reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt

from cli.tables import EngineSettings, Table


class RefineSettings(Table):
    """Refinement of weak answers by the strong model, [engine]. They are those of the engine `weak`, a table like
    [engine], which is told `weak_instruction` in place of the task's own where that is given; or they stand in the
    source's column `column`. `methods` that show several of them take `batch` at a time, drawn with `seed`. See
    curator.methods.refinement."""

    weak: EngineSettings | None = None
    weak_instruction: str | None = None
    column: str = ""
    methods: tuple[Literal["icl", "infer", "improve"], ...] = ("icl", "infer", "improve")
    batch: int = Field(5, ge=2)
    seed: NonNegativeInt = 0
