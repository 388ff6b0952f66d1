"""What the soak's upstreams answer: every prompt carries a token, every answer says token and tier.

So an answer that is another request's, another tier's, or made of two is seen for what it is.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal

PIECES: Final = 20
"""Chunks of a streamed answer."""

Verdict = Literal["right", "wrong", "mixed"]

_FILL: Final = "The day was long, the train was late, and in the end everybody laughed about it. " * 3


def prompt(token: str, *, hard: bool, slow: bool = False) -> str:
    """A text that the small tier is unsure of (`hard`), or that every upstream takes half a second for (`slow`)."""
    return f"{'hard' if hard else 'easy'} {'slow' if slow else 'quick'} {token} {_FILL}"


def read(text: str) -> tuple[bool, bool, str]:
    """Whether a prompt is hard and slow, and its token."""
    hard, slow, token, *_ = text.split(" ", 3)
    return hard == "hard", slow == "slow", token


def pieces(tier: str, token: str) -> list[str]:
    """The text that a tier answers with."""
    return [f"{tier}:{token}:{number} " for number in range(PIECES)]


def distribution(tier: str, token: str, *, hard: bool) -> dict[str, float]:
    """The decision that a tier answers with: the likelier option is the token's, how likely it is the tier's too."""
    drawn = int.from_bytes(hashlib.blake2b(f"{tier}:{token}".encode(), digest_size=4).digest()) / 2**32
    top = (0.55 if hard and tier == "small" else 0.90) + 0.08 * drawn
    best, other = ("good", "bad") if hashlib.blake2b(token.encode()).digest()[0] % 2 else ("bad", "good")
    return {best: top, other: 1 - top}


def judge_text(said: str, tier: str, token: str, *, whole: bool) -> Verdict:
    """A text that `tier` is said to have answered with; one that is not `whole` must be the beginning of any tier's."""
    tiers = [tier] if whole else ["small", "strong"]
    for name in tiers:
        expected = "".join(pieces(name, token))
        if said == expected or (not whole and expected.startswith(said)):
            return "right"
    marks = set(re.findall(r"(\w+:\w+):", said))
    return "mixed" if len(marks) > 1 else "wrong"


def judge_decision(said: dict[str, float], choice: object, tier: str, token: str, *, hard: bool) -> Verdict:
    """The same for a decision."""
    expected = distribution(tier, token, hard=hard)
    near = said.keys() == expected.keys() and all(abs(said[name] - value) < 1e-8 for name, value in expected.items())
    return "right" if near and choice == max(expected, key=expected.__getitem__) else "wrong"
