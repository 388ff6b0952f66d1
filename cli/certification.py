"""The work of `goldless certify`: ask every tier, certify each question, check the tiers that are to serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cli.output import show
from cli.session import Session
from curator.errors import InputError
from curator.types import Document, Json

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cascade.gate import Check
    from cascade.halves import CertifySettings
    from cascade.outcomes import Outcomes
    from cascade.policy import Policy, QuestionPolicy
    from cli.cascade_settings import CascadeSettings, TierSettings
    from cli.tier_answers import TierAnswers, Truth
    from curator.annotate import Progress
    from curator.store import Store
    from curator.task import Task


@dataclass(frozen=True, slots=True)
class Certification:
    """One certification."""

    session: Session
    task: Task[BaseModel]
    settings: CascadeSettings
    audits: bool
    gate: bool
    traffic: str | None

    def run(self) -> Policy:
        """Ask, certify, and check. Raises: GoldlessError; what was answered is kept."""
        from cli.interrupt import run
        from cli.progress import watch
        from curator.annotate import Progress

        progress, currency = Progress(), self.settings.tiers[-1].currency
        with watch(self.session.out, progress, currency=currency):
            return run(self._work(progress), self.session.out.complain)

    async def _work(self, progress: Progress) -> Policy:
        from cli.tier_answers import ask_tier, outcomes_of

        store = self.session.store(create=True)
        truth = _truth(self.session, store) if self.audits else {}
        documents = self._documents(store, {name for rows in truth.values() for name in rows})
        progress.total = len(documents) * len(self.settings.tiers)
        with store.run("certify", {"task": self.task.id, "tiers": [tier.name for tier in self.settings.tiers]}) as run:
            tiers = [
                await ask_tier(one, self.task, documents, (store, run), progress, self.settings.tiers)
                for one in self.settings.tiers
            ]
        for one in tiers:
            if one.errors:
                self.session.out.complain(f"of {one.name}'s answers, failed: {show(dict(one.errors))}")
        questions = self._certified(outcomes_of(self.task, documents, tiers, truth), tiers)
        if self.gate and self.settings.gate.rows:
            questions = await self._gated(questions, tiers, documents)
        return self._policy(questions, tiers)

    def _documents(self, store: Store, audited: set[str]) -> list[Document]:
        """A uniform sample, the same every time, and the audited documents.

        Raises: InputError if there is nothing to ask about.
        """
        from cli.build import screening_of, source_of
        from curator.audits import draw

        folder = self.session.config.parent
        if self.traffic is not None:
            batches = source_of(self.session.settings, folder, self.traffic).batches()
            known = {document.id: document for batch in batches for document in batch}
        else:
            key = screening_of(self.session.settings, folder).key
            known = {document.id: document for batch in store.documents(kept_by=key) for document in batch}
        if not known:
            raise InputError(
                "there are no documents to ask the tiers about", hint="goldless ingest PATH, or --traffic FILE"
            )
        chosen = dict.fromkeys(draw(known, self.settings.sample, seed=self.settings.seed))
        return [known[name] for name in [*chosen, *sorted(audited - set(chosen))] if name in known]

    def _certified(self, outcomes: Mapping[str, Outcomes], tiers: Sequence[TierAnswers]) -> list[QuestionPolicy]:
        from cascade.certify import Asked, certify
        from cascade.fingerprint import question_fingerprint

        request = self.task.decide_request(Document("", ""))
        made = []
        for question in request.questions:
            fingerprint = question_fingerprint(request, question, [tier.identity for tier in tiers])
            settings = self._risk(ordered=question.kind == "score")
            made.append(certify(outcomes[question.name], Asked(question.name, fingerprint, question.labels), settings))
        return made

    def _risk(self, *, ordered: bool) -> CertifySettings:
        from cascade.certify import CertifySettings

        given = self.settings
        return CertifySettings(
            alpha=given.alpha,
            delta=given.delta,
            basis="vs_truth" if self.audits else "vs_teacher",
            tolerance=given.tolerance if ordered else 0,
            learning=given.learning,
            least_saved=given.least_saved,
            fusion=given.fusion,
            seed=given.seed,
        )

    async def _gated(
        self, questions: Sequence[QuestionPolicy], tiers: Sequence[TierAnswers], documents: Sequence[Document]
    ) -> list[QuestionPolicy]:
        """The questions after the checks of those tiers that are to serve."""
        from cascade.gate import gated

        checks: dict[str, dict[str, Sequence[Check]]] = {question.name: {} for question in questions}
        for number, given in enumerate(self.settings.tiers[:-1]):
            serving = [one for one in questions if one.rules[number].threshold is not None]
            if serving:
                found = await self._checks(given, tiers[number], serving, documents)
                for name, made in found.items():
                    checks[name][given.name] = made
        return [gated(question, checks[question.name]) for question in questions]

    async def _checks(
        self,
        given: TierSettings,
        answers: TierAnswers,
        questions: Sequence[QuestionPolicy],
        documents: Sequence[Document],
    ) -> dict[str, Sequence[Check]]:
        from cascade.gate import GateSettings, accepts_by, gate
        from cli.build import engine_of

        limits = self.settings.gate.limits
        places = {question.name: place for place, question in enumerate(self.task.questions)}
        found: dict[str, Sequence[Check]] = {}
        async with aclosing(engine_of(given, known=self.settings.tiers)) as engine:
            for one in questions:
                place = places[one.name]
                rule = next(rule for rule in one.rules if rule.tier == given.name)
                accepts = accepts_by(rule)
                answered = [
                    (self.task.decide_request(document), decision)
                    for document in documents
                    if (decisions := answers.decisions.get(document.id)) and (decision := decisions[place])
                ]
                served = [row for row in answered if accepts(self.task.questions[place], row[1])]
                rows = served[: self.settings.gate.rows]
                found[one.name] = await gate(engine, place, rows, GateSettings(limits=limits), accepts)
        return found

    def _policy(self, questions: Sequence[QuestionPolicy], tiers: Sequence[TierAnswers]) -> Policy:
        from cascade.policy import Policy, TierRecord
        from cli.build import price_of
        from cli.cascades import full_spec

        now = datetime.now(UTC).replace(microsecond=0)
        records = [
            TierRecord.of(given.name, answers.identity, price_of(given), full_spec(given))
            for given, answers in zip(self.settings.tiers, tiers, strict=True)
        ]
        return Policy(
            created=now,
            expires=now + timedelta(days=self.settings.days),
            currency=self.settings.tiers[-1].currency,
            tiers=tuple(records),
            questions=tuple(questions),
        )


def _truth(session: Session, store: Store) -> Truth:
    """Field -> document -> the checked value; the last word counts."""
    task = session.task()
    options = {field.name: field.values for field in task.closed}
    found: dict[str, dict[str, Json]] = {}
    for audit in store.audits(task.id):
        if audit.field in options and audit.value in options[audit.field]:
            found.setdefault(audit.field, {})[audit.document_id] = audit.value
    if not found:
        raise InputError("no document was audited", hint="goldless audit --draw 100 --out sheet.csv")
    return found
