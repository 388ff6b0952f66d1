"""What a request to sample becomes in vLLM, and its outputs as ours. Import it only where `vllm_core` may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vllm import SamplingParams
from vllm.exceptions import VLLMClientError
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from curator.engines.chat_fields import decisive
from curator.engines.sampled import sample
from curator.errors import RequestRejectedError
from curator.types import ChatRequest, Delta, GenerateRequest, JsonObject, Sample, Usage

LEAST = -9999.0
"""Stands for minus infinity, which JSON does not have, as in vLLM's server."""


def sample_params(
    request: GenerateRequest, count: int, end: int, kind: RequestOutputKind = RequestOutputKind.FINAL_ONLY
) -> SamplingParams:
    """Exactly what is asked for: the model's own preferences (generation_config.json) are not applied.

    Raises: RequestRejectedError for a field that vLLM does not take so.
    """
    sampling = request.sampling
    chat = request if isinstance(request, ChatRequest) else ChatRequest(request.messages)
    extra = decisive(chat)
    form = extra.pop("response_format", None)
    held = StructuredOutputsParams(json=request.schema) if request.schema is not None else None
    if isinstance(form, dict):
        if form.get("type") != "json_object":
            raise RequestRejectedError(f"vLLM in process knows no response_format {form.get('type')!r} here")
        held = StructuredOutputsParams(json_object=True)
    try:
        return SamplingParams.from_optional(
            n=count,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            stop=list(sampling.stop),
            stop_token_ids=[end],
            logprobs=chat.logprobs or 0,
            structured_outputs=held,
            output_kind=kind,
            **extra,
        )
    except (TypeError, ValueError, VLLMClientError) as error:
        raise RequestRejectedError(f"vLLM refuses the request: {first_line(error)}") from error


def read_sample(output: CompletionOutput, request: GenerateRequest) -> Sample:
    """A whole sample."""
    plain = sample(output.text, output.finish_reason or "stop", _chances(output))
    return replace(plain, tokens=_tokens(output, request))


def read_piece(output: CompletionOutput, request: GenerateRequest, usage: Usage) -> Delta:
    """A piece of one."""
    chances, tokens = tuple(_chances(output)), _tokens(output, request)
    return Delta(output.index, output.text, chances, (), tokens, output.finish_reason, usage)


def _chances(output: CompletionOutput) -> list[float]:
    """Log-probabilities of the tokens that were sampled."""
    places = zip(output.token_ids, output.logprobs or (), strict=False)
    return [found[token].logprob for token, found in places]


def _tokens(output: CompletionOutput, request: GenerateRequest) -> tuple[JsonObject, ...]:
    """The tokens as the chat completions API shows them, where the request asked to see them."""
    asked = request.logprobs if isinstance(request, ChatRequest) else None
    if asked is None:
        return ()
    places = zip(output.token_ids, output.logprobs or (), strict=False)
    return tuple(
        {**_token(found[token]), "top_logprobs": [_token(other) for other in _likeliest(found.values(), asked)]}
        for token, found in places
    )


def _likeliest(found: Iterable[Logprob], count: int) -> list[Logprob]:
    # The sampled token is among them, whatever its rank.
    return sorted(found, key=lambda one: one.logprob, reverse=True)[:count]


def _token(chance: Logprob) -> JsonObject:
    text = chance.decoded_token or ""
    return {"token": text, "logprob": max(chance.logprob, LEAST), "bytes": list(text.encode())}


def first_line(error: Exception) -> str:
    """The beginning of a foreign error's message."""
    return str(error).strip().partition("\n")[0]
