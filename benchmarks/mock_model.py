"""A made-up language model for the mock server: byte tokens, deterministic probabilities, no weights.

Answers depend on nothing but the text, so any two ways of asking can be compared exactly.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

START, END = 256, 257
SPECIAL = {START: "<|im_start|>", END: "<|im_end|>"}
VOCABULARY = 258


def encode(text: str) -> list[int]:
    """Bytes, and one id for each special token."""
    ids: list[int] = []
    while text:
        for token, spelled in SPECIAL.items():
            if text.startswith(spelled):
                ids.append(token)
                text = text[len(spelled) :]
                break
        else:
            ids.extend(text[0].encode())
            text = text[1:]
    return ids


def decode(ids: Sequence[int]) -> str:
    """The text of ids; half a character becomes a replacement sign."""
    raw = b"".join(SPECIAL[token].encode() if token in SPECIAL else bytes([token]) for token in ids)
    return raw.decode("utf-8", "replace")


def chat(messages: Sequence[Mapping[str, str]], *, opens_answer: bool = True) -> str:
    """The prompt that a conversation becomes (ChatML)."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return turns + ("<|im_start|>assistant\n" if opens_answer else "")


@lru_cache(maxsize=4096)
def next_token(ids: tuple[int, ...]) -> tuple[float, ...]:
    """Log-probability of every token after `ids`."""
    scores = [byte / 32 for byte in hashlib.shake_128(repr(ids).encode()).digest(VOCABULARY)]
    total = math.log(sum(map(math.exp, scores)))
    return tuple(score - total for score in scores)


def distribution(text: str, options: Sequence[str]) -> list[float]:
    """Probability per option, from the hash of the text and the option."""
    weights = [math.exp(hashlib.blake2b(f"{text}\0{option}".encode()).digest()[0] / 50) for option in options]
    return [weight / sum(weights) for weight in weights]
