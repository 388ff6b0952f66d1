"""A gateway that is asked about private things; prints what it logs and the spans: `python private_requests.py FOLDER`.

A process of its own, as a tracer provider is for the whole of one. The first line is the key that was used.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
from gateway_builders import MOOD_BODY, running, scripted_tiers
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from cascade.gateway.key_file import changing
from cascade.gateway.key_records import new_key
from cascade.gateway.keys import Keyring
from cascade.gateway.redaction import redacted
from cascade.traffic_writer import TrafficSettings, TrafficWriter
from curator.errors import InvalidOutputError, RefusalError

SECRET = "my blood group is AB negative"
ANSWER = "said the doctor in confidence"
BODIES = (
    ("decisions", {"model": "cascade", "input": SECRET, "questions": [MOOD_BODY]}),
    ("decisions", {"model": "cascade", "input": f"hard {SECRET}", "questions": [MOOD_BODY]}),
    ("chat/completions", {"model": "cascade", "messages": [{"role": "user", "content": SECRET}]}),
    ("chat/completions", {"model": SECRET, "messages": [{"role": "user", "content": SECRET}]}),
    ("chat/completions", {"model": "cascade", "messages": SECRET}),
)


def leaky(request: object) -> str:
    raise InvalidOutputError(f"cannot read {ANSWER!r}: {request}")


def buggy(request: object) -> str:
    raise ZeroDivisionError(f"{ANSWER} {request}")


def refusing(request: object) -> str:
    raise RefusalError(f"the model declined: {ANSWER}: {request}")


async def ask(url: str, key: str) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as client:
        for path, body in BODIES:
            done = await client.post(f"{url}/v1/{path}", json=body)
            print("status", done.status_code)
        await client.post(f"{url}/v1/chat/completions", content=f"{{{SECRET}")


async def main(folder: Path) -> None:
    key, record = new_key("x", datetime.now(UTC), limits={"tokens_per_minute": 10**9})
    print(key)
    with changing(folder / "keys.jsonl") as records:
        records.append(record)
    for broken in (lambda _: ANSWER, leaky, buggy, refusing):
        tiers = scripted_tiers()
        tiers["strong"]._generate = broken
        writer = TrafficWriter(TrafficSettings(folder=folder / "traffic"))
        keys = Keyring(folder / "keys.jsonl")
        async with running(folder, tiers, writer=writer, keys=keys, ledger=folder / "ledger") as server:
            await ask(server.url, key)
            await ask(server.url, key[:-1] + "x")
        writer.close()


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(sys.stdout)))
    trace.set_tracer_provider(provider)
    logging.basicConfig(stream=sys.stdout, level=logging.DEBUG)
    with redacted():
        asyncio.run(main(Path(sys.argv[1])))
