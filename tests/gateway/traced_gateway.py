"""A gateway with the real SDK in a process of its own (a provider can be set only once). Prints spans, metrics, and
what its upstream was sent.

    python tests/gateway/traced_gateway.py FOLDER
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import httpx
from gateway_builders import MOOD_BODY, TEMPLATE, running
from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest
from route_builders import MOOD, policy, row

from benchmarks.mock_server import MockServer
from cascade.artifact import seal
from cascade.policy import TierRecord
from curator.engines.base import EngineIdentity
from curator.engines.http import HTTPEngine
from curator.engines.scripted import ScriptedEngine

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRETS = ("a private hard text", "sk-gl-secret")


async def main(folder: Path) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False)
    metrics.set_meter_provider(MeterProvider([reader]))
    async with MockServer(speaks=["decisions", "chat"], labels=["good", "bad"]) as upstream:
        small = ScriptedEngine(
            lambda request: [0.6, 0.4] if "hard" in request.state else [0.9, 0.1],
            identity=EngineIdentity("scripted", "small"),
        )
        tiers = {"small": small, "strong": HTTPEngine(upstream.url, "strong", dialect="decisions")}
        found = policy(tiers, replace(row("", MOOD), template=TEMPLATE), {"mood": [0.8]})
        records = tuple(TierRecord(name=one.name, identity=one.identity, price=(1.0, 2.0)) for one in found.tiers)
        sealed = seal(found.model_copy(update={"tiers": records}))
        async with running(folder, tiers, sealed, scrape=generate_latest) as server, httpx.AsyncClient() as client:
            headers = {"traceparent": PARENT, "Authorization": f"Bearer {SECRETS[1]}"}
            body = {"model": "cascade", "input": SECRETS[0], "questions": [MOOD_BODY]}
            answer = await client.post(f"{server.url}/v1/decisions", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            escalated = spans.get_finished_spans()
            for number in range(5):
                await client.post(f"{server.url}/v1/decisions", json={**body, "input": f"fine {number}"})
            chat = {"model": "cascade", "messages": [{"role": "user", "content": "x"}], "stream": False}
            await client.post(f"{server.url}/v1/chat/completions", json=chat)
            while len(server.gateway.life.audits):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            scraped = (await client.get(f"{server.url}/metrics")).text
        sent = [headers.get("traceparent", "") for headers in upstream.headers]
    shown = [json.loads(span.to_json()) for span in escalated]
    print(json.dumps({"spans": shown, "metrics": scraped, "sent": sent}))


asyncio.run(main(Path(sys.argv[1])))
