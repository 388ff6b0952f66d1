"""`goldless improve`: the model teaches itself in rounds, with its own most confident answers as examples."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import typer

from cli.curate import carry_out
from cli.session import Session, command


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "improve",
        example="goldless improve\ngoldless improve --rounds 2 --examples 12\ngoldless improve --json > report.json",
    )(improve)


def improve(
    session: Session,
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="At most so many rounds with examples.")] = 3,
    examples: Annotated[int, typer.Option("--examples", "-e", min=1, help="Examples per prompt.")] = 16,
    solved: Annotated[
        int, typer.Option("--solved", min=1, help="Examples per prompt of sampled fields, with their reasoning.")
    ] = 8,
    start: Annotated[
        Literal["zero_shot", "random"], typer.Option(help="Where the first examples' labels come from.")
    ] = "zero_shot",
    longest: Annotated[int, typer.Option(min=1, help="Characters of the longest text shown as an example.")] = 600,
    seed: Annotated[int, typer.Option(help="Draws the examples.")] = 0,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Label only the first so many documents.")
    ] = None,
    ingest: Annotated[
        bool, typer.Option("--ingest/--no-ingest", help="Whether to read the settings' source first.")
    ] = True,
) -> None:
    """Label in rounds: the surest answers of each become examples for the next. No gold labels needed.

    Takes one request per document and round (two where fields are decided and others sampled); examples are a shared
    beginning of the prompts, which vLLM computes once. Stops early when the labels no longer change. What was
    answered before is never sent again.
    """
    from curator.methods.demonstrations import Chooser
    from curator.methods.zero_to_strong import Rounds
    from curator.methods.zero_to_strong import improve as method

    chosen = Rounds(rounds, Chooser(examples, longest, seed), start)
    chosen = replace(chosen, solved=replace(chosen.solved, count=solved, seed=seed))
    carry_out(session, session.task(), partial(method, rounds=chosen), limit, ingest)
