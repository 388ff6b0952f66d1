"""The litellm client against a gateway, in a process of its own (it leaves connections open). Prints what it got.

python tests/gateway/litellm_client.py http://127.0.0.1:8080
"""

from __future__ import annotations

import asyncio
import json
import sys

import litellm
import openai

ASKED: dict[str, object] = {
    "model": "openai/cascade",
    "api_base": f"{sys.argv[1]}/v1",
    "api_key": "none",
    "messages": [{"role": "user", "content": "Is it fun?"}],
    "temperature": 0,
    "max_tokens": 16,
    "max_retries": 0,
    "timeout": 60,
}


def seen(answer) -> dict:
    return {
        "text": answer.choices[0].message.content,
        "usage": answer.usage.total_tokens,
        "tier": answer.goldless["tier"],
    }


def refused(**changed: object) -> dict:
    try:
        litellm.completion(**{**ASKED, **changed})
    except openai.APIStatusError as error:  # what litellm's errors are kinds of
        return {"kind": type(error).__name__, "status": error.status_code, "said": str(error)}
    return {}


async def at_once() -> dict:
    answer = await litellm.acompletion(**ASKED)
    pieces = [piece async for piece in await litellm.acompletion(**ASKED, stream=True)]
    return {"whole": seen(answer), "streamed": litellm.stream_chunk_builder(pieces).choices[0].message.content}


def main() -> None:
    whole = litellm.completion(**ASKED)
    pieces = list(litellm.completion(**ASKED, stream=True, stream_options={"include_usage": True}))
    asked_for = litellm.completion(**ASKED, extra_headers={"x-goldless-tier": "strong"})
    found = {
        "whole": seen(whole),
        "header": whole._hidden_params["additional_headers"]["llm_provider-x-goldless-tier"],
        "streamed": "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices),
        "streamed_usage": pieces[-1].usage.total_tokens,
        "strong": seen(asked_for),
        "named": seen(litellm.completion(**{**ASKED, "model": "openai/cascade:strong"})),
        "async": asyncio.run(at_once()),
        "unknown": refused(model="openai/nope"),
        "wrong": refused(temperature=7),
    }
    print(json.dumps(found))


main()
