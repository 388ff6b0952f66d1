"""`goldless serve` in a process of its own, for the tests of what people run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from route_builders import Limits, policy

from cascade.artifact import save, seal
from cascade.policy import Policy, TierRecord
from curator.engines import connect
from curator.types import DecideRequest, GenerateRequest

ROOT = Path(__file__).parents[1]


@contextmanager
def started(folder: Path, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in `folder`, and the address that it says; killed at the end if it is still there."""
    command = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--port", "0", "--json", *arguments]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process, json.loads(line)["url"] if line else ""
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    """Its exit code and what it said, after a signal."""
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    return process.returncode, said


def cascade_of(
    specs: Mapping[str, str],
    asked: Mapping[DecideRequest | GenerateRequest, Limits],
    settings: Mapping[str, Mapping[str, object]] | None = None,
    **changed: object,
) -> Policy:
    """A policy for the tiers at `specs`, with rules for each of the requests; a million tokens cost 1 in, 2 out.
    `settings` are those of a tier's engine, which the server needs to be told too."""
    given = settings or {}
    tiers = {name: connect(spec, **given.get(name, {})) for name, spec in specs.items()}
    found = [policy(tiers, request, limits, **changed) for request, limits in asked.items()]
    records = tuple(
        TierRecord(name=one.name, identity=one.identity, spec=specs[one.name], price=(1.0, 2.0))
        for one in found[0].tiers
    )
    rules = tuple(question for one in found for question in one.questions)
    return seal(found[0].model_copy(update={"tiers": records, "questions": rules}))


def saved(folder: Path, found: Policy) -> Path:
    """`folder`, with the policy in it where `goldless serve` looks for it."""
    save(found, folder / "policy.json")
    return folder
