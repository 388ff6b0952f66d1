"""A policy with thresholds set by hand: to try a cascade out before anything is certified about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from cascade.asking import TEXT
from cascade.fingerprint import prompt_fingerprint, question_fingerprint
from cascade.policy import Certificate, Policy, QuestionPolicy, Rule, Scorer, TierRecord, Verdict
from cascade.signals import parse_signal
from curator.engines.base import Engine, identity_text
from curator.errors import ConfigError
from curator.types import DecideRequest, GenerateRequest, Price

UNTESTED = Certificate(
    basis="vs_teacher",
    verdict=Verdict.INCONCLUSIVE,
    reason="the thresholds were set by hand",
    alpha=1.0,
    delta=1.0,
    rows=0,
    risk=None,
    bound=None,
    shares=(),
)


def draft_policy(
    tiers: Mapping[str, Engine],
    request: DecideRequest | GenerateRequest,
    thresholds: Mapping[str, float],
    *,
    signal: str = "",
    prices: Mapping[str, Price] | None = None,
) -> Policy:
    """One rule per tier for all questions that `request` asks: serve where `signal` reaches the tier's threshold. A
    tier without a threshold is passed over; the last one needs none. By default the signal is the top probability, of
    texts that of the sequence. `prices`, all in one currency, bill the tiers that they name.

    Nothing is known about the risk, so a `Cascade` follows it only with `uncertified="rules"`.
    Raises: ConfigError for a threshold or price of what is no tier that may have one, or prices in several currencies;
    InputError for an unknown signal.
    """
    names, given = list(tiers), prices or {}
    _check("threshold", thresholds, names[:-1])
    _check("price", given, names)
    currencies = {price.currency for price in given.values()} or {"USD"}
    if len(currencies) > 1:
        raise ConfigError(f"prices are in {' and '.join(sorted(currencies))}", hint="give all in one currency")
    kind = "top_probability" if isinstance(request, DecideRequest) else "sequence_probability"
    scorer = Scorer(signals=(parse_signal(signal or kind).name,), weights=(1.0,))
    rules = tuple(Rule(tier=name, scorer=scorer, threshold=thresholds.get(name)) for name in names[:-1])
    records = tuple(_record(name, engine, given.get(name)) for name, engine in tiers.items())
    marks = _fingerprints(request, [record.identity for record in records])
    return Policy(
        created=datetime.now(UTC),
        currency=currencies.pop(),
        tiers=records,
        questions=tuple(
            QuestionPolicy(name=name, fingerprint=mark, rules=rules, certificate=UNTESTED)
            for name, mark in marks.items()
        ),
    )


def _check(what: str, given: Collection[str], allowed: list[str]) -> None:
    if wrong := sorted(set(given) - set(allowed)):
        raise ConfigError(
            f"a {what} for {wrong[0]!r}, which takes none",
            hint=f"a {what} is for {', '.join(allowed) or 'none: one tier is no cascade'}",
        )


def _record(name: str, engine: Engine, price: Price | None) -> TierRecord:
    return TierRecord(name=name, identity=identity_text(engine.identity), price=price and (price.input, price.output))


def _fingerprints(request: DecideRequest | GenerateRequest, tiers: list[str]) -> dict[str, str]:
    if isinstance(request, GenerateRequest):
        return {TEXT: prompt_fingerprint(request, tiers)}
    return {question.name: question_fingerprint(request, question, tiers) for question in request.questions}
