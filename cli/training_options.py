"""Options that the commands which train language models share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write; by default named by version.")]
Epochs = Annotated[int, typer.Option("--epochs", min=1, help="How often every row is seen.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Examples per step of the optimiser.")]
MicroBatch = Annotated[
    int, typer.Option("--micro-batch", min=1, help="Examples at a time through the model; fewer take less memory.")
]
MaxLength = Annotated[int, typer.Option("--max-length", min=1, help="Longer examples (in tokens) are left out.")]
Seed = Annotated[int, typer.Option("--seed", help="Decides on the order and on the rows that validate.")]
Merge = Annotated[
    bool, typer.Option("--merge", help="Also write a model of its own, adapter and base in one, to <out>-merged.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Forget the checkpoints and start again.")]
