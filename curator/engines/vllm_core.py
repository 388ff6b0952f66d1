"""vLLM's `AsyncLLM`, its errors mapped to ours. Import it only after `curator.engines.vllm` set the environment."""

from __future__ import annotations

import asyncio
import difflib
import gc
import json
import multiprocessing
import os
import warnings
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import fields, replace
from functools import lru_cache
from itertools import count
from pathlib import Path

from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from curator.engines.guard import Guard, descendants
from curator.engines.local import NextToken
from curator.engines.readout import Tokens, together
from curator.engines.vllm_samples import first_line, read_piece, read_sample, sample_params
from curator.errors import (
    ConfigError,
    EngineError,
    GoldlessError,
    RequestRejectedError,
    ServerError,
    WeightsError,
)
from curator.types import Delta, GenerateRequest, Sample, Usage

MOST = 128
"""vLLM's MAX_LOGPROB_TOKEN_IDS; longer lists are asked for in parts."""

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def start(folder: Path, adapter: str | None, dtype: str, settings: Mapping[str, object]) -> Core:
    """Start vLLM's processes and load the model; blocks until it is ready.

    Raises: ConfigError for a setting that vLLM does not have or refuses; WeightsError; EngineError.
    """
    known = [field.name for field in fields(AsyncEngineArgs)]
    for name in settings:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else "see vLLM's engine arguments"
            raise ConfigError(f"unknown setting {name!r} of the vllm engine", hint=hint)
    lora = _lora(adapter)
    chosen = {**_defaults(), **({"enable_lora": True, "max_lora_rank": _rank(adapter)} if adapter else {}), **settings}
    try:
        args = AsyncEngineArgs(model=str(folder), dtype=dtype, **chosen)
        before = descendants(os.getpid())
        llm = AsyncLLM.from_engine_args(args)
        return Core(llm, lora, Guard(descendants(os.getpid()) - before))
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"vLLM refuses these settings: {first_line(error)}") from error
    except (RuntimeError, OSError) as error:
        raise EngineError(
            f"vLLM cannot start with {folder.name}: {first_line(error)}",
            hint="VLLM_LOGGING_LEVEL=INFO shows why; memory? set max_model_len, gpu_memory_utilization or "
            "VLLM_CPU_KVCACHE_SPACE (GiB); a script needs `if __name__ == '__main__':`, since vLLM starts processes",
        ) from error


def _defaults() -> dict[str, object]:
    """On a CPU: no compilation, two GiB for keys and values, and blocks small enough that short prompts share
    their prefixes. Prompts are read whole: vLLM 0.32 dies of a prompt read in parts whose sampling has a seed ("CPU
    Generator does not use offset")."""
    settings: dict[str, object] = {"disable_log_stats": True, "use_tqdm_on_load": False}
    if current_platform.is_cpu():
        settings |= {"enforce_eager": True, "block_size": 32, "enable_chunked_prefill": False}
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            settings["kv_cache_memory_bytes"] = 2 << 30
    return settings


def _lora(adapter: str | None) -> LoRARequest | None:
    return LoRARequest(Path(adapter).name, 1, str(Path(adapter).expanduser())) if adapter else None


def _rank(adapter: str) -> int:
    """The smallest rank that vLLM has kernels for and the adapter fits in."""
    config = Path(adapter).expanduser() / "adapter_config.json"
    try:
        rank = int(json.loads(config.read_text())["r"])
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{adapter} is no LoRA adapter: {error}", hint="pass the folder that peft saved") from error
    return next((size for size in LORA_RANKS if size >= rank), rank)


class Core:
    """A running vLLM."""

    def __init__(self, llm: AsyncLLM, lora: LoRARequest | None, guard: Guard) -> None:
        self.llm = llm
        self._lora = lora
        self._numbers = count()
        self._guard = guard
        self.max_model_len: int = llm.model_config.max_model_len

    async def next_token(self, ids: list[int], tokens: Tokens) -> NextToken:
        """Log-probabilities of `tokens` after the prompt `ids`, over the whole vocabulary."""
        parts = [tokens[at : at + MOST] for at in range(0, len(tokens), MOST)]
        outputs = await together([self._run(ids, read_params(part)) for part in parts])
        logprobs: list[float] = []
        for part, output in zip(parts, outputs, strict=True):
            found = output.outputs[0].logprobs
            if not found:
                raise EngineError("vLLM gave no log-probabilities", hint="logprobs_mode must be raw_logprobs")
            logprobs.extend(found[0][token].logprob for token in part)
        return NextToken(logprobs, sum((_usage(output) for output in outputs), Usage(calls=0)))

    async def sample(self, ids: list[int], request: GenerateRequest, end: int) -> tuple[list[Sample], Usage]:
        """`request.n` texts. Greedy samples are all the same, so one is made."""
        count = request.n if request.sampling.temperature > 0 else 1
        output = await self._run(ids, sample_params(request, count, end))
        samples = [read_sample(one, request) for one in sorted(output.outputs, key=lambda one: one.index)]
        return samples * (request.n // count), _usage(output)

    async def stream(self, ids: list[int], request: GenerateRequest, end: int) -> AsyncGenerator[Delta, None]:
        """The same in pieces. Closing the generator aborts the request in the engine.

        Raises: ServerError if the engine died; RequestRejectedError; EngineError.
        """
        count = request.n if request.sampling.temperature > 0 else 1
        params = sample_params(request, count, end, RequestOutputKind.DELTA)
        usage = Usage()
        with mapped():
            async with aclosing(self._generate(ids, params)) as outputs:
                async for output in outputs:
                    usage = replace(_usage(output), output_tokens=usage.output_tokens + _usage(output).output_tokens)
                    for one in map(_unaborted, output.outputs):
                        piece = read_piece(one, request, usage)
                        for copy in range(request.n // count):
                            yield replace(piece, index=piece.index + copy)
        yield Delta(usage=usage)

    async def _run(self, ids: list[int], params: SamplingParams) -> RequestOutput:
        """Cancelling aborts the request in the engine. Raises: as `stream`."""
        with mapped():
            output = await _last(self._generate(ids, params))
        _unaborted(output.outputs[0])
        return output

    def _generate(self, ids: list[int], params: SamplingParams) -> AsyncGenerator[RequestOutput, None]:
        number = str(next(self._numbers))
        outputs: AsyncGenerator[RequestOutput, None] = self.llm.generate(
            tokens_input(ids), params, number, lora_request=self._lora
        )
        return outputs

    async def aclose(self) -> None:
        """End vLLM's processes and wait for them; killed only if they do not go by themselves."""
        handler = self.llm.output_handler
        await asyncio.to_thread(self.llm.shutdown, timeout=30)
        self._guard.release()
        if handler is not None:
            await asyncio.wait([handler])
        del self.llm, handler
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of zmq contexts that vLLM leaves open
            gc.collect()  # its cycles would else be torn down at interpreter exit, which fails
        multiprocessing.active_children()  # reaps the ended ones


@contextmanager
def mapped() -> Iterator[None]:
    """vLLM's errors as ours."""
    try:
        yield
    except GoldlessError:
        raise
    except EngineDeadError as error:
        raise ServerError("the vLLM engine died", hint="VLLM_LOGGING_LEVEL=INFO shows why; out of memory?") from error
    except (VLLMClientError, ValueError) as error:
        raise RequestRejectedError(f"vLLM refuses the request: {first_line(error)}") from error
    except Exception as error:  # vLLM's own tree, and what it wraps
        raise EngineError(f"vLLM failed: {type(error).__name__}: {first_line(error)}") from error


def _unaborted(output: CompletionOutput) -> CompletionOutput:
    if output.finish_reason in ("abort", "error"):
        raise EngineError("vLLM aborted the request")
    return output


async def _last(stream: AsyncGenerator[RequestOutput, None]) -> RequestOutput:
    """Read to its end: a generator that is left early costs the event loop a task to close it."""
    last = None
    async for output in stream:
        last = output
    if last is None or not last.finished:
        raise EngineError("vLLM ended a request without an answer")
    return last


@lru_cache(maxsize=256)
def read_params(tokens: Tokens) -> SamplingParams:
    """One greedy token, and the log-probabilities of `tokens` in its place. Never changed, so shared."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=list(tokens),
        detokenize=False,
        skip_clone=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _usage(output: RequestOutput) -> Usage:
    return Usage(
        input_tokens=len(output.prompt_token_ids or ()),
        output_tokens=sum(len(one.token_ids) for one in output.outputs),
        cached_tokens=output.num_cached_tokens or 0,
    )
