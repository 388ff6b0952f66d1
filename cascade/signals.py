"""Signals of one answer: how sure it looks, by name. In [0, 1], higher is surer, NaN where unknown.

| name | of | what it says | needs |
|---|---|---|---|
| `top_probability`, `margin`, `certainty` | decisions | see `curator.confidence` | answer |
| `label_mass` | decisions | probability that all options got together | answer |
| `concentration` | decisions (scores) | 1 - spread over the scale / the largest possible | answer |
| `sequence_probability` | texts | exp of the tokens' mean log-probability | answer |
| `token_quantile:0.1` | texts | exp of that quantile of the tokens' log-probabilities | answer |
| `valid` | texts | 1 where the text is JSON by the schema, else 0 | answer |
| `tier_agreement` | both | 1 where the tier before gave the same answer, else 0 | tier |
| `agreement:5` | texts | share of 5 samples that say what the answer says | samples |
| `order_agreement:1` | decisions | share of 1 other option order with the same answer | calls |
| `self_verification` | both | probability that the model gives to its answer being right | calls |

What stands behind the colon is part of the name: a threshold for five samples is none for three. `needs` is what a
signal costs, so that a router asks for it only where a rule uses it: nothing more than the `answer`, the answer of
another `tier`, more `samples`, or more `calls` (see `cascade.probing`).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from cascade.validity import is_valid
from curator.confidence import Floats
from curator.errors import InputError
from curator.types import Capability, Completion, Decision, GenerateRequest, Question, QuestionKind

Needs = Literal["answer", "tier", "samples", "calls"]


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """A signal that a rule names: `base` and, behind the colon, `parameter`. `of` says of what kind of answer."""

    name: str
    base: str
    parameter: float
    of: tuple[Capability, ...]
    needs: Needs

    @property
    def count(self) -> int:
        """The parameter as a number of samples or orders."""
        return int(self.parameter)

    @property
    def costly(self) -> bool:
        """Whether it takes further calls of the model."""
        return self.needs in ("samples", "calls")


@dataclass(frozen=True, slots=True)
class _Known:
    of: tuple[Capability, ...]
    needs: Needs = "answer"
    default: float = math.nan
    allowed: tuple[float, float] | None = None
    """From, to; None: takes no parameter."""


_DECIDE: Final[tuple[Capability, ...]] = ("decide",)
_GENERATE: Final[tuple[Capability, ...]] = ("generate",)
_BOTH: Final[tuple[Capability, ...]] = ("decide", "generate")
KNOWN: Final[Mapping[str, _Known]] = {
    "top_probability": _Known(_DECIDE),
    "margin": _Known(_DECIDE),
    "certainty": _Known(_DECIDE),
    "label_mass": _Known(_DECIDE),
    "concentration": _Known(_DECIDE),
    "sequence_probability": _Known(_GENERATE),
    "token_quantile": _Known(_GENERATE, default=0.1, allowed=(0, 1)),
    "valid": _Known(_GENERATE),
    "tier_agreement": _Known(_BOTH, "tier"),
    "agreement": _Known(_GENERATE, "samples", 5, (2, 64)),
    "order_agreement": _Known(_DECIDE, "calls", 1, (1, 16)),
    "self_verification": _Known(_BOTH, "calls"),
}


@lru_cache(maxsize=256)
def parse_signal(name: str) -> SignalSpec:
    """What `name` stands for. Raises: InputError for an unknown name, or a parameter that it does not take."""
    base, colon, given = name.partition(":")
    if (known := KNOWN.get(base)) is None:
        close = difflib.get_close_matches(base, KNOWN, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known signals: {', '.join(KNOWN)}"
        raise InputError(f"no signal is called {name!r}", hint=hint)
    return SignalSpec(name, base, _parameter(name, known, given) if colon else known.default, known.of, known.needs)


def _parameter(name: str, known: _Known, given: str) -> float:
    if known.allowed is None:
        raise InputError(f"the signal {name!r} takes no parameter", hint="leave out what stands behind the colon")
    low, high = known.allowed
    whole = known.needs != "answer"
    try:
        value = float(int(given)) if whole else float(given)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise InputError(f"the parameter of {name!r} is {given!r}", hint=f"{kind} from {low:g} to {high:g}")
    return value


def free_signals(kind: Capability, question: QuestionKind = "choice") -> tuple[str, ...]:
    """Names of the signals that an answer brings along, so that a recorder can keep them all."""
    names = [name for name, known in KNOWN.items() if kind in known.of and known.needs in ("answer", "tier")]
    return tuple(name for name in names if name != "concentration" or question == "score")


def decision_table(
    specs: Sequence[SignalSpec], decisions: Sequence[Decision | None], question: Question
) -> dict[str, Floats]:
    """Name -> values (n,), as `decision_signals` gives them one by one."""
    rows = [decision_signals(specs, decision, question) for decision in decisions]
    names = decision_signals(specs, None, question)
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def decision_signals(specs: Sequence[SignalSpec], decision: Decision | None, question: Question) -> dict[str, float]:
    """Name -> value for those `specs` that need nothing but the decision; NaN where there is none.

    Plain floats: a router asks for one answer at a time, where an array costs more than what it holds.
    """
    chances = (math.nan,) if decision is None else decision.probabilities
    mass = None if decision is None else decision.label_mass
    found: dict[str, float] = {}
    for spec in specs:
        if spec.base == "label_mass":
            found[spec.name] = math.nan if mass is None else min(mass, 1.0)
        elif (signal := _OF_CHANCES.get(spec.base)) is not None:
            unknown = math.isnan(chances[0]) or (spec.base == "concentration" and question.kind != "score")
            found[spec.name] = math.nan if unknown else signal(chances)
    return found


def margin(chances: Sequence[float]) -> float:
    """Lead of the most probable option over the second."""
    *_, second, first = sorted(chances)
    return first - second


def certainty(chances: Sequence[float]) -> float:
    """1 - entropy / ln k: 0 for a uniform distribution, 1 for a sure one."""
    entropy = -sum(chance * math.log(chance) for chance in chances if chance > 0)
    return min(max(1.0 - entropy / math.log(len(chances)), 0.0), 1.0)


def concentration(chances: Sequence[float]) -> float:
    """1 - standard deviation over equally spaced levels / the largest possible, of a score question.

    Unlike the top probability it knows that neighbouring levels nearly agree: 0 where half the mass lies on either
    end of the scale, 1 where all of it lies on one level.
    """
    step = 2.0 / (len(chances) - 1)
    mean = sum(chance * (level * step - 1.0) for level, chance in enumerate(chances))
    variance = sum(chance * (level * step - 1.0 - mean) ** 2 for level, chance in enumerate(chances))
    return min(max(1.0 - math.sqrt(variance), 0.0), 1.0)


_OF_CHANCES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "top_probability": max,
    "margin": margin,
    "certainty": certainty,
    "concentration": concentration,
}


def text_signals(
    specs: Sequence[SignalSpec], completion: Completion | None, request: GenerateRequest
) -> dict[str, float]:
    """Name -> value for those `specs` that need nothing but the completion: of its first sample, the one served.

    Raises: as `cascade.validity.is_valid`, where `valid` is asked for.
    """
    return {spec.name: _TEXT[spec.base](spec, completion, request) for spec in specs if spec.base in _TEXT}


def _sequence_probability(spec: SignalSpec, completion: Completion | None, request: GenerateRequest) -> float:
    if completion is None or not completion.samples or (mean := completion.samples[0].logprob) is None:
        return math.nan
    return math.exp(min(mean, 0.0))


def _token_quantile(spec: SignalSpec, completion: Completion | None, request: GenerateRequest) -> float:
    """Gupta et al. 2024 (arXiv 2404.10136): a low quantile defers better than the mean, which long answers dilute."""
    if completion is None or not completion.samples or not (deciles := completion.samples[0].deciles):
        return math.nan
    place = spec.parameter * (len(deciles) - 1)
    low = int(place)
    part, below = place - low, deciles[low]
    value = below + part * (deciles[low + 1] - below) if part else below
    return math.exp(min(value, 0.0))


def _valid(spec: SignalSpec, completion: Completion | None, request: GenerateRequest) -> float:
    if completion is None or not completion.samples:
        return math.nan
    return float(all(is_valid(sample.text, request.schema) for sample in completion.samples))


_TEXT: Final[Mapping[str, Callable[[SignalSpec, Completion | None, GenerateRequest], float]]] = {
    "sequence_probability": _sequence_probability,
    "token_quantile": _token_quantile,
    "valid": _valid,
}
