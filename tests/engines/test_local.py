"""curator/engines/local.py: what is loaded once, however many wait for it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import pytest

from curator.engines import transformers, vllm
from curator.engines.gguf import quiet
from curator.engines.local import once


@pytest.mark.anyio
@pytest.mark.parametrize("module", [transformers, vllm])
async def test_many_requests_at_once_load_one_tokenizer(module, tiny_model, monkeypatch):
    loads, load = [], module.load_prompter
    monkeypatch.setattr(module, "load_prompter", lambda *given: loads.append(given) or load(*given))
    make = transformers.TransformersEngine if module is transformers else vllm.VLLMEngine
    engine = make(str(tiny_model))
    found = await asyncio.gather(*(engine.prompter() for _ in range(16)))
    await engine.aclose()
    assert len(loads) == 1
    assert len(set(map(id, found))) == 1


def test_what_failed_is_tried_again():
    tries = iter([ValueError("not yet"), "there"])

    def load() -> str:
        if isinstance(result := next(tries), Exception):
            raise result
        return result

    loaded = once(load)
    with pytest.raises(ValueError, match="not yet"):
        loaded()
    assert [loaded(), loaded()] == ["there", "there"]


def test_stderr_comes_back_after_two_threads_were_quiet():
    before, entered = sys.stderr, threading.Barrier(2, timeout=10)

    def load(pause: float) -> None:
        entered.wait()
        with quiet():
            time.sleep(pause)

    threads = [threading.Thread(target=load, args=(pause,)) for pause in (0.1, 0.3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.stderr is before
