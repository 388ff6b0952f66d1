"""Routed answers to write into bodies, and JSON bodies that are almost right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import httpx2
import openai
import orjson
from hypothesis import strategies as st

from cascade.routed import Attempt, Judgement, Outcome, Reason, Routed, Served
from cascade.wire.bodies import Stamp
from cascade.wire.reading import FieldError
from cascade.wire.sse import MEDIA
from curator.engines.dialects import DecisionsDialect
from curator.engines.transport import Transport
from curator.engines.wire import Server, from_probabilities
from curator.types import Completion, Decision, Sample, Usage
from tests.cascade.route_builders import certificate

Call = TypeVar("Call")

STAMP = Stamp("id-1", "cascade", 1_790_000_000)
DRAFT = Usage(10, 1, 4)
FINAL = Usage(20, 2, 8)


def decision(*chances: float, mass: float | None = None) -> Decision:
    return from_probabilities(list(chances), "labels", mass)


def served(answer, name: str = "text", tier: str = "strong", sure: float = 0.9, outcome: str = "teacher", **more):
    kept = {"basis": "reference:strong", "certified": True, "certificate": certificate(), **more}
    return Served(name, answer, tier, Outcome(outcome), sure, **kept)


def escalated(*answers: Served, failed: str = "") -> Routed:
    """The small tier was asked first, then the strong one; each answer's tier is told by itself."""
    judged = tuple(Judgement(one.question, one.answer, Reason.BELOW) for one in answers)
    attempts = (Attempt("small", judged, DRAFT, 0.001, 0.01, failed), Attempt("strong", judged, FINAL, 0.01, 0.1))
    return Routed(answers, attempts, 0.12, 0.01)


def texts(*samples: Sample, usage: Usage = FINAL, **more) -> Routed:
    return escalated(served(Completion(samples, usage) if samples else None, **more))


@contextmanager
def official(answer: httpx2.Response) -> Iterator[openai.OpenAI]:
    """The official client, to whom every request is answered with `answer`."""
    transport = httpx2.MockTransport(lambda request: answer)
    with (
        httpx2.Client(transport=transport) as http,
        openai.OpenAI(api_key="k", base_url="http://gateway/v1", http_client=http, max_retries=0) as client,
    ):
        yield client


def as_stream(*events: bytes) -> httpx2.Response:
    """A streamed answer."""
    return httpx2.Response(200, headers={"content-type": MEDIA}, content=b"".join(events))


def as_json(body: object) -> object:
    """What a client reads of it."""
    return orjson.loads(orjson.dumps(body))


def client_dialect(kind: type[DecisionsDialect]) -> DecisionsDialect:
    """Our own client's side of a decision dialect. It is asked for bodies and to read answers; nothing is sent."""
    transport = Transport("http://localhost/v1", api_key=None, timeout=1, headers={}, connections=1)
    return kind(Server(transport, "cascade"))


def read_or_refused(parse: Callable[[object], Call], body: object) -> Call | None:
    """What `parse` makes of a body, None where it names a path that is wrong. Any other error is a fault."""
    try:
        return parse(body)
    except FieldError as error:
        if not error.path or not str(error).startswith(error.path):
            raise AssertionError("no path is named") from error
        return None


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def almost(template: Mapping[str, object], words: Sequence[str]) -> st.SearchStrategy[object]:
    """`template` with some of its parts, at any depth, replaced by other JSON, taken away or given twice."""
    return st.lists(_edits(words), max_size=3).map(lambda edits: _edited(template, edits))


def _edits(words: Sequence[str]) -> st.SearchStrategy[tuple[list[int], str, object]]:
    values = ANY_JSON | st.sampled_from(words) | st.dictionaries(st.sampled_from(words), ANY_JSON, max_size=4)
    return st.tuples(st.lists(st.integers(0, 50), max_size=5), st.sampled_from(["set", "drop", "twice"]), values)


def _edited(template: object, edits: Sequence[tuple[list[int], str, object]]) -> object:
    body = as_json(template)
    for steps, what, value in edits:
        body = _edit(body, steps, what, value)
    return body


def _edit(node: object, steps: list[int], what: str, value: object) -> object:
    if not steps or not isinstance(node, dict | list) or not node:
        return value if what == "set" else node
    key = list(node)[steps[0] % len(node)] if isinstance(node, dict) else steps[0] % len(node)
    if len(steps) == 1 and what == "drop":
        del node[key]
    elif len(steps) == 1 and what == "twice" and isinstance(node, list):
        node.append(node[key])
    else:
        node[key] = _edit(node[key], steps[1:], what, value)
    return node
