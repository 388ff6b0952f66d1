"""What every command gets: its settings, its store, its output; and the options that all share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Concatenate, ParamSpec, TypedDict, Unpack

import typer

from cli.failures import EXIT_HELP, explain
from cli.output import Output, abandon_stdout
from curator.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cli.config import Settings
    from cli.settings import EngineSettings
    from curator.engines.base import Engine
    from curator.store import Store
    from curator.task import Task

P = ParamSpec("P")
CONFIG_FILE = Path("goldless.toml")


class Flags(TypedDict, total=False):
    """Values of the shared options."""

    config: Path
    store: Path | None
    json: bool
    verbose: int
    quiet: bool
    debug: bool


SHARED: dict[str, tuple[object, object]] = {
    "config": (
        Annotated[Path, typer.Option("--config", "-c", help="The settings file.")],
        CONFIG_FILE,
    ),
    "store": (
        Annotated[Path | None, typer.Option("--store", "-s", help="The store to use instead of the settings' one.")],
        None,
    ),
    "json": (Annotated[bool, typer.Option("--json", help="JSON on stdout, one object per line.")], False),
    "verbose": (
        Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv for everything.")],
        0,
    ),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")], False),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show tracebacks.")], False),
}
ALWAYS = ("verbose", "quiet", "debug")


@dataclass
class Session:
    """One invocation of a command."""

    config: Path = CONFIG_FILE
    store_path: Path | None = None
    debug: bool = False
    out: Output = field(default_factory=Output)

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings file; the defaults where there is none and none was asked for by name.

        Raises: ConfigError
        """
        from cli.config import Settings, read_settings

        if self.config == CONFIG_FILE and not self.config.exists():
            return Settings()
        return read_settings(self.config)

    @property
    def location(self) -> Path:
        """Where the store is, or will be."""
        return self.store_path or self.config.parent / self.settings.store.path

    def store(self, *, create: bool = False) -> Store:
        """The store.

        Raises: InputError if there is none yet and `create` is false; StoreError.
        """
        if not create and not self.location.exists():
            raise InputError(
                f"there is no store at {self.location}",
                hint="run `goldless ingest` first, or name one with --store",
            )
        from curator.store import Store

        return Store(self.location, wait=self.settings.store.wait)

    def task(self) -> Task[BaseModel]:
        """The task of the settings. Raises: ConfigError, TaskError"""
        from cli.build import task_of

        return task_of(self.settings, self.config.parent)

    def engine_settings(self) -> EngineSettings:
        """Raises: ConfigError if the settings name no engine."""
        if (found := self.settings.engine) is None:
            raise ConfigError("the settings have no [engine]", hint="`goldless init` writes a file that has one")
        return found

    def engine(self, settings: EngineSettings, *, capped: bool = False) -> Engine:
        """The engine of a table, `capped` by [budget]; a cascade's tiers are connected as [[cascade.tiers]] say of the
        same specs. Raises: ConfigError, MissingExtraError, WeightsError"""
        from cli.build import engine_of

        return engine_of(settings, self.settings.budget if capped else None, self.settings.cascade.tiers)


def command(
    app: typer.Typer,
    name: str,
    *,
    shared: tuple[str, ...] = ("config", "store", "json"),
    example: str = "",
    scraped: bool = False,
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Register a function of `Session` and its own options as a command, with the shared options,
    the error handler and the logging around it. `scraped`: it keeps its metrics for whoever asks."""

    def register(function: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
        names = (*shared, *ALWAYS)
        # Examples keep their line breaks: \b is typer's mark for a paragraph that is not re-wrapped.
        epilog = "\n\n".join([*(f"$ {line}" for line in example.splitlines()), EXIT_HELP])
        app.command(name, epilog=epilog)(_with_options(function, names, scraped))
        return function

    return register


def _with_options(
    function: Callable[Concatenate[Session, P], None], names: tuple[str, ...], scraped: bool
) -> Callable[..., None]:
    @functools.wraps(function)
    def run(**values: object) -> None:
        flags = Flags(**{name: values.pop(name) for name in names})  # type: ignore[typeddict-item]
        own: Callable[..., None] = function
        invoke(functools.partial(own, **values), scraped=scraped, **flags)

    own_parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=SHARED[name][0], default=SHARED[name][1])
        for name in names
    ]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own_parameters] + added
    run.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return run


def invoke(function: Callable[[Session], None], *, scraped: bool = False, **flags: Unpack[Flags]) -> None:
    """Run a command's function; leave with its exit code.

    Raises: typer.Exit
    """
    from cli.logs import logging_to

    out = Output(json=flags.get("json", False), quiet=flags.get("quiet", False))
    debug = flags.get("debug", False)
    session = Session(flags.get("config", CONFIG_FILE), flags.get("store"), debug, out)
    with logging_to(out.stderr, verbose=flags.get("verbose", 0), quiet=out.quiet):
        _guarded(function, session, scraped)


def _guarded(function: Callable[[Session], None], session: Session, scraped: bool) -> None:
    """The error handler of all commands. Raises: typer.Exit"""
    from cli.logs import telemetry

    try:
        with telemetry(scraped=scraped):
            function(session)
        session.out.flush()
    except typer.Exit:
        raise
    except BrokenPipeError:
        abandon_stdout()
    except (Exception, KeyboardInterrupt) as error:
        raise typer.Exit(explain(error, session.out.complain, debug=session.debug)) from None
