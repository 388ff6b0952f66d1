"""The staleness matrix: what changes an answer asks again, what does not costs nothing.

On a real store, through the whole pipeline. 0 stale hits, 0 needless misses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import pytest
from pydantic import BaseModel

from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.pipeline import Plan, curate
from curator.screening import Screening
from curator.selection import SelectionPolicy
from curator.sources import open_source
from curator.store import Store
from curator.task import DEFAULT_TEMPLATE, Task, View, classify
from curator.types import Sampling, Template

pytestmark = pytest.mark.anyio

TEXTS = tuple(f"the film number {i} was {'fine' if i % 2 else 'poor'} indeed" for i in range(10))
SCREENING = Screening(near=None)
WARM = Sampling(temperature=0.7)


class Year(BaseModel):
    year: int


class YearOrNot(BaseModel):
    year: int | None


@dataclass(frozen=True)
class Setting:
    """All that a user can change between two runs."""

    texts: tuple[str, ...] = TEXTS
    instruction: str = "How is it?"
    labels: tuple[str, ...] = ("bad", "good")
    template: Template = DEFAULT_TEMPLATE
    order: int = 0
    identity: EngineIdentity = field(default_factory=lambda: EngineIdentity("http", "m", endpoint="http://a/v1"))
    output: type[BaseModel] | None = None
    sampling: Sampling = WARM
    samples: int = 3
    plan: Plan = field(default_factory=lambda: Plan(screening=SCREENING))
    concurrency: int = 8

    @property
    def task(self) -> Task[BaseModel]:
        if self.output is not None:
            return Task(self.output, self.instruction, sampling=self.sampling, samples=self.samples)
        return replace(classify(self.labels, self.instruction), views=(View(self.template, self.order),))


async def sent(setting: Setting, folder: Path) -> int:
    """How many requests a run with this setting sends."""
    file = folder / "rows.jsonl"
    file.write_bytes(b"\n".join(orjson.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(setting.texts)))
    engine = ScriptedEngine(
        decide=lambda request: {"good": 0.8 if "fine" in request.state else 0.3, "bad": 0.5},
        generate=lambda request: '{"year": 1999}',
        identity=setting.identity,
        concurrency=setting.concurrency,
    )
    source = open_source(str(file))
    await curate(setting.task, engine, Store(folder / "s.duckdb"), source=source, plan=setting.plan)
    return len(engine.requests)


BASE = Setting()
SAMPLED = Setting(output=Year)

MISSES = {
    "system prompt": (BASE, replace(BASE, template=replace(DEFAULT_TEMPLATE, system="Be brief.")), 10),
    "template": (BASE, replace(BASE, template=replace(DEFAULT_TEMPLATE, state="Film: {state}")), 10),
    "instruction": (BASE, replace(BASE, instruction="How was it?"), 10),
    "schema (labels)": (BASE, replace(BASE, labels=("bad", "good", "fair")), 10),
    "order of options": (BASE, replace(BASE, order=-1), 10),
    "model": (BASE, replace(BASE, identity=replace(BASE.identity, model="m2")), 10),
    "endpoint": (BASE, replace(BASE, identity=replace(BASE.identity, endpoint="http://b/v1")), 10),
    "provider": (BASE, replace(BASE, identity=replace(BASE.identity, provider="vllm")), 10),
    "weights": (BASE, replace(BASE, identity=replace(BASE.identity, revision="sha256:1")), 10),
    "adapter": (BASE, replace(BASE, identity=replace(BASE.identity, adapter="lora")), 10),
    "one row's text": (BASE, replace(BASE, texts=("another film, quite fine", *TEXTS[1:])), 1),
    "schema (open field)": (SAMPLED, replace(SAMPLED, output=YearOrNot), 10),
    "temperature": (SAMPLED, replace(SAMPLED, sampling=Sampling(temperature=0.9)), 10),
    "seed": (SAMPLED, replace(SAMPLED, sampling=Sampling(temperature=0.7, seed=1)), 10),
    "number of samples": (SAMPLED, replace(SAMPLED, samples=4), 10),
}
HITS = {
    "nothing": (BASE, BASE),
    "nothing (sampled)": (SAMPLED, SAMPLED),
    "a filter": (BASE, replace(BASE, plan=Plan(screening=replace(SCREENING, filters={"length": {"min_words": 2}})))),
    "the selection": (BASE, replace(BASE, plan=Plan(screening=SCREENING, selection=SelectionPolicy(coverage=0.5)))),
    "the policy for long texts": (BASE, replace(BASE, plan=Plan(screening=SCREENING, long_text="keep_ends"))),
    "concurrency": (BASE, replace(BASE, concurrency=1)),
    "order of rows": (BASE, replace(BASE, texts=TEXTS[::-1])),
}


@pytest.mark.parametrize("change", MISSES)
async def test_a_change_of_what_is_sent_or_who_answers_asks_again(tmp_path, change):
    before, after, asked = MISSES[change]
    assert await sent(before, tmp_path) == 10
    assert await sent(after, tmp_path) == asked
    # And going back finds the old answers.
    assert await sent(before, tmp_path) == 0


@pytest.mark.parametrize("change", HITS)
async def test_a_change_of_anything_else_costs_nothing(tmp_path, change):
    before, after = HITS[change]
    assert await sent(before, tmp_path) == 10
    assert await sent(after, tmp_path) == 0
