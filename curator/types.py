"""The frozen records that flow through goldless. Imports nothing of ours.

Log-probabilities are natural logarithms, latencies are seconds, costs are money in the
currency of the price that produced them; `None` means *unknown*, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

Json = JsonValue
JsonObject = dict[str, JsonValue]
Role = Literal["system", "user", "assistant"]
QuestionKind = Literal["predicate", "choice", "score"]
Capability = Literal["decide", "generate"]
TurnOrder = Literal["auto", "question_first", "state_first"]
Readout = Literal["labels", "letters", "decisions", "systemone", "structured", "head", "scripted"]
"""How option probabilities were obtained: from the tokens of the labels, from letter codes, from a
decision endpoint, from structured output, from a classification head, or from a script."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text of the corpus. `meta` holds the row's other columns."""

    id: str
    text: str
    meta: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that could not become a document. `row` is its number in `source`, from 1; `reason` is
    machine-readable (`row.missing_text`), `excerpt` a short piece of it for people."""

    source: str
    row: int
    reason: str
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How open answers are sampled. Temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """One answer that a question allows: the label that the model reads, and what it means."""

    label: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A typed question about a state.

    A `predicate` has the two options (true, false) in this order; a `choice` two or more
    unordered ones; a `score` ordered ones, lowest first.
    """

    name: str
    kind: QuestionKind
    instructions: str
    options: tuple[Option, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(option.label for option in self.options)


@dataclass(frozen=True, slots=True)
class Template:
    """The text around a question, in the user's hands.

    `state` is formatted with {state}; `question` with {instructions} and {options}; `option` with
    {label} and {description}, `described` is used instead where an option has a description. With
    `letters` the options are listed under letter codes and the model answers with a letter;
    `option` may then use {code}. `answer_prefix` opens the assistant's turn.

    `order` says what stands first in the user's turn. After `question_first` all rows share the
    question as a prefix, which engines compute once; after `state_first` all questions about one
    text share the text. `auto` takes the former for one question and the latter for several.
    """

    system: str = ""
    state: str = "{state}"
    question: str = "{instructions}\n{options}\nAnswer with one of the options only."
    option: str = "- {label}"
    described: str = "- {label}: {description}"
    answer_prefix: str = ""
    letters: bool = False
    order: TurnOrder = "auto"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A worked example: a state and the chosen label per question name."""

    state: str
    answers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Solved:
    """A worked example of sampled fields: a state, and the whole text that answers it."""

    state: str
    reply: str


@dataclass(frozen=True, slots=True)
class DecideRequest:
    """Typed questions about one shared state, answered with probabilities."""

    state: str
    questions: tuple[Question, ...]
    template: Template = Template()
    demonstrations: tuple[Demonstration, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A chat prompt answered with `n` sampled texts, held to `schema` (JSON schema) if given."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    schema: JsonObject | None = None
    n: int = 1


@dataclass(frozen=True, slots=True)
class ChatRequest(GenerateRequest):
    """A prompt as clients of a chat completions API write it, with what a `GenerateRequest` has no name for.

    `turns` are the messages as they were sent, tool calls, tool results and content parts included; `messages` is the
    text of them. `tools` and `tool_choice` are the API's. `logprobs` is how many alternatives each token is to be
    shown with (0: the token alone), None where they are not asked for. `extra` holds the body's other fields, which
    servers are sent as they are.
    """

    turns: tuple[JsonObject, ...] = ()
    tools: tuple[JsonObject, ...] = ()
    tool_choice: Json = None
    logprobs: int | None = None
    extra: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and calls that a request took, retries included."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    calls: int = 1

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.calls + other.calls,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one question.

    `logprobs[i]` is the model's own log-probability of option i, in the question's option order,
    over the whole vocabulary where the engine can see it (then `label_mass`, the probability that
    all options got together, is below 1), else over the options alone (`label_mass` is None).
    `served_by` names the tier that answered, where a cascade did.
    """

    logprobs: tuple[float, ...]
    label_mass: float | None
    readout: Readout
    served_by: str = ""

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Probability per option, summing to 1. Not calibrated."""
        top = max(self.logprobs)
        weights = [math.exp(value - top) for value in self.logprobs]
        total = sum(weights)
        return tuple(weight / total for weight in weights)

    @property
    def top(self) -> int:
        """Index of the most probable option (the first of equals)."""
        return self.logprobs.index(max(self.logprobs))


@dataclass(frozen=True, slots=True)
class Decisions:
    """What `Engine.decide` returns: one decision per question in order, None where it refused."""

    answers: tuple[Decision | None, ...]
    usage: Usage = Usage()
    cost: float | None = None
    latency: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated text. `logprob` is the mean log-probability of its tokens, where known, and `deciles`
    their 0th, 10th, ... 100th percentile (11 numbers, however long the text), empty where unknown. `tool_calls` and
    `tokens` (the content of `logprobs`) are as the chat completions API has them, where a `ChatRequest` asked."""

    text: str
    finish_reason: str = "stop"
    logprob: float | None = None
    deciles: tuple[float, ...] = ()
    tool_calls: tuple[JsonObject, ...] = ()
    tokens: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of sample number `index` of a streamed completion. `logprobs` are those of its tokens, where
    known; `tool_calls` and `tokens` are fragments as the chat completions API streams them. A sample's last piece has
    its `finish_reason`; the completion's last has the `usage` of it all."""

    index: int = 0
    text: str = ""
    logprobs: tuple[float, ...] = ()
    tool_calls: tuple[JsonObject, ...] = ()
    tokens: tuple[JsonObject, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What `Engine.generate` returns. `served_by` names the tier that answered, where a cascade did."""

    samples: tuple[Sample, ...]
    usage: Usage = Usage()
    cost: float | None = None
    latency: float = 0.0
    served_by: str = ""


@dataclass(frozen=True, slots=True)
class Price:
    """Money per million tokens."""

    input: float
    output: float
    currency: str = "USD"
    source: str = "configured"

    def cost(self, usage: Usage) -> float:
        """Money for `usage`."""
        return (self.input * usage.input_tokens + self.output * usage.output_tokens) / 1e6


@dataclass(frozen=True, slots=True)
class Verdict:
    """A filter's answer: keep the document, or why not. `reason` is machine-readable
    (`length.too_short`), `detail` is for people."""

    keep: bool
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """One field's aggregated answer. `basis` says what the confidence rests on: `raw`, `batch`
    (label-prior corrected), `agreement`, `reference:<model>` or `audited(<n>)`."""

    value: Json
    confidence: float
    basis: str
    probabilities: tuple[float, ...] = ()

    @property
    def calibrated(self) -> bool:
        return self.basis.startswith(("reference:", "audited("))
