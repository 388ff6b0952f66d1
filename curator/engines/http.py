"""Any OpenAI-compatible server as an engine.

A decision is asked in the first of these ways that the server speaks (`dialect="auto"`):

1. `decisions`   `POST {base}/decisions`, OpenAI's typed questions
2. `systemone`   `POST {base}/systemone`, the System One shape (vLLM for some architectures, deciders)
3. `tokens`      vLLM's `/tokenize` + `logprob_token_ids`: the local engines' read-out, over HTTP
4. `chat`        `POST {base}/chat/completions` with `top_logprobs`
5. `structured`  chat completions held to an enum by `response_format`

The server is probed once per engine with a tiny question of its own (callers wait for the one probe;
what it costs is added to the first answer's usage); `Decision.readout` and the log tell which way was
taken. `decisions` and `systemone` are used without a probe when named; `chat` stands for the ways 3 to
5, and `structured` is probed for log-probabilities.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypedDict, Unpack, get_args

import orjson

from curator.engines.base import EngineIdentity, Preview
from curator.engines.chat import ChatDialect, StructuredDialect
from curator.engines.dialects import DecisionsDialect, SystemOneDialect
from curator.engines.exchanges import purpose
from curator.engines.generation import Generator
from curator.engines.tokens import TokensDialect
from curator.engines.transport import Transport
from curator.engines.wire import Dialect, Server
from curator.errors import ConfigError, RequestRejectedError
from curator.types import Capability, Completion, DecideRequest, Decisions, Delta, GenerateRequest, JsonObject, Usage

DialectName = Literal["auto", "decisions", "systemone", "chat", "structured"]

_WAYS: Final[dict[DialectName, tuple[Callable[[Server], Dialect], ...]]] = {
    "auto": (DecisionsDialect, SystemOneDialect, TokensDialect, ChatDialect, StructuredDialect),
    "decisions": (DecisionsDialect,),
    "systemone": (SystemOneDialect,),
    "chat": (TokensDialect, ChatDialect, StructuredDialect),
    "structured": (StructuredDialect,),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HTTPSettings:
    """How a server is talked to.

    `timeout` is seconds per exchange (of a stream: to the first piece, and between pieces), `concurrency`
    the most connections, `headers` and `extra` go into every request's headers and body
    (`extra={"service_tier": "flex"}`).
    """

    api_key: str | None = None
    dialect: DialectName = "auto"
    timeout: float = 60.0
    concurrency: int = 64
    headers: Mapping[str, str] | None = None
    extra: JsonObject | None = None

    def __post_init__(self) -> None:
        if self.dialect not in get_args(DialectName):
            raise ConfigError(f"unknown dialect {self.dialect!r}", hint=f"one of {', '.join(get_args(DialectName))}")
        if not self.timeout > 0:
            raise ConfigError(f"timeout must be positive, not {self.timeout}")
        if self.concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {self.concurrency}")


class HTTPOptions(TypedDict, total=False):
    """The keyword arguments of `HTTPEngine`: the fields of `HTTPSettings`."""

    api_key: str | None
    dialect: DialectName
    timeout: float
    concurrency: int
    headers: Mapping[str, str] | None
    extra: JsonObject | None


class HTTPEngine:
    """`model` behind the OpenAI-compatible server at `base_url` (which usually ends in /v1).

        engine = HTTPEngine("http://localhost:8000/v1", "Qwen/Qwen2.5-0.5B-Instruct", dialect="chat")

    `decisions` and `systemone` send the typed question: of the template only what changes the options
    matters there, and demonstrations become worked examples behind the instructions.
    Raises: ConfigError for a wrong URL or setting.
    """

    def __init__(self, base_url: str, model: str, **settings: Unpack[HTTPOptions]) -> None:
        self.settings = HTTPSettings(**settings)
        chosen = self.settings
        self._transport = Transport(
            base_url,
            api_key=chosen.api_key,
            timeout=chosen.timeout,
            headers=chosen.headers or {},
            connections=chosen.concurrency,
        )
        server = Server(self._transport, model, extra=dict(chosen.extra or {}))
        self._dialects: Sequence[Dialect] = [way(server) for way in _WAYS[chosen.dialect]]
        self._generator = Generator(server)
        self._lock = asyncio.Lock()
        self._spoken: dict[str, bool] = {}
        self._owed = Usage(calls=0)
        how = "" if chosen.dialect == "auto" else f"?dialect={chosen.dialect}"
        self.identity = EngineIdentity("http", model, str(self._transport.base) + how, _digest(chosen.extra))

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Both; a server that has only a decision endpoint answers `generate` with a 404."""
        return frozenset({"decide", "generate"})

    @property
    def concurrency(self) -> int:
        """The most connections."""
        return self.settings.concurrency

    async def decide(self, request: DecideRequest) -> Decisions:
        """A probability per option of every question, None where the model refused.

        Raises: EngineError's kin, each naming the URL and what the server said.
        """
        start = time.perf_counter()
        dialect = await self._dialect(request)
        answered = await dialect.decide(request)
        usage = answered.usage
        if self._owed.calls:
            usage, self._owed = usage + self._owed, Usage(calls=0)
        return Decisions(answered.answers, usage, None, time.perf_counter() - start)

    async def generate(self, request: GenerateRequest) -> Completion:
        """`request.n` texts. Raises: RefusalError, but for a `ChatRequest`, which gets the refusal as its text;
        EngineError's kin."""
        start = time.perf_counter()
        samples, usage = await self._generator.generate(request)
        return Completion(samples, usage, None, time.perf_counter() - start)

    def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The same in pieces. `timeout` is for the first one, and then for each pause between two.

        Raises: EngineError's kin, ServerError for a stream that ends before its samples do.
        """
        return self._generator.stream(request)

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """The JSON that would be sent (with `tokens`: the rendered prompt). Asks the server what it
        speaks, if that is not known yet."""
        return await (await self._dialect(request)).preview(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _dialect(self, request: DecideRequest) -> Dialect:
        """The first way that the server speaks and the request fits into."""
        for dialect in self._dialects:
            spoken = self._spoken.get(dialect.name)
            if spoken is not False and dialect.fits(request) and (spoken or await self._speaks(dialect)):
                return dialect
        if fallback := [dialect for dialect in self._dialects if self._spoken.get(dialect.name)]:
            return fallback[0]
        raise RequestRejectedError(
            f"{self._transport.base} answers decisions of {self.identity.model!r} in no way that is known",
            hint="check the URL (it usually ends in /v1) and the model's name",
        )

    async def _speaks(self, dialect: Dialect) -> bool:
        """Probe once; concurrent callers wait for it. A failure that says nothing is not remembered."""
        if self.settings.dialect in ("decisions", "systemone"):
            return True
        async with self._lock:
            if (known := self._spoken.get(dialect.name)) is not None:
                return known
            with purpose("probe"):
                usage = await dialect.probe()
            self._spoken[dialect.name] = usage is not None
            self._owed += usage or Usage(calls=0)
            log.log(
                logging.INFO if usage else logging.DEBUG,
                "%s %s the dialect %r",
                self.identity.endpoint,
                "speaks" if usage else "does not speak",
                dialect.name,
            )
            return usage is not None


def _digest(extra: JsonObject | None) -> str:
    """Extra body fields change answers, so they enter the identity."""
    if not extra:
        return ""
    return hashlib.blake2b(orjson.dumps(extra, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()
