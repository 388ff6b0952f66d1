"""The `goldless` command: the app, assembled from one file per command group."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import (
    audit,
    bill,
    certify,
    curate,
    data,
    demo,
    doctor,
    evaluate,
    improve,
    keys,
    models,
    prefer,
    progressive,
    project,
    refine,
    replay,
    serve,
    show,
    train,
    w2s,
)
from cli.failures import EXIT_HELP, version
from cli.output import survive_any_terminal

app = typer.Typer(
    name="goldless",
    help="Unlabeled text in; versioned, confidence-scored training sets out. No gold labels needed.",
    epilog=EXIT_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ORDER = (
    "init",
    "ingest",
    "preview",
    "curate",
    "improve",
    "progressive",
    "refine",
    "status",
    "show",
    "why",
    "diff",
    "audit",
    "evaluate",
    "export",
    "train",
    "prefer",
    "w2s",
    "certify",
    "replay",
    "serve",
    "bill",
    "doctor",
    "demo",
)
"""The commands as help lists them: in the order in which a person needs them."""
for group in (
    project,
    data,
    curate,
    improve,
    progressive,
    refine,
    show,
    audit,
    evaluate,
    train,
    prefer,
    w2s,
    certify,
    replay,
    serve,
    keys,
    bill,
    models,
    doctor,
    demo,
):
    group.register(app)
app.registered_commands.sort(key=lambda found: ORDER.index(found.name or ""))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version())
        raise typer.Exit


@app.callback()
def options(
    shown: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Unlabeled text in; versioned, confidence-scored training sets out. No gold labels needed.

    Start with `goldless init`, then `goldless ingest` and `goldless curate`.
    """


def main() -> None:
    """The entry point of the console script."""
    survive_any_terminal()
    app()
