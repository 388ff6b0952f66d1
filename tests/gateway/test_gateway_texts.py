"""Text, whole and streamed, asked by the openai client; upstreams that break, hang and see the client go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import anyio
import httpx
import openai
import pytest
from gateway_builders import running, scripted_tiers, settled
from route_builders import policy

from cascade.artifact import seal
from cascade.policy import Scorer
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.errors import ServerError
from curator.types import Completion, Delta, GenerateRequest, Message, Sample, Sampling, Usage

pytestmark = pytest.mark.anyio

ASKED = [{"role": "user", "content": "How many?"}]


class Speaking(ScriptedEngine):
    """Streams what `say` makes of the request, and notes when nobody wanted it to its end."""

    def __init__(self, name: str, say: Callable[[GenerateRequest], AsyncGenerator[Delta, None]]) -> None:
        super().__init__(generate=lambda _: "whole", identity=EngineIdentity("scripted", name))
        self._say = say
        self.closed_early = False

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        try:
            async for piece in self._say(request):
                yield piece
        except (GeneratorExit, asyncio.CancelledError):
            self.closed_early = True
            raise


async def words(request: GenerateRequest) -> AsyncGenerator[Delta, None]:
    for word in ("one ", "two ", "three"):
        yield Delta(text=word, logprobs=(-0.1,))
    yield Delta(finish_reason="stop", usage=Usage(5, 3))


async def broken(request: GenerateRequest) -> AsyncGenerator[Delta, None]:
    yield Delta(text="one ")
    raise ServerError("the connection to http://10.0.0.1 broke")


async def endless(request: GenerateRequest) -> AsyncGenerator[Delta, None]:
    while True:
        yield Delta(text="word ")
        await anyio.sleep(0.01)


def client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


async def test_a_stream_passes_on_what_the_last_tier_says(tmp_path: Path) -> None:
    tiers = scripted_tiers(strong=Speaking("strong", words))
    async with running(tmp_path, tiers) as server, client_of(server.url) as client:
        stream = await client.chat.completions.create(
            model="cascade", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "one two three"
    assert chunks[-1].usage.completion_tokens == 3
    assert chunks[-1].goldless["tier"] == "strong"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


async def test_a_draft_is_held_back_and_served_whole_or_not_at_all(tmp_path: Path) -> None:
    sure = {"yes": (-0.01, -0.01), "no": (-0.01, -3.0)}

    async def draft(request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        for word, logprob in zip(("a ", "draft"), sure[request.messages[-1].content], strict=True):
            yield Delta(text=word, logprobs=(logprob,))
        yield Delta(finish_reason="stop", usage=Usage(2, 2))

    tiers = scripted_tiers(small=Speaking("small", draft))
    asked = GenerateRequest((Message("user", "yes"),), Sampling(temperature=1.0, max_tokens=64))
    found = seal(
        policy(tiers, asked, {"text": [0.9]}, scorer=Scorer(signals=("sequence_probability",), weights=(1.0,)))
    )
    async with running(tmp_path, tiers, found) as server, client_of(server.url) as client:
        said, heads = {}, {}
        for word in sure:
            stream = await client.chat.completions.create(
                model="cascade", messages=[{"role": "user", "content": word}], stream=True, max_tokens=64
            )
            # They come before the first chunk: of what the last tier says nothing but who it is is settled then.
            names = ("x-goldless-tier", "x-goldless-certified", "x-goldless-confidence", "x-goldless-cost")
            heads[word] = [stream.response.headers.get(name) for name in names]
            chunks = [chunk async for chunk in stream]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            said[word] = (text, chunks[-1].goldless["tier"], chunks[-1].goldless["certified"])
    assert said == {"yes": ("a draft", "small", True), "no": ("an answer", "strong", True)}
    assert heads == {"yes": ["small", "true", "0.9900", None], "no": ["strong", None, None, None]}


async def test_a_refusal_keeps_its_words_streamed_or_not(tmp_path: Path) -> None:
    """The last tier's; a lower tier's refusal is only a reason to ask the next one."""

    def declining(name: str, said: str) -> ScriptedEngine:
        answer = Completion((Sample(said, "refusal"),), Usage(2, 3))
        return ScriptedEngine(None, lambda _: answer, identity=EngineIdentity("scripted", name))

    tiers = {"small": declining("small", "I must not."), "strong": declining("strong", "I will not.")}
    async with running(tmp_path, tiers) as server, client_of(server.url) as client:
        whole = await client.chat.completions.create(model="cascade", messages=ASKED)
        stream = await client.chat.completions.create(model="cascade", messages=ASKED, stream=True)
        pieces = [chunk.choices[0].delta.refusal or "" async for chunk in stream if chunk.choices]
        answer = await client.responses.create(model="cascade", input="x")
    assert (whole.choices[0].message.refusal, whole.choices[0].message.content) == ("I will not.", None)
    assert whole.goldless["outcome"] == "refused"
    assert "".join(pieces) == "I will not."
    assert answer.output[0].content[0].refusal == "I will not."


async def test_a_stream_that_breaks_ends_as_an_error_and_never_as_an_answer(tmp_path: Path) -> None:
    tiers = scripted_tiers(strong=Speaking("strong", broken))
    body = {"model": "cascade", "messages": ASKED, "stream": True}
    async with running(tmp_path, tiers) as server, client_of(server.url) as client, httpx.AsyncClient() as raw:
        stream = await client.chat.completions.create(model="cascade", messages=ASKED, stream=True)
        with pytest.raises(openai.APIError):
            _ = [chunk async for chunk in stream]
        said = (await raw.post(f"{server.url}/v1/chat/completions", json=body)).text
        events = (
            await raw.post(f"{server.url}/v1/responses", json={"model": "cascade", "input": "x", "stream": True})
        ).text
    assert "one " in said
    assert '"error"' in said
    assert "[DONE]" not in said
    assert '"finish_reason":"stop"' not in said
    assert "10.0.0.1" not in said
    assert "response.failed" in events
    assert "response.completed" not in events


async def test_a_failure_before_the_first_piece_has_its_status(tmp_path: Path) -> None:
    async def down(request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        raise ServerError("down")
        yield Delta()

    tiers = scripted_tiers(strong=Speaking("strong", down))
    changed = {"resilience": {"attempts": 1}, "fallback": False}
    async with running(tmp_path, tiers, **changed) as server, client_of(server.url) as client:
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model="cascade", messages=ASKED, stream=True)
    assert refused.value.status_code == 503


async def test_a_client_that_goes_away_stops_the_model(tmp_path: Path) -> None:
    talking = Speaking("strong", endless)
    async with running(tmp_path, scripted_tiers(strong=talking)) as server:
        async with client_of(server.url) as client:
            stream = await client.chat.completions.create(model="cascade", messages=ASKED, stream=True)
            async for _ in stream:
                break
            await stream.close()
        await settled(server)
    assert talking.closed_early


async def test_completions_and_responses(tmp_path: Path) -> None:
    tiers = scripted_tiers(strong=Speaking("strong", words))
    async with running(tmp_path, tiers) as server, client_of(server.url) as client:
        two = await client.completions.create(model="cascade", prompt=["a", "b"])
        stream = await client.completions.create(model="cascade", prompt="a", stream=True)
        text = "".join([chunk.choices[0].text async for chunk in stream])
        whole = await client.responses.create(model="cascade", input="a")
        async with client.responses.stream(model="cascade", input="a") as events:
            kinds = [event.type async for event in events]
            final = await events.get_final_response()
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            await client.responses.create(model="cascade", input="a", previous_response_id="resp_1")
    assert [choice.text for choice in two.choices] == ["whole", "whole"]
    assert text == "one two three"
    assert whole.output_text == "whole"
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == "one two three"


async def gone(request: GenerateRequest) -> AsyncGenerator[Delta, None]:
    """As it is where a piece is written to a client that has just gone."""
    yield Delta(text="one ")
    raise ConnectionResetError("Cannot write to closing transport")


async def test_clients_that_leave_are_no_errors_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """aiohttp wrote a traceback for each."""
    async with running(tmp_path, scripted_tiers(strong=Speaking("strong", gone))) as server:
        async with client_of(server.url) as client:
            with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
                async for _ in await client.chat.completions.create(model="cascade", messages=ASKED, stream=True):
                    pass
        await settled(server)
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_body_without_a_limit_gets_the_settings_one(tmp_path: Path) -> None:
    tiers = scripted_tiers()
    limits = {"max_tokens": 7, "drain_seconds": 5.0}
    async with running(tmp_path, tiers, limits=limits) as server, client_of(server.url) as client:
        await client.chat.completions.create(model="cascade", messages=ASKED)
        await client.responses.create(model="cascade", input="x")
        await client.chat.completions.create(model="cascade", messages=ASKED, max_tokens=9)
    assert [request.sampling.max_tokens for request in tiers["strong"].requests] == [7, 7, 9]
