"""The work of `goldless certify`: ask every tier, certify each question, check the tiers that are to serve; or draw
the documents that people are to check."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from cli.curate import requests_per_row
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
    from cli.sheets import Checked
    from cli.tier_answers import TierAnswers
    from curator.annotate import Progress
    from curator.store import Store
    from curator.task import Task

Basis = Literal["teacher", "audits", "sheet"]
"""What answers are held against: the last tier's, the store's audits, or a sheet that people filled in."""
Result = TypeVar("Result")
UNGATED: Final = "the gate asks closed questions only"


@dataclass(frozen=True, slots=True)
class Certification:
    """One certification: `basis` says what people know, nothing by default."""

    session: Session
    task: Task[BaseModel]
    settings: CascadeSettings
    gate: bool = False
    traffic: str | None = None
    basis: Basis = "teacher"
    sheet: Path = Path()

    def run(self) -> Policy:
        """Ask, certify, and check. Raises: GoldlessError; what was answered is kept."""
        return self._watched(self._work)

    def draw(self, count: int) -> int:
        """Ask, and write a sheet with about `count` documents for people to check. Returns how many rows.

        Raises: GoldlessError; what was answered is kept.
        """
        return self._watched(partial(self._draw, count))

    def _watched(self, work: Callable[[Progress], Coroutine[object, object, Result]]) -> Result:
        from cli.interrupt import run
        from cli.progress import watch
        from curator.annotate import Progress

        progress, currency = Progress(), self.settings.tiers[-1].currency
        with watch(self.session.out, progress, currency=currency, per_row=requests_per_row(self.task)):
            return run(work(progress), self.session.out.complain)

    async def _work(self, progress: Progress) -> Policy:
        from cli.tier_answers import outcomes_of

        store = self.session.store(create=True)
        known = self._known(store)
        checked = self._checked(store, known)
        documents = self._sample(known, checked)
        tiers = await self._ask(store, documents, progress)
        outcomes = outcomes_of(self.task, documents, tiers, checked, self.settings.tolerance)
        questions = self._certified(outcomes, tiers, checked)
        if self.gate and self.settings.gate.rows:
            questions = await self._gated(questions, tiers, documents)
        if self.task.sampled:
            questions.append(await self._certified_text(documents, tiers))
        return self._policy(questions, tiers)

    async def _draw(self, count: int, progress: Progress) -> int:
        from cli.sheets import Checked, drawn, write
        from cli.tier_answers import outcomes_of

        store = self.session.store(create=True)
        documents = self._sample(self._known(store), Checked({}))
        tiers = await self._ask(store, documents, progress)
        outcomes = outcomes_of(self.task, documents, tiers, Checked({}))
        settings = {field.name: self._risk(ordered=field.question.kind == "score") for field in self.task.closed}
        rows, ratio = drawn(outcomes, [document.id for document in documents], settings, count)
        name = secrets.token_hex(4)
        # First the draw: a sheet without one is worth nothing.
        store.add_draw(name, self.task.id, rows)
        if ratio == 1:
            self.session.out.say("drawn uniformly: with so few, too few of the others would be left")
        return write(self.sheet, self.task, name, rows, {document.id: document.text for document in documents})

    async def _ask(self, store: Store, documents: Sequence[Document], progress: Progress) -> list[TierAnswers]:
        """What all tiers say about the documents, as far as they have not; failures are told."""
        from cli.tier_answers import ask_tier

        progress.total = len(documents) * len(self.settings.tiers) * requests_per_row(self.task)
        with store.run("certify", {"task": self.task.id, "tiers": [tier.name for tier in self.settings.tiers]}) as run:
            tiers = [
                await ask_tier(one, self.task, documents, (store, run), progress, self.settings.tiers)
                for one in self.settings.tiers
            ]
        for one in tiers:
            if one.errors:
                self.session.out.complain(f"of {one.name}'s answers, failed: {show(dict(one.errors))}")
        return tiers

    def _checked(self, store: Store, known: Mapping[str, Document]) -> Checked:
        """What people know of the documents. Raises: InputError where that is nothing."""
        from cli.sheets import Checked, Sheet

        if self.basis == "audits":
            return Checked(_truth(self.session, store))
        if self.basis == "sheet":
            texts = {name: document.text for name, document in known.items()}
            return Sheet.read(self.sheet).checked(store, self.task, texts, self.session.out)
        return Checked({})

    def _known(self, store: Store) -> dict[str, Document]:
        """All documents that may be asked about. Raises: InputError if there are none."""
        from cli.build import screening_of, source_of

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
        return known

    def _sample(self, known: Mapping[str, Document], checked: Checked) -> list[Document]:
        """A uniform sample, the same every time, and the audited documents; or the sample that a sheet was drawn of."""
        from curator.audits import draw

        if checked.documents:
            return [known[name] for name in checked.documents]
        audited = {name for rows in checked.truth.values() for name in rows}
        chosen = dict.fromkeys(draw(known, self.settings.sample, seed=self.settings.seed))
        return [known[name] for name in [*chosen, *sorted(audited - set(chosen))] if name in known]

    def _certified(
        self, outcomes: Mapping[str, Outcomes], tiers: Sequence[TierAnswers], checked: Checked
    ) -> list[QuestionPolicy]:
        from cascade.certify import Asked, certify
        from cascade.fingerprint import question_fingerprint

        request = self.task.decide_request(Document("", ""))
        made = []
        for question in request.questions:
            if self.basis != "teacher" and question.name not in checked.truth:
                continue
            fingerprint = question_fingerprint(request, question, [tier.identity for tier in tiers])
            asked, answered = Asked(question.name, fingerprint, question.labels), outcomes[question.name]
            chance = checked.weights(question.name, answered.ids)
            found = certify(answered, asked, self._risk(ordered=question.kind == "score"), chance=chance)
            made.append(_noted(found, checked.notes.get(question.name)))
        return made

    async def _certified_text(self, documents: Sequence[Document], tiers: Sequence[TierAnswers]) -> QuestionPolicy:
        """The sampled fields together: they are one prompt, and its answers are alike or not."""
        from cascade.asking import TEXT
        from cascade.certify import Asked, certify
        from cascade.fingerprint import prompt_fingerprint
        from cli.tier_texts import text_outcomes

        outcomes = await text_outcomes(self.task, documents, tiers)
        request = self.task.generate_request(Document("", ""))
        fingerprint = prompt_fingerprint(request, [tier.identity for tier in tiers])
        found = certify(outcomes, Asked(TEXT, fingerprint), self._risk(ordered=False))
        return _noted(found, UNGATED if self.gate and self.settings.gate.rows else None)

    def _risk(self, *, ordered: bool) -> CertifySettings:
        from cascade.certify import CertifySettings

        given = self.settings
        return CertifySettings(
            alpha=given.alpha,
            delta=given.delta,
            basis="vs_teacher" if self.basis == "teacher" else "vs_truth",
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


def _noted(question: QuestionPolicy, note: str | None) -> QuestionPolicy:
    """The question with a note more in its certificate."""
    if note is None:
        return question
    certificate = question.certificate
    certificate = certificate.model_copy(update={"notes": (*certificate.notes, note)})
    return question.model_copy(update={"certificate": certificate})


def _truth(session: Session, store: Store) -> Mapping[str, Mapping[str, Json]]:
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
