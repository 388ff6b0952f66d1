"""`goldless serve`: a certified cascade as an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import Session, command
from curator.errors import InputError

if TYPE_CHECKING:
    from cascade.gateway.settings import ServeSettings
    from cli.output import Output
    from cli.serving import Serving


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "serve",
        shared=("config", "json"),
        example="goldless serve policy.json\ngoldless serve policy.json --port 9000 --traffic traffic/\n"
        "goldless serve policy.json --host 0.0.0.0 --keys keys.jsonl --ledger ledger/",
        scraped=True,
    )(serve)


def serve(
    session: Session,
    policy: Annotated[
        Path | None, typer.Argument(help="The policy to serve with, as `goldless certify` wrote it.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="The address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = None,
    tier: Annotated[
        list[str] | None,
        typer.Option("--tier", metavar="NAME=ENGINE", help="Where a tier is found, if the policy does not say."),
    ] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="The file of API keys.")] = None,
    ledger: Annotated[Path | None, typer.Option("--ledger", help="The folder to bill every attempt into.")] = None,
    traffic: Annotated[Path | None, typer.Option("--traffic", help="The folder to record traffic in.")] = None,
) -> None:
    """Serve a cascade: point your OpenAI client at it.

    It answers /v1/chat/completions, /v1/decisions, /v1/systemone and more. The settings file's table `serve` has more
    options; its `cascade.tiers` of the same name say where a tier is found, and with which API key. SIGTERM and Ctrl-C
    stop in order: what is in flight is finished, traffic and ledger are written. SIGHUP reads the policy again.
    """
    from cascade.gateway.redaction import redacted
    from cli.logs import scraper
    from cli.serving import resolved, serving_of

    folder = session.config.parent
    given = resolved(session.settings.serve, folder)
    paths = {"policy": policy, "keys": keys, "ledger": ledger, "host": host, "port": port}
    said: dict[str, object] = {name: value for name, value in paths.items() if value is not None}
    settings = given.model_copy(update={**said, "tiers": {**given.tiers, **_tiers(tier)}})
    if traffic is not None:
        settings = _recording(settings, traffic)
    with session.out.guarded(), contextlib.nullcontext() if settings.content else redacted():
        found = serving_of(session.settings, settings, folder, scraper())
        _run(_serve(found, session.out))


def _tiers(written: list[str] | None) -> dict[str, str]:
    found = {}
    for one in written or []:
        name, equals, spec = one.partition("=")
        if not (name and equals and spec):
            raise InputError(f"--tier {one!r} is not NAME=ENGINE", hint="--tier small=http://localhost:8000/v1#small")
        found[name] = spec
    return found


def _recording(settings: ServeSettings, folder: Path) -> ServeSettings:
    from cascade.gateway.settings import TrafficTable

    now = settings.traffic
    table = TrafficTable(folder=folder) if now is None else now.model_copy(update={"folder": folder})
    return settings.model_copy(update={"traffic": table})


def _run(work: Coroutine[None, None, None]) -> None:
    """Run until it ends, on uvloop where it is installed."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        from uvloop import new_event_loop

        factory = new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


async def _serve(found: Serving, out: Output) -> None:
    from cascade.gateway.server import serve as serve_until

    stop = asyncio.Event()
    _handle_signals(stop, found, out)
    try:
        await serve_until(found.gateway, stop, lambda address: _told(found, out, address))
    finally:
        await found.aclose()


def _handle_signals(stop: asyncio.Event, found: Serving, out: Output) -> None:
    loop = asyncio.get_running_loop()

    def leave() -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        out.say("stopping: what is in flight is finished (again: leave at once)")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leave)
    loop.add_signal_handler(signal.SIGHUP, lambda: found.gateway.life.refresh(again=True))


def _told(found: Serving, out: Output, address: str) -> None:
    """Say where, and what is certified."""
    from cascade.gateway.certificates import certified

    gateway = found.gateway
    policy = gateway.life.main.policy
    if out.json:
        out.emit({"url": address, "policy": policy.checksum, "certified": certified(policy)})
        return out.flush()
    out.say(f"listening on {address}; clients use {address}/v1 and the model {gateway.settings.name!r}")
    out.say(f"tiers: {' > '.join(tier.name for tier in policy.tiers)}; certified: {certified(policy)}")
    return None
