"""Recorded outcomes of published weak and strong models (`data/routing`) as pairs to replay.

Every pair has the signals that can be computed without gold, each turned so that higher is safer: from the prompt
(`prompt_short`), from the weak answer (`answer_short`, `answered`) and from further small models that answer too
(`vote`, whose calls are charged). Gold is used for `quality` only.

Costs: a text of c characters is taken as c / 4 tokens. Prices are USD per million tokens, (input, output): those of
open models are the size classes of `llmrouter/default_llm.json`; Mixtral and GPT-4 of the RouteLLM recordings are the
averages that its paper charges; the rest are the vendors' list prices while those models were current. Only the ratio
of the two tiers enters a saving.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cascade.deferral import judged
from cascade.outcomes import NO_ANSWER, Outcomes
from curator.confidence import Floats, Ints

csv.field_size_limit(10**9)

SMALL, LARGE, LLAMA_405B = (0.2, 0.2), (0.9, 0.9), (3.5, 3.5)
PRICES: Mapping[str, tuple[float, float]] = {
    "mistralai/Mixtral-8x7B-Instruct-v0.1": (0.24, 0.24),
    "gpt-4-1106-preview": (24.7, 24.7),
    "gpt-4o-2024-08-06": (2.5, 10.0),
    "gpt-4o-mini-2024-07-18": (0.15, 0.6),
    "claude-3-haiku-20240307": (0.25, 1.25),
    "claude-3-5-sonnet-20241022": (3.0, 15.0),
    "gemini-1.5-flash-002_5shots": (0.075, 0.3),
    "gemini-1.5-pro-002_5shots": (1.25, 5.0),
    "gemma-2-9b-it": (0.1, 0.1),
    "Mixtral-8x7B-v0.1_5shots": (0.6, 0.6),
    "Llama-3.1-405B-Inst@sambanova": LLAMA_405B,
    # OpenAI's solvers of 2021 have no price: in proportion to their parameters.
    "6b_finetuning": (0.06, 0.06),
    "6b_verification": (0.06, 0.06),
    "175b_finetuning": (1.75, 1.75),
    "175b_verification": (1.75, 1.75),
}
SHOTS = 5600
"""Characters of a five-shot MMLU-Pro prompt, whose text was not recorded."""
REPLY = 800
"""Characters of an answer whose text was not recorded."""
LETTER = 4
"""Characters of an answer that is a letter."""

ZEROEVAL: Mapping[str, Sequence[tuple[str, str, tuple[str, ...]]]] = {
    "gsm": (
        ("Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct", ("Qwen2-7B-Instruct", "gemma-2-9b-it")),
        ("Qwen2-7B-Instruct", "Qwen2-72B-Instruct", ("Meta-Llama-3.1-8B-Instruct", "gemma-2-9b-it")),
        ("gemma-2-9b-it", "gpt-4o-2024-08-06", ("Meta-Llama-3.1-8B-Instruct", "Qwen2-7B-Instruct")),
        ("Meta-Llama-3.1-8B-Instruct", "Llama-3.1-405B-Inst@sambanova", ("Qwen2-7B-Instruct", "gemma-2-9b-it")),
        ("claude-3-haiku-20240307", "claude-3-5-sonnet-20241022", ("gemma-2-9b-it", "Meta-Llama-3.1-8B-Instruct")),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", ("gemma-2-9b-it", "Meta-Llama-3.1-8B-Instruct")),
    ),
    "math-l5": (
        ("Qwen2.5-7B-Instruct", "Qwen2.5-72B-Instruct", ("Qwen2.5-3B-Instruct", "Meta-Llama-3.1-8B-Instruct")),
        ("Qwen2.5-3B-Instruct", "Qwen2.5-72B-Instruct", ("Qwen2-7B-Instruct", "Meta-Llama-3.1-8B-Instruct")),
        ("Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct", ("Qwen2-7B-Instruct", "gemma-2-9b-it")),
        ("claude-3-haiku-20240307", "claude-3-5-sonnet-20241022", ("Qwen2.5-7B-Instruct", "gemma-2-9b-it")),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", ("Qwen2.5-7B-Instruct", "gemma-2-9b-it")),
    ),
    "crux": (
        ("Qwen2.5-7B-Instruct", "Qwen2.5-72B-Instruct", ("Qwen2-7B-Instruct", "gemma-2-9b-it")),
        ("Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct", ("Qwen2.5-7B-Instruct", "gemma-2-9b-it")),
        ("claude-3-haiku-20240307", "claude-3-5-sonnet-20241022", ("Qwen2.5-7B-Instruct", "gemma-2-9b-it")),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", ("Qwen2.5-7B-Instruct", "gemma-2-9b-it")),
    ),
}
MMLU_PRO: Sequence[tuple[str, str, tuple[str, ...]]] = tuple(
    (f"{weak}_5shots", f"{strong}_5shots", tuple(f"{name}_5shots" for name in voters))
    for weak, strong, voters in (
        ("Meta-Llama-3_1-8B-Instruct", "Meta-Llama-3_1-70B-Instruct", ("Phi-3-mini-4k-instruct", "mathstral-7B")),
        ("Phi-3-mini-4k-instruct", "Meta-Llama-3_1-70B-Instruct", ("Meta-Llama-3_1-8B-Instruct", "mathstral-7B")),
        ("Mistral-7B-v0.1", "Mixtral-8x7B-v0.1", ("Phi-3-mini-4k-instruct", "mathstral-7B")),
        ("Qwen1.5-7B-Chat", "Qwen1.5-72B-Chat", ("Phi-3-mini-4k-instruct", "mathstral-7B")),
        ("gemini-1.5-flash-002", "gemini-1.5-pro-002", ("Phi-3-mini-4k-instruct", "mathstral-7B")),
    )
)


@dataclass(frozen=True, slots=True)
class Recording:
    """A weak and a strong model on n queries. `texts` are the prompts, () where they were not recorded; `groups` the
    subject of a query, known when it is asked; `vote_cost` (n,) what the voters cost."""

    name: str
    outcomes: Outcomes
    texts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    vote_cost: Floats | None = field(default=None)

    @property
    def signals(self) -> Mapping[str, Floats]:
        """The weak model's signals, (n,) each."""
        return {name: table[:, 0] for name, table in self.outcomes.signals.items()}


@dataclass(frozen=True, slots=True)
class _Answers:
    """One model's answers (n,), quality (n,) and lengths in characters (n,)."""

    model: str
    answers: Sequence[str]
    quality: Floats
    chars: Floats

    def cost(self, prompts: Floats) -> Floats:
        """USD per query, from the prompts' characters (n,)."""
        given, written = PRICES.get(self.model, LARGE if _large(self.model) else SMALL)
        result: Floats = (prompts * given + self.chars * written) / 4e6
        return result


def _large(model: str) -> bool:
    return any(size in model for size in ("70B", "70b", "72B", "49b", "51b", "32B", "34B"))


def _recording(
    name: str,
    pair: tuple[_Answers, _Answers],
    prompts: Floats,
    voters: Sequence[_Answers] = (),
    known: tuple[Sequence[str], Sequence[str], Sequence[str]] = ((), (), ()),
) -> Recording:
    """`known` are ids, texts and groups. Queries whose quality is unknown for either model are left out."""
    ids, texts, groups = known
    weak = pair[0]
    signals = {"prompt_short": -prompts, "answer_short": -weak.chars}
    signals["answered"] = np.array([float(bool(answer)) for answer in weak.answers])
    if voters:
        agree = [
            [float(bool(ours) and ours == other) for ours, other in zip(weak.answers, voter.answers, strict=True)]
            for voter in voters
        ]
        signals["vote"] = np.mean(agree, axis=0)
    usable = {name: values for name, values in signals.items() if np.ptp(values) > 0}
    outcomes = Outcomes(
        (pair[0].model, pair[1].model),
        _numbered(pair),
        {name: np.stack([values, np.full(len(values), np.nan)], axis=1) for name, values in usable.items()},
        np.stack([model.cost(prompts) for model in pair], axis=1),
        np.full((len(prompts), 2), np.nan),
        np.stack([model.quality for model in pair], axis=1),
        tuple(ids) or tuple(str(row) for row in range(len(prompts))),
    )
    kept, _, _ = judged(outcomes)
    rows = np.flatnonzero(~np.isnan(outcomes.quality).any(axis=1))
    extra = np.sum([voter.cost(prompts) for voter in voters], axis=0)[rows] if voters else None
    return Recording(name, kept, _some(texts, rows), _some(groups, rows), extra)


def _some(values: Sequence[str], rows: Ints) -> tuple[str, ...]:
    return tuple(values[row] for row in rows) if values else ()


def _numbered(pair: Sequence[_Answers]) -> Ints:
    """Equal answers of a query get equal numbers."""
    numbers: dict[str, int] = {}
    return np.array(
        [
            [numbers.setdefault(answer, len(numbers)) if answer else NO_ANSWER for answer in row]
            for row in zip(*(model.answers for model in pair), strict=True)
        ],
        dtype=np.int64,
    )


def _lengths(texts: Sequence[str]) -> Floats:
    return np.array([len(text) for text in texts], dtype=np.float64)


def _flags(values: Sequence[str]) -> Floats:
    """Right or wrong; NaN where nobody says."""
    return np.array([{"True": 1.0, "False": 0.0}.get(value, np.nan) for value in values])


def routellm(data: Path) -> Iterator[Recording]:
    """Mixtral-8x7B before GPT-4 on MMLU (no responses were recorded) and on GSM8K."""
    folder = data / "routing" / "routellm"
    weak, strong = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
    rows = [(path.stem, row) for path in sorted((folder / "mmlu").glob("*.csv")) for row in _csv(path)]
    texts, length = [row["prompt"] for _, row in rows], np.full(len(rows), float(LETTER))
    pair = tuple(
        _Answers(name, [""] * len(rows), _flags([row[name] for _, row in rows]), length) for name in (weak, strong)
    )
    subjects = [subject for subject, _ in rows]
    yield _recording("routellm mmlu", (pair[0], pair[1]), _lengths(texts), known=((), texts, subjects))
    table = _csv(folder / "gsm8k_gsm8k_responses.csv")
    texts = [row["prompt"] for row in table]
    pair = tuple(
        _Answers(
            name,
            [_last_number(row[f"{name}_response"]) for row in table],
            _flags([row[name] for row in table]),
            _lengths([row[f"{name}_response"] for row in table]),
        )
        for name in (weak, strong)
    )
    yield _recording("routellm gsm8k", (pair[0], pair[1]), _lengths(texts), known=((), texts, ()))


def _last_number(text: str) -> str:
    """The number that an answer ends with."""
    words = "".join(c if c.isdigit() or c in ".-" else " " for c in text.replace(",", "")).split()
    numbers = [word.strip(".-") for word in words]
    return next((number for number in reversed(numbers) if number), "")


def zeroeval(data: Path) -> Iterator[Recording]:
    """GSM8K, MATH level 5 and CRUX."""
    for task, pairs in ZEROEVAL.items():
        table = [row for row in _csv(data / "routing" / "zeroeval" / f"{task}_all_models_matrix.csv.gz") if row["gold"]]
        texts = [row["question"] for row in table]
        for weak, strong, voters in pairs:
            models = {
                name: _Answers(
                    name,
                    [row[f"{name}|pred"] or "" for row in table],
                    _flags([row[f"{name}|correct"] for row in table]),
                    np.array([float(row[f"{name}|chars"] or 0) for row in table]),
                )
                for name in (weak, strong, *voters)
            }
            known = ([row["id"] for row in table], texts, ())
            name = f"{task}: {weak} -> {strong}"
            yield _recording(name, (models[weak], models[strong]), _lengths(texts), [models[v] for v in voters], known)


def mmlu_pro(data: Path) -> Iterator[Recording]:
    """Five-shot MMLU-Pro; the questions' texts were not recorded, their subjects were."""
    table = _csv(data / "routing" / "mmlu_pro" / "mmlu_pro_preds_by_model.csv.gz")
    prompts = np.full(len(table), float(SHOTS))
    for weak, strong, voters in MMLU_PRO:
        models = {
            name: _Answers(
                name,
                [row[f"{name}|pred"] for row in table],
                np.array([float(row[f"{name}|pred"] == row["answer"]) for row in table]),
                np.array([float(row[f"{name}|out_chars"] or 0) for row in table]),
            )
            for name in (weak, strong, *voters)
        }
        known = ([row["question_id"] for row in table], (), [row["category"] for row in table])
        name = f"mmlu_pro: {weak} -> {strong}".replace("_5shots", "")
        yield _recording(name, (models[weak], models[strong]), prompts, [models[v] for v in voters], known)


def openai_gsm8k(data: Path) -> Iterator[Recording]:
    """GPT-3 6B before 175B, fine-tuned; the 6B model with a verifier votes."""
    table = _json_lines(data / "routing" / "openai_gsm8k" / "example_model_solutions.jsonl")
    texts = [row["question"] for row in table]
    models = [
        _Answers(
            name,
            [_last_number(row[name]["solution"]) for row in table],
            np.array([float(row[name]["is_correct"]) for row in table]),
            _lengths([row[name]["solution"] for row in table]),
        )
        for name in ("6b_finetuning", "175b_finetuning", "6b_verification")
    ]
    known = ((), texts, ())
    yield _recording("openai gsm8k: 6b -> 175b", (models[0], models[1]), _lengths(texts), models[2:], known)


def dcrouter(data: Path) -> Iterator[Recording]:
    """Mixed tasks of LLMRouter's dcrouter; scores only."""
    folder = data / "routing" / "llmrouter"
    table = [row for part in ("train", "test") for row in json.loads((folder / f"dcrouter_{part}.json").read_text())]
    texts = [row["question"] for row in table]
    for weak, strong in (
        ("llama-3.1-8b-instruct", "llama-3.3-nemotron-super-49b-v1"),
        ("qwen2.5-7b-instruct", "llama-3.1-nemotron-51b-instruct"),
    ):
        pair = tuple(
            _Answers(
                name,
                [""] * len(table),
                np.array([float(row["scores"].get(name, np.nan)) for row in table]),
                np.full(len(table), float(REPLY)),
            )
            for name in (weak, strong)
        )
        yield _recording(f"dcrouter: {weak} -> {strong}", (pair[0], pair[1]), _lengths(texts), known=((), texts, ()))


SETS = {
    "routellm": routellm,
    "zeroeval": zeroeval,
    "mmlu_pro": mmlu_pro,
    "openai_gsm8k": openai_gsm8k,
    "dcrouter": dcrouter,
}


def _csv(path: Path) -> list[dict[str, str]]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(io.StringIO(raw.decode(), newline="")))


def _json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
