"""curator/methods/forecast.py: calls and tokens before a run, and of what is left of one."""

from __future__ import annotations

import pytest

from curator.annotate import Progress
from curator.methods.agreement import Agreement, Setup, agree
from curator.methods.contrast import Contrast, contrast
from curator.methods.forecast import forecast
from curator.methods.replies import greedy
from curator.pipeline import Plan, answers_of, ask, prepare
from tests.methods.progressive_builders import DOCUMENTS, PLAN, TASK, filled, model

pytestmark = pytest.mark.anyio
SETTINGS = Contrast(least=0.3, overrule=0.5)


def setup(**more: object) -> Setup:
    return Setup(model("weak", 0.5), model("strong", 0.7), **more)


def steps_of(given: Setup, store, plan: Plan = PLAN):
    pages = lambda: iter([DOCUMENTS])  # noqa: E731
    return forecast(TASK, given, store, pages, plan, SETTINGS)


def test_before_anything_is_there_every_step_asks_about_every_document():
    found = steps_of(setup(), None)
    assert [(step.name, step.calls, step.answered) for step in found] == [
        (name, len(DOCUMENTS), 0) for name in ("weak", "round 1", "round 2", "samples")
    ]
    weak, first, _, samples = found
    most = len(DOCUMENTS) * TASK.sampling.max_tokens
    assert (weak.output_tokens, samples.output_tokens) == (most, 10 * most)
    # Four examples of at most 1,500 characters stand before each question.
    assert first.input_tokens == weak.input_tokens + len(DOCUMENTS) * 1500
    assert [str(step.engine) for step in found] == ["scripted:weak", *["scripted:strong"] * 3]


async def test_what_is_answered_is_not_counted_again_and_makes_prompts_known(tmp_path):
    store, given = filled(tmp_path), setup()
    task = greedy(TASK)
    weak = answers_of(task, store, given.weak, PLAN)
    with store.run("test", {}) as run:
        await prepare(task, store, run, None, PLAN)
        await ask(weak, given.weak, run, PLAN, Progress())
    first = steps_of(given, store)
    assert [(step.calls, step.answered) for step in first] == [(0, 60), (60, 0), (60, 0), (60, 0)]
    # The examples are known now, and shorter than the longest.
    assert 0 < first[1].input_tokens < first[2].input_tokens

    agreed = await agree(TASK, given, store, plan=PLAN)
    assert [step.calls for step in steps_of(given, store)] == [0, 0, 0, 60]
    some = Plan(screening=PLAN.screening, limit=10)
    await contrast(agreed, given.strong, plan=some, settings=SETTINGS)
    assert [(step.calls, step.answered) for step in steps_of(given, store)][-1] == (50, 10)


async def test_a_tuned_model_is_asked_plainly_so_its_prompts_are_known(tmp_path):
    given = setup(tuned=model("tuned", 0.9), agreement=Agreement(rounds=3))
    found = steps_of(given, filled(tmp_path))
    assert [(step.name, str(step.engine)) for step in found[2:]] == [
        ("round 2", "scripted:tuned"),
        ("samples", "scripted:tuned"),
    ]
    assert found[2].input_tokens == found[0].input_tokens


def test_a_limit_limits_every_step():
    found = steps_of(setup(), None, Plan(screening=PLAN.screening, limit=7))
    assert {step.calls for step in found} == {7}
