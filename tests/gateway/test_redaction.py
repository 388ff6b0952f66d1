"""Neither secrets nor content in logs, spans, ledger and budget journal, unless they were asked for."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.mock_server import MockServer
from cascade.gateway.redaction import gist, redacted, trace
from curator.engines.http import HTTPEngine
from curator.errors import ConfigError, InputError, InvalidOutputError, ServerError
from curator.types import GenerateRequest, Message

HERE = Path(__file__).parent
SECRET = "my blood group is AB negative"
ANSWER = "said the doctor in confidence"


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """All that a root handler writes, at every level."""
    written = io.StringIO()
    handler, root = logging.StreamHandler(written), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with redacted():
            yield written
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def leaky(request: object) -> str:
    raise InvalidOutputError(f"cannot read {SECRET!r}: {request}")


def test_requests_leave_neither_key_nor_content_behind(tmp_path: Path) -> None:
    """Answers, refusals, failures that quote the prompt, a bug that does, a wrong key and a body that is none."""
    paths = [HERE.parents[1], HERE, HERE.parent / "cascade"]
    done = subprocess.run(
        [sys.executable, str(HERE / "private_requests.py"), str(tmp_path)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ":".join(map(str, paths))},
    )  # fmt: skip
    key, _, said = done.stdout.partition("\n")
    errors = ("InvalidOutputError", "RefusalError", "ZeroDivisionError")
    for expected in (*errors, '"name": "cascade.decide"', "status 401"):
        assert expected in said
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {".ledger.parquet", ".traffic.parquet"} <= {"".join(path.suffixes) for path in files}
    for text in (said, done.stderr, *(path.read_bytes().decode("latin-1") for path in files)):
        assert SECRET not in text
        assert ANSWER not in text
        assert key.rpartition("-")[2] not in text


@pytest.mark.anyio
async def test_what_a_server_says_is_left_out_and_that_it_failed_is_not() -> None:
    request = GenerateRequest((Message("user", SECRET),))
    said = {}
    for status in (400, 500):
        replies = {"/v1/chat/completions": (status, {"error": {"message": f"bad prompt: {SECRET}"}})}
        async with MockServer(status=replies) as server:
            engine = HTTPEngine(server.url, "mock")
            with pytest.raises(Exception, match=SECRET) as caught:
                await engine.generate(request)
            await engine.aclose()
        said[status] = gist(caught.value).replace(server.url, "URL")
    assert said == {
        400: "RequestRejectedError: URL/chat/completions answered 400",
        500: "ServerError: URL/chat/completions answered 500",
    }
    engine = HTTPEngine(server.url, "mock")
    with pytest.raises(ServerError) as gone:
        await engine.generate(request)
    await engine.aclose()
    assert "cannot connect to" in gist(gone.value)


def test_what_is_safe_is_said() -> None:
    assert gist(ConfigError("no such tier", hint="try small")) == "ConfigError: no such tier (try small)"
    assert gist(InputError(f"state: {SECRET}")) == "InputError"
    assert gist(ValueError(SECRET)) == "ValueError"


def test_a_traceback_keeps_its_lines_and_loses_its_messages() -> None:
    try:
        try:
            leaky(SECRET)
        except InvalidOutputError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError as error:
        text = trace(error)
    assert SECRET not in text
    assert "in leaky" in text
    assert text.index("RuntimeError") < text.index("because of") < text.index("InvalidOutputError")


def test_handlers_are_as_before_after_the_block() -> None:
    with logged() as written:
        logging.getLogger("cascade").warning("failed: %s", ValueError(SECRET))
        logging.getLogger("cascade").warning("%(a)s", {"a": "fine"})
    assert written.getvalue() == "failed: ValueError\nfine\n"
    assert all(not handler.filters for handler in logging.getLogger().handlers)
