"""`goldless improve`: the model teaches itself in rounds, with its own most confident answers as examples."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.curate import Ingest, LessonFile, Limit, carry_out
from cli.session import Session, command

if TYPE_CHECKING:
    from curator.methods.lookup import Retrieval


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
    shortlist: Annotated[
        int | None,
        typer.Option(min=0, help="Options shown of a larger choice, with the nearest examples; 0 shows all."),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Weights of the text encoder that makes shortlists and finds examples.")
    ] = None,
    start: Annotated[
        Literal["zero_shot", "random"], typer.Option(help="Where the first examples' labels come from.")
    ] = "zero_shot",
    longest: Annotated[int, typer.Option(min=1, help="Characters of the longest text shown as an example.")] = 600,
    seed: Annotated[int, typer.Option(help="Draws the examples.")] = 0,
    limit: Limit = None,
    ingest: Ingest = True,
    lesson: LessonFile = None,
) -> None:
    """Label in rounds: the surest answers of each become examples for the next. No gold labels needed.

    Takes one request per document and round (two where fields are decided and others sampled); examples are a shared
    beginning of the prompts, which vLLM computes once. Stops early when the labels no longer change. What was
    answered before is never sent again.

    Choices among more than 20 options are asked in part: an encoder makes a shortlist for each document, and finds
    the labelled documents that are nearest to it.
    """
    from curator.methods.demonstrations import Chooser
    from curator.methods.zero_to_strong import Rounds
    from curator.methods.zero_to_strong import improve as method

    chosen = Rounds(rounds, Chooser(examples, longest, seed), start)
    chosen = replace(chosen, solved=replace(chosen.solved, count=solved, seed=seed))
    chosen = replace(chosen, retrieval=_retrieval(shortlist, encoder))
    carry_out(session, partial(method, rounds=chosen), limit, ingest, lesson)


def _retrieval(shortlist: int | None, encoder: str | None) -> Retrieval | Literal["auto"] | None:
    """What the options say; without any it is for choices among many options only."""
    from curator.methods.lookup import Retrieval

    if shortlist == 0 and encoder is None:
        return None
    if shortlist is None and encoder is None:
        return "auto"
    default = Retrieval()
    count = default.shortlist if shortlist is None else shortlist
    above = default.above if shortlist is None else count
    return replace(default, shortlist=count, above=above, encoder=encoder or default.encoder)
