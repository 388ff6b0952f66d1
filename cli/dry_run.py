"""What a run would take, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from cli.output import Output, amount, duration, plain
from cli.session import Session
from curator.types import Document

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cli.projection import Projection
    from curator.store import Store
    from curator.task import Task


def say_what_it_takes(session: Session, task: Task[BaseModel], limit: int | None) -> None:
    """Say what a run would take. Nothing is sent."""
    import anyio

    from cli.build import price_of
    from cli.cascades import expectation
    from cli.projection import project

    given = session.engine_settings()
    expected = expectation(given, task)
    store = session.store() if session.location.exists() else None
    documents, screened = _documents(session, store)
    probes = _probes(session, task, store)

    async def count() -> Projection:
        async with aclosing(session.engine(given)) as engine:
            return await project(task, engine, _head(documents, limit), store, price_of(given), probes)

    with session.out.guarded():
        found = anyio.run(count)
    if expected is not None:
        found = replace(found, cost=None if expected.cost is None else expected.cost * found.calls)
    if session.out.json:
        return session.out.emit({**plain(found), "screened": screened, **(expected.to_json() if expected else {})})
    currency = given.currency if expected is None else expected.policy.currency
    _show_projection(session.out, found, currency, screened)
    if expected is not None:
        expected.say(session.out)
        session.out.say(
            "the cost counts what is asked again, by the certificates; calls and tokens are the first tier's"
        )
    return None


def _show_projection(out: Output, found: Projection, currency: str, screened: bool) -> None:
    facts = asdict(found) | {"seconds": None, "exact_tokens": None, "time": duration(found.seconds)}
    facts["cost"] = amount(found.cost, currency)
    facts["tokens"] = "counted on a sample" if found.exact_tokens else "estimated from characters"
    if not screened:
        facts["documents"] = f"{found.documents:,} (before duplicates and filters)"
    out.facts({name: value for name, value in facts.items() if value is not None}, title="This would take")
    if not screened:
        out.say("duplicates and what the filters reject are still counted: a run removes them first")
    if found.seconds is None:
        out.say("the time is not known before a run: goldless curate --limit 50")


def _documents(session: Session, store: Store | None) -> tuple[Iterator[Sequence[Document]], bool]:
    """The documents that would be labelled, and whether duplicates and filters have been applied to
    all of them: the store's that are kept, or the source's before ingest."""
    from cli.build import screening_of, source_of

    if store is not None and (total := store.count()):
        key = screening_of(session.settings, session.config.parent).key
        return store.documents(kept_by=key), store.judged(key) == total
    return source_of(session.settings, session.config.parent).batches(), False


def _probes(session: Session, task: Task[BaseModel], store: Store | None) -> Sequence[Document]:
    """The texts without content that would be asked about: those of the store's documents, else as many of a usual
    length."""
    from cli.build import screening_of
    from curator.probes import make_probes

    count = session.settings.prior.probes if task.closed else 0
    made = make_probes(store, screening_of(session.settings, session.config.parent).key, count) if store else []
    return made or [Document(str(place), f"{place} " * 50) for place in range(count)]


def _head(batches: Iterator[Sequence[Document]], limit: int | None) -> Iterator[Sequence[Document]]:
    if limit is None:
        return batches
    documents = islice(chain.from_iterable(batches), limit)
    return iter([list(documents)])
