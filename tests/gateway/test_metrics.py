"""The trace of one escalated query as DESIGN.md draws it, the metrics, and a dashboard that asks for no others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.exporter.prometheus", reason="the serve extra is not installed")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What came of the requests of traced_gateway.py."""
    path = os.pathsep.join(map(str, (ROOT, HERE, ROOT / "tests" / "cascade")))
    command = [sys.executable, str(HERE / "traced_gateway.py"), str(tmp_path_factory.mktemp("gateway"))]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_trace_of_an_escalated_query(seen: dict) -> None:
    spans = {span["context"]["span_id"]: span for span in seen["spans"]}
    names = {span_id: span["name"] for span_id, span in spans.items()}
    assert sorted(names.values()) == ["cascade.decide", "chat small", "chat strong", "invoke_workflow cascade"]
    (root,) = [span for span in spans.values() if span["name"] == "invoke_workflow cascade"]
    assert root["context"]["trace_id"] == f"0x{TRACE}"
    assert root["parent_id"] == f"0x{CALLER}", "the caller's span is the parent"
    assert {names.get(span["parent_id"]) for span in spans.values() if span is not root} == {"invoke_workflow cascade"}
    kinds = {span["name"]: span["kind"] for span in spans.values()}
    assert kinds == {
        "invoke_workflow cascade": "SpanKind.INTERNAL",
        "chat small": "SpanKind.INTERNAL",
        "chat strong": "SpanKind.CLIENT",
        "cascade.decide": "SpanKind.INTERNAL",
    }


def test_what_the_spans_say(seen: dict) -> None:
    found = {span["name"]: span["attributes"] for span in seen["spans"]}
    root, decide, strong = found["invoke_workflow cascade"], found["cascade.decide"], found["chat strong"]
    assert (root["cascade.tier"], root["cascade.outcome"], root["cascade.certified"]) == (["strong"], ["teacher"], True)
    assert root["cascade.cost.total"] > root["cascade.cost.baseline"] > 0
    assert (decide["cascade.decision"], decide["cascade.reason"]) == ("escalate", "below_threshold")
    assert decide["cascade.score"] == pytest.approx(0.6)
    assert decide["cascade.threshold"] == 0.8
    assert strong["gen_ai.operation.name"] == "chat"
    assert strong["gen_ai.request.model"] == "strong"
    assert strong["gen_ai.usage.input_tokens"] > 0
    assert strong["gen_ai.usage.cost.amount"] > 0
    assert strong["server.address"] == "127.0.0.1"
    (judged,) = [span for span in seen["spans"] if span["name"] == "cascade.decide"]
    assert [event["name"] for event in judged["events"]] == ["gen_ai.evaluation.result"]
    assert "cost" not in " ".join(decide), "costs stand on attempts only, so that sums do not double"


def test_the_trace_goes_on_in_the_upstream(seen: dict) -> None:
    (strong,) = [span for span in seen["spans"] if span["name"] == "chat strong"]
    assert seen["sent"][0] == f"00-{TRACE}-{strong['context']['span_id'][2:]}-01"


def test_nothing_private_is_told(seen: dict) -> None:
    told = json.dumps(seen["spans"]) + seen["metrics"]
    assert "private" not in told
    assert "sk-gl" not in told


def families(text: str) -> set[str]:
    """The metrics' names, as samples have them."""
    return {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if line and line[0] != "#"}


def test_the_metrics(seen: dict) -> None:
    text = seen["metrics"]
    assert 'cascade_requests_total{cascade_outcome="accepted",cascade_tier="small"} 5.0' in text
    assert 'cascade_requests_total{cascade_outcome="teacher",cascade_tier="strong"} 1.0' in text
    assert 'http_route="/v1/decisions"' in text
    assert 'le="0.0005"' in text, "overhead has buckets of its own"
    count = re.search(r'cascade_audit_disagreement\w*_count\{cascade_tier="small"\} (\S+)', text)
    assert count is not None
    assert float(count[1]) == 5
    assert 'cascade_upstream_breaker{cascade_tier="strong",upstream="strong"} 0.0' in text


def test_the_dashboard_asks_for_metrics_that_there_are(seen: dict) -> None:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(queries) >= 10
    known = families(seen["metrics"])
    asked = {name for query in queries for name in re.findall(r"\b(?:cascade|gen_ai)_\w+(?=[\[{])", query)}
    assert asked
    assert asked <= known, asked - known
    labels = set(re.findall(r'[{,](\w+)="', seen["metrics"]))
    grouped = {
        name.strip() for query in queries for part in re.findall(r"by \(([^)]*)\)", query) for name in part.split(",")
    }
    assert grouped <= labels | {"le"}, grouped - labels
