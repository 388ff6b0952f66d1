"""Two scripted models that add numbers, and a store with the sums: what the tests of progressive learning share."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.pipeline import Plan
from curator.screening import Screening
from curator.store import Store
from curator.task import solve
from curator.types import Completion, Document, GenerateRequest, Sample

TASK = solve(int, "Add the numbers.")
PLAN = Plan(screening=Screening(exact=False, near=None))
DOCUMENTS = [Document(f"d{i}", f"d{i}: What is {i} plus {2 * i}?") for i in range(60)]
TRUTH = {f"d{i}": 3 * i for i in range(60)}
GOLD = {document.id: (document.text, str(TRUTH[document.id])) for document in DOCUMENTS}


def chance(*parts: object) -> float:
    return random.Random(repr(parts)).random()


def asked(request: GenerateRequest) -> str:
    """The id of the document that is asked about."""
    return next(word.strip(":") for word in request.messages[-1].content.split() if word.strip(":") in TRUTH)


def shown(request: GenerateRequest) -> list[str]:
    """The ids of the documents that are shown as examples."""
    turns = [message for message in request.messages[:-1] if message.role == "user"]
    return [asked(GenerateRequest((message,))) for message in turns]


def model(name: str, skill: float, *, taught: float = 0.0, write: Callable[[int], str] = str) -> ScriptedEngine:
    """Right in `skill` of the cases, `taught` more often with examples; a wrong answer is never another model's."""

    def answer(request: GenerateRequest) -> Completion:
        document = asked(request)
        better = taught if len(request.messages) > 1 else 0.0
        samples = []
        for number in range(request.n):
            right = chance(name, document, number) < skill + better
            value = TRUTH[document] if right else 1000 + int(1000 * chance("wrong", name, document, number))
            first = TRUTH[document] // 3
            text = f"{first} + {value - first} = {value}\nAnswer: {write(value)}"
            samples.append(Sample(text, logprob=-chance("sure", name, document)))
        return Completion(tuple(samples))

    return ScriptedEngine(generate=answer, identity=EngineIdentity("scripted", name))


def filled(folder: Path, documents: list[Document] | None = None) -> Store:
    folder.mkdir(exist_ok=True)
    store = Store(folder / "store.duckdb")
    with store.run("test", {}) as run:
        store.add_documents([documents or DOCUMENTS], source="test", run_id=run.id)
    return store
