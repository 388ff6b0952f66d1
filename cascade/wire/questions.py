"""What the two decision dialects share on the server's side: options, their checks, and the figures of an answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from cascade.routed import Served
from cascade.wire.reading import FieldError
from curator.types import Decision, Option

YES_NO: Final = ("yes", "no")
"""The labels of a predicate's options, true first, as tasks call them too."""


def yes_no(true: str = "", false: str = "") -> tuple[Option, Option]:
    """A predicate's options with their descriptions."""
    return Option(YES_NO[0], true), Option(YES_NO[1], false)


def checked(options: Iterable[Option], path: str, most: int) -> tuple[Option, ...]:
    """The options of a choice or score.

    Raises: FieldError unless there are 2 to `most`, each with a label of its own.
    """
    found = tuple(options)
    if not 2 <= len(found) <= most:
        raise FieldError(path, f"must have 2 to {most} options, not {len(found)}")
    seen: set[str] = set()
    for option in found:
        if not option.label:
            raise FieldError(path, "has an option without a name")
        if option.label in seen:
            raise FieldError(path, f"has the option {option.label[:80]!r} twice")
        seen.add(option.label)
    return found


def confidence(served: Served[Decision], decision: Decision) -> float:
    """How sure the served answer is; where nothing says, the top probability. Its basis is in the `goldless` block."""
    return max(decision.probabilities) if math.isnan(served.confidence) else served.confidence


def expected(probabilities: Sequence[float]) -> float:
    """A score: the mean of the levels, which count from 0."""
    return sum(level * p for level, p in enumerate(probabilities))
