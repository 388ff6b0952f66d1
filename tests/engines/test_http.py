"""HTTPEngine against a real aiohttp server: every dialect, every failure."""

from __future__ import annotations

import asyncio
import logging
import math

import pytest

from benchmarks.mock_model import chat as render
from benchmarks.mock_model import distribution, encode, next_token
from benchmarks.mock_server import Faults, MockServer
from curator.engines.base import render_messages
from curator.engines.http import HTTPEngine
from curator.engines.readout import label_trie, read
from curator.errors import (
    AuthenticationError,
    ConfigError,
    ContextLengthError,
    EngineTimeoutError,
    InvalidOutputError,
    ModelNotFoundError,
    RateLimitError,
    RefusalError,
    RequestRejectedError,
    ServerError,
)
from curator.types import (
    DecideRequest,
    Demonstration,
    GenerateRequest,
    Message,
    Option,
    Question,
    Sampling,
    Template,
)

pytestmark = pytest.mark.anyio

MOOD = Question("mood", "choice", "What is the mood?", (Option("positive"), Option("negative")))
TRUE = Question("true", "predicate", "Is it true?", (Option("true", "it holds"), Option("false")))
STARS = Question("stars", "score", "How many stars?", (Option("low"), Option("mid"), Option("high")))
ALL = (MOOD, TRUE, STARS)
CHAT = GenerateRequest((Message("user", "Say hi"),))


def ask(state="a fine day", *questions, **settings):
    return DecideRequest(state, questions or (MOOD,), **settings)


@pytest.fixture
async def engines():
    """Makes engines and closes them."""
    made = []

    def make(url, **settings):
        made.append(HTTPEngine(url, "mock", **settings))
        return made[-1]

    yield make
    for engine in made:
        await engine.aclose()


@pytest.mark.parametrize("dialect", ["decisions", "systemone"])
async def test_decision_endpoints_answer_in_option_order(engines, dialect):
    async with MockServer(speaks=[dialect]) as server:
        result = await engines(server.url, dialect=dialect).decide(ask("a fine day", *ALL))
    for question, answer in zip(ALL, result.answers, strict=True):
        labels = ("true", "false") if question.kind == "predicate" else question.labels
        assert answer.probabilities == pytest.approx(distribution("a fine day", labels))
        assert answer.readout == dialect
        assert answer.label_mass == (0.9 if dialect == "systemone" else None)
        assert sum(map(math.exp, answer.logprobs)) == pytest.approx(answer.label_mass or 1.0)
    assert result.usage.input_tokens == 30
    assert result.usage.output_tokens == 3
    assert len(server.requests) == 1


async def test_auto_probes_once_for_many_callers_and_remembers(engines, caplog):
    caplog.set_level(logging.INFO, "curator.engines.http")
    async with MockServer(speaks=["systemone"], latency=0.01) as server:
        engine = engines(server.url)
        results = await asyncio.gather(*(engine.decide(ask(f"row {i}")) for i in range(20)))
        await engine.decide(ask("one more"))
    assert {r.answers[0].readout for r in results} == {"systemone"}
    assert server.counts == {"/v1/decisions": 1, "/v1/systemone": 1 + 20 + 1}
    assert sum(r.usage.calls for r in results) == 20 + 1
    assert [r.message for r in caplog.records if "speaks" in r.message] == [
        f"{server.url} speaks the dialect 'systemone'"
    ]


@pytest.mark.parametrize(
    ("speaks", "readout"),
    [
        (("decisions", "systemone", "tokens"), "decisions"),
        (("systemone", "tokens"), "systemone"),
        (("tokens",), "labels"),
        (("chat",), "labels"),
    ],
)
async def test_auto_takes_the_first_dialect_that_the_server_speaks(engines, speaks, readout):
    async with MockServer(speaks=speaks) as server:
        engine = engines(server.url)
        result = await engine.decide(ask())
    assert result.answers[0].readout == readout


async def test_auto_passes_over_a_dialect_that_answers_501(engines):
    message = {"error": {"message": "The model does not support the structured decision API", "code": 501}}
    async with MockServer(status={"/v1/systemone": (501, message)}) as server:
        result = await engines(server.url).decide(ask())
    assert result.answers[0].readout == "labels"


async def test_auto_asks_for_structured_output_where_there_are_no_logprobs(engines):
    reply = {"choices": [{"index": 0, "message": {"content": '{"answer": "true"}'}, "finish_reason": "stop"}]}
    async with MockServer(replies={"/v1/chat/completions": reply}) as server:
        engine = engines(server.url)
        first = await engine.decide(ask("x", TRUE))
        count = len(server.requests)
        await engine.decide(ask("y", TRUE))
        assert len(server.requests) == count + 1
    assert first.answers[0].readout == "structured"
    assert first.answers[0].probabilities == pytest.approx((2 / 3, 1 / 3))


async def test_a_question_that_does_not_fit_goes_to_the_next_dialect(engines):
    many = Question("many", "choice", "Which?", tuple(Option(f"{chr(97 + i)} label") for i in range(30)))
    async with MockServer(speaks=["systemone", "tokens"]) as server:
        engine = engines(server.url)
        assert (await engine.decide(ask("x", many))).answers[0].readout == "labels"
        assert (await engine.decide(ask("x", MOOD))).answers[0].readout == "systemone"


async def test_a_probe_that_fails_for_other_reasons_is_repeated(engines):
    async with MockServer(faults=Faults(script=["rate_limit"])) as server:
        engine = engines(server.url)
        with pytest.raises(RateLimitError):
            await engine.decide(ask())
        assert (await engine.decide(ask())).answers[0].readout == "labels"


async def test_refusal_of_one_question_leaves_the_others(engines):
    async with MockServer(speaks=["decisions"]) as server:
        engine = engines(server.url)
        assert (await engine.decide(ask("please refuse", MOOD, TRUE))).answers == (None, None)
    reply = {"choices": [{"message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}]}
    async with MockServer(speaks=[], replies={"/v1/chat/completions": reply}) as server:
        assert (await engines(server.url, dialect="structured").decide(ask())).answers == (None,)


async def test_chat_reads_labels_among_the_likeliest_tokens(engines):
    async with MockServer() as server:
        engine = engines(server.url, dialect="chat")
        result = await engine.decide(ask("so so", template=Template(system="Be brief.")))
        content = server.requests[-1][1]["messages"][-1]["content"]
    answer = result.answers[0]
    assert answer.probabilities == pytest.approx(distribution(content, ["positive", "negative"]))
    assert answer.label_mass == pytest.approx(0.95)
    assert server.requests[-1][1]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert server.requests[-1][1]["max_tokens"] == 1


async def test_chat_asks_for_letters_where_labels_begin_alike(engines):
    cards = Question("card", "choice", "Which?", tuple(map(Option, ["card lost", "card late", "card blocked"])))
    async with MockServer(labels=("A", "B", "C")) as server:
        result = await engines(server.url, dialect="chat").decide(ask("help", cards))
        content = server.requests[-1][1]["messages"][-1]["content"]
    assert result.answers[0].readout == "letters"
    assert result.answers[0].probabilities == pytest.approx(distribution(content, ["A", "B", "C"]))
    assert "B. card late" in content
    assert content.endswith("Answer with the letter of one option only.\n\nhelp")


async def test_chat_asks_for_structured_output_where_letters_run_out(engines):
    labels = [f"intent {i}" for i in range(40)]
    many = Question("intent", "choice", "Which?", tuple(map(Option, labels)))
    async with MockServer() as server:
        result = await engines(server.url, dialect="chat").decide(ask("help", many))
        body = server.requests[-1][1]
    content = body["messages"][-1]["content"]
    expected = distribution(content, labels)
    assert body["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"] == labels
    assert result.answers[0].readout == "structured"
    assert result.answers[0].top == expected.index(max(expected))


async def test_structured_output_takes_probabilities_from_the_logprobs(engines):
    async with MockServer() as server:
        result = await engines(server.url, dialect="structured").decide(ask("so so"))
        content = server.requests[-1][1]["messages"][-1]["content"]
    assert result.answers[0].probabilities == pytest.approx(distribution(content, ["positive", "negative"]))


SPLIT = [
    ("positive", "negative"),
    ("no", "no relation", "unknown"),
    ("card lost", "card late", "card blocked", "other"),
    ("card lost", "card late", "loan new", "loan old", "loan"),
    ("好评", "好的", "差评"),
    tuple(f"intent {i}" for i in range(150)),
]


@pytest.mark.parametrize("labels", SPLIT, ids=lambda labels: labels[0])
@pytest.mark.parametrize("prefix", ["", "Answer: "])
async def test_token_ids_are_read_like_in_process(engines, labels, prefix):
    question = Question("q", "choice", "Which?", tuple(map(Option, labels)))
    request = ask("a fine day", question, template=Template(answer_prefix=prefix))
    async with MockServer(speaks=["tokens"]) as server:
        engine = engines(server.url, dialect="chat")
        answer = (await engine.decide(request)).answers[0]
        preview = (await engine.preview(request))[0]
    messages = [{"role": m.role, "content": m.content} for m in render_messages(request, question)]
    prompt = encode(render(messages) + prefix)
    tail = encode("<|im_end|>\n<|im_start|>assistant\n" + prefix)
    trie = label_trie(labels, tail, [[*tail, *encode(label)] for label in labels], encode("<|im_end|>")[0])

    async def local(path, tokens):
        logprobs = next_token((*prompt, *path))
        return [logprobs[token] for token in tokens]

    expected = await read(trie, local)
    assert answer.logprobs == pytest.approx(expected.logprobs)
    assert answer.label_mass == pytest.approx(expected.label_mass)
    assert answer.readout == "labels"
    assert preview.tokens == len(prompt)
    assert preview.prompt == render(messages) + prefix


async def test_token_ids_ask_for_more_than_vllm_takes_in_parts(engines):
    labels = tuple(chr(0x100 + i) * 2 for i in range(20))
    question = Question("q", "choice", "Which?", tuple(map(Option, labels)))
    async with MockServer(speaks=["tokens"]) as server:
        await engines(server.url, dialect="chat").decide(ask("x", question))
        asked = [body.get("logprob_token_ids", []) for _, body in server.requests]
    assert max(map(len, asked)) <= 128


async def test_a_plain_model_gets_its_messages_joined(engines):
    missing = {"error": {"message": "default chat template is no longer allowed", "code": 400}}

    class Plain(MockServer):
        def _answer(self, request, raw):
            if b'"messages"' in raw:
                self.status = {request.path: (400, missing)}
            else:
                self.status = {}
            return super()._answer(request, raw)

    async with Plain(speaks=["tokens"]) as server:
        engine = engines(server.url, dialect="chat")
        result = await engine.decide(ask())
        preview = (await engine.preview(ask()))[0]
    assert result.answers[0].readout == "labels"
    assert preview.prompt.endswith("Answer with one of the options only.\n\na fine day\n\n")


async def test_one_session_serves_rows_with_quotes_braces_and_any_language(engines):
    states = ['He said "{state}" \\ and left\n', "{instructions}", "日本語 \u2028 🙂", "\x00 nul", ""]
    async with MockServer() as server:
        engine = engines(server.url, dialect="chat")
        for state in states:
            await engine.decide(ask(state))
            request = ask(state)
            assert server.requests[-1][1]["messages"][-1]["content"] == render_messages(request, MOOD)[-1].content


async def test_half_a_surrogate_pair_is_rejected_before_it_is_sent(engines):
    async with MockServer(speaks=["decisions"]) as server:
        with pytest.raises(RequestRejectedError, match="surrogate"):
            await engines(server.url, dialect="decisions").decide(ask("\ud800"))
    assert not server.requests


async def test_demonstrations_are_shown(engines):
    shown = (Demonstration("lovely", {"mood": "positive"}), Demonstration("2 + 2", {"true": "true"}))
    async with MockServer(speaks=["decisions", "chat"]) as server:
        await engines(server.url, dialect="decisions").decide(ask("x", MOOD, demonstrations=shown))
        assert server.requests[-1][1]["questions"][0]["instructions"].endswith(
            "Examples:\n\nInput: lovely\nAnswer: positive"
        )
        await engines(server.url, dialect="chat").decide(ask("x", MOOD, demonstrations=shown))
        roles = [message["role"] for message in server.requests[-1][1]["messages"]]
    assert roles == ["user", "assistant", "user"]


async def test_preview_shows_what_is_sent_without_asking(engines):
    async with MockServer(speaks=["decisions"]) as server:
        preview = (await engines(server.url, dialect="decisions").preview(ask("a fine day", MOOD)))[0]
        assert not server.requests
    assert '"input": "a fine day"' in preview.prompt
    assert preview.scored == (("positive", ("positive",)), ("negative", ("negative",)))


async def test_generate_sends_the_sampling_and_reads_usage(engines):
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=5, seed=3, stop=("\n",))
    async with MockServer() as server:
        result = await engines(server.url).generate(GenerateRequest(CHAT.messages, sampling, n=3))
    path, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert {key: body[key] for key in ("n", "temperature", "top_p", "max_tokens", "seed", "stop")} == {
        "n": 3,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 5,
        "seed": 3,
        "stop": ["\n"],
    }
    assert len(result.samples) == 3
    assert result.samples[0].text in ("positive", "negative")
    assert result.samples[0].logprob < 0
    assert (result.usage.input_tokens, result.usage.output_tokens) == (40, 1)


async def test_generate_asks_again_where_a_server_ignores_n(engines):
    reply = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 2}}
    async with MockServer(replies={"/v1/chat/completions": reply}) as server:
        request = GenerateRequest(CHAT.messages, Sampling(seed=5), n=3)
        result = await engines(server.url).generate(request)
    assert [sample.text for sample in result.samples] == ["hi"] * 3
    assert [body["seed"] for _, body in server.requests] == [5, 6, 7]
    assert result.usage.input_tokens == 6
    assert result.usage.calls == 3


async def test_generate_learns_what_newer_models_want(engines):
    complaint = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."

    class Newer(MockServer):
        def _answer(self, request, raw):
            wrong = b"max_tokens" in raw
            self.status = {request.path: (400, {"error": {"message": complaint}})} if wrong else {}
            return super()._answer(request, raw)

    async with Newer() as server:
        engine = engines(server.url)
        await engine.generate(CHAT)
        await engine.generate(CHAT)
    assert len(server.requests) == 3
    assert server.requests[-1][1]["max_completion_tokens"] == 256


async def test_a_schema_is_sent_as_response_format(engines):
    schema = {"type": "object", "properties": {"answer": {"enum": ["x"]}}}
    async with MockServer() as server:
        result = await engines(server.url).generate(GenerateRequest(CHAT.messages, schema=schema))
    assert server.requests[0][1]["response_format"]["json_schema"]["schema"] == schema
    assert result.samples[0].text == '{"answer":"x"}'


@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        ("rate_limit", RateLimitError, "answered 429: slow down"),
        ("server_error", ServerError, "answered 500: out of luck"),
        ("invalid_json", ServerError, "no valid JSON"),
        ("wrong_shape", InvalidOutputError, "cannot read the server's chat completion"),
        ("hang", EngineTimeoutError, "no answer from .* within 0.2 s"),
        ("drop", ServerError, "broke the connection"),
        ("half", ServerError, "broke the connection"),
    ],
)
async def test_faults_become_our_errors(engines, fault, error, match):
    async with MockServer(faults=Faults(script=[fault] * 2, retry_after="7")) as server:
        engine = engines(server.url, timeout=0.2)
        with pytest.raises(error, match=match) as raised:
            await engine.generate(CHAT)
        if fault == "rate_limit":
            assert raised.value.retry_after == 7


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"error": {"message": "bad key"}}, AuthenticationError),
        (403, {"detail": "forbidden"}, AuthenticationError),
        (404, {"error": {"message": "The model `mock` does not exist."}}, ModelNotFoundError),
        (400, {"error": "bad"}, RequestRejectedError),
        (422, {"detail": [{"msg": "field required"}]}, RequestRejectedError),
        (503, "<html><b>busy</b></html>", ServerError),
        (413, {"error": {"message": "too large"}}, ContextLengthError),
        (301, {}, RequestRejectedError),
    ],
)
async def test_statuses_become_our_errors(engines, status, body, error):
    async with MockServer(status={"/v1/chat/completions": (status, body)}) as server:
        with pytest.raises(error, match=f"answered {status}"):
            await engines(server.url).generate(CHAT)


@pytest.mark.parametrize(
    "reply",
    [
        [],
        {},
        {"choices": None},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {}, "logprobs": {"content": [{"token": 1}]}}]},
        "text",
        None,
        7,
    ],
)
async def test_garbage_never_becomes_an_answer(engines, reply):
    paths = ("/v1/chat/completions", "/v1/decisions", "/v1/systemone")
    async with MockServer(replies=dict.fromkeys(paths, reply)) as server:
        for dialect in ("decisions", "systemone", "chat", "structured"):
            with pytest.raises(InvalidOutputError):
                await engines(server.url, dialect=dialect).decide(ask())
        with pytest.raises(InvalidOutputError):
            await engines(server.url).generate(CHAT)


async def test_empty_and_foreign_answers_are_invalid(engines):
    for content in ("", "   ", "Sure! I'd say positive", '{"answer": "great"}', '{"answer": "posi'):
        reply = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
        async with MockServer(replies={"/v1/chat/completions": reply}) as server:
            with pytest.raises(InvalidOutputError, match="none of the options"):
                await engines(server.url, dialect="structured").decide(ask())


async def test_a_model_that_wants_to_say_something_else_is_told(engines):
    async with MockServer(labels=("Sure", "Well")) as server:
        engine = engines(server.url, dialect="chat")
        with pytest.raises(InvalidOutputError, match=r"wants to say '(Sure|Well)'"):
            await engine.decide(ask())


async def test_every_sample_refused_is_a_refusal(engines):
    reply = {"choices": [{"message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}]}
    async with MockServer(replies={"/v1/chat/completions": reply}) as server:
        with pytest.raises(RefusalError, match="I cannot"):
            await engines(server.url).generate(CHAT)


async def test_an_api_key_is_sent_and_never_repeated(engines):
    async with MockServer(api_key="right") as server:
        await engines(server.url, api_key="right").generate(CHAT)
        with pytest.raises(AuthenticationError) as raised:
            await engines(server.url, api_key="sk-secret").generate(CHAT)
    assert "Bearer ***" in str(raised.value)
    assert "sk-secret" not in str(raised.value)


async def test_no_server_names_the_url(engines):
    async with MockServer() as server:
        url = server.url
    with pytest.raises(ServerError, match=f"cannot connect to {url}/chat/completions") as raised:
        await engines(url).generate(CHAT)
    assert raised.value.hint == f"is a server running at {url.removesuffix('/v1')}?"


async def test_connections_are_limited_and_reused(engines):
    async with MockServer(latency=0.005, capacity=4) as server:
        engine = engines(server.url, dialect="chat", concurrency=4)
        results = await asyncio.gather(*(engine.decide(ask(str(i))) for i in range(40)))
    assert len(results) == 40


async def test_extra_headers_and_fields_are_sent_and_change_the_identity(engines):
    async with MockServer() as server:
        plain = engines(server.url)
        engine = engines(server.url, headers={"X-Team": "a"}, extra={"service_tier": "flex"})
        await engine.generate(CHAT)
    assert server.headers[0]["X-Team"] == "a"
    assert server.requests[0][1]["service_tier"] == "flex"
    assert engine.identity != plain.identity
    assert engines(server.url, dialect="chat").identity != plain.identity


@pytest.mark.parametrize(
    ("url", "settings", "match"),
    [
        ("localhost:8000", {}, "not a server's URL"),
        ("ftp://host/v1", {}, "not a server's URL"),
        ("http://user:pw@host/v1", {}, "credentials"),
        ("http://host/v1", {"dialect": "soap"}, "unknown dialect 'soap'"),
        ("http://host/v1", {"timeout": 0}, "timeout"),
        ("http://host/v1", {"concurrency": 0}, "concurrency"),
    ],
)
def test_wrong_settings_are_refused(url, settings, match):
    with pytest.raises(ConfigError, match=match):
        HTTPEngine(url, "mock", **settings)


def test_an_engine_outlives_an_event_loop():
    async def once(port, engine):
        async with MockServer(port=port) as server:
            engine = engine or HTTPEngine(server.url, "mock")
            assert (await engine.generate(CHAT)).samples
            return server.port, engine

    port, engine = asyncio.run(once(0, None))
    asyncio.run(once(port, engine))
    asyncio.run(engine.aclose())


def test_an_api_key_with_a_line_break_is_refused():
    with pytest.raises(ConfigError, match="Authorization holds a line break"):
        HTTPEngine("http://host/v1", "mock", api_key="key\n")
