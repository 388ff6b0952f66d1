"""The soak's processes: upstreams, API keys, and the policy and settings of the gateway."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson

from benchmarks._soak_load import JUDGED, QUESTION, body_of
from cascade.artifact import save, seal
from cascade.fingerprint import prompt_fingerprint, question_fingerprint
from cascade.policy import Certificate, Policy, QuestionPolicy, Rule, Scorer, TierRecord, Verdict
from cascade.wire import chat, decisions, systemone
from curator.engines import connect
from curator.engines.base import identity_text
from curator.task import DEFAULT_TEMPLATE
from curator.types import DecideRequest

TIERS = ("small", "strong")
SETTINGS = """
[serve]
keys = "keys.jsonl"
ledger = "ledger"
[serve.replicas]
small = ["{small}"]
strong = ["{strong}"]
[serve.limits]
seconds = 20.0
drain_seconds = 20.0
[serve.resilience]
timeout = 5.0
hedge = 0.05
[serve.live]
share = 0.05
# Tiers differ in every text here: no alarm shall take the small one out.
alpha = 1.0
[serve.traffic]
folder = "traffic"
"""
COMMAND = (sys.executable, "-c", "from cli.main import main; main()")


def policy_file(urls: dict[str, list[str]], path: Path) -> None:
    """A policy whose small tier serves what it is sure of: decisions in both dialects, and texts by their beginning."""
    identities = {tier: identity_text(connect(spec(urls[tier][0], tier)).identity) for tier in TIERS}
    tiers = tuple(
        TierRecord(name=name, identity=identities[name], spec=spec(urls[name][0], name), price=(0.001, 0.002))
        for name in TIERS
    )
    certificate = Certificate(
        basis="vs_teacher",
        verdict=Verdict.PASS,
        reason="benchmark",
        alpha=0.05,
        delta=0.1,
        rows=500,
        risk=0.02,
        bound=0.04,
        shares=(0.7, 0.3),
    )

    def entry(name: str, fingerprint: str, signal: str) -> QuestionPolicy:
        rule = Rule(tier="small", scorer=Scorer(signals=(signal,), weights=(1.0,)), threshold=0.8)
        return QuestionPolicy(name=name, fingerprint=fingerprint, rules=(rule,), certificate=certificate)

    who = list(identities.values())
    asked = decisions.parse({"model": "cascade", "input": "", "questions": [QUESTION]}).request
    judged = systemone.parse({"model": "cascade", "state": "", "questions": {"mood": JUDGED}}).request
    said = chat.parse(orjson.loads(body_of("chat", "x"))).request
    marks = [_decided(request, who) for request in (asked, judged)]
    questions = [entry(f"mood{number}", mark, "top_probability") for number, mark in enumerate(marks)]
    text = entry("text", prompt_fingerprint(said, who), "prefix_probability:4")
    save(seal(Policy(created=datetime.now(UTC), tiers=tiers, questions=(*questions, text))), path)


def _decided(request: DecideRequest, tiers: Sequence[str]) -> str:
    put = DecideRequest("", request.questions, DEFAULT_TEMPLATE)
    return question_fingerprint(put, request.questions[0], tiers)


def spec(url: str, tier: str) -> str:
    """How the gateway is told where a replica is."""
    return f"{url}#{tier}?dialect=decisions"


@contextlib.contextmanager
def process(command: Sequence[str], **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process and its first line; killed at the end if it is still there."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **more}) as started:
        try:
            assert started.stdout is not None
            yield started, started.stdout.readline().strip()
        finally:
            started.kill()


@contextlib.contextmanager
def upstreams(given: argparse.Namespace) -> Iterator[dict[str, list[str]]]:
    """Two replicas per tier; those of the small one tell their usage all the time. Only one of the four has outages."""
    with contextlib.ExitStack() as stack:
        urls: dict[str, list[str]] = {tier: [] for tier in TIERS}
        for number, tier in enumerate(TIERS * 2):
            command = [sys.executable, "-m", "benchmarks.mock_soak_upstream", "--tier", tier]
            command += ["--first", str(1 + number * 10_000_000), "--seed", str(given.seed + number)]
            command += ["--latency", str(given.latency), "--faults", str(given.faults)]
            command += ["--running"] if tier == "small" else []
            command += ["--outage", "60"] if number == 0 else []
            urls[tier].append(stack.enter_context(process(command))[1])
        yield urls


def api_keys(folder: Path, count: int = 3) -> list[str]:
    """New keys, made as people make them."""
    command = [*COMMAND, "keys", "add", "soak", "--json", "--file", str(folder / "keys.jsonl"), "--total", "1000000"]
    return [json.loads(subprocess.check_output(command))["key"] for _ in range(count)]
