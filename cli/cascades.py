"""A cascade where the settings name an engine: `spec = "cascade:policy.json"`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cascade.artifact import load
from cascade.fingerprint import prompt_fingerprint, question_fingerprint
from cascade.opening import CascadeSpec, is_cascade, open_spec
from cascade.rulebook import Path, Rulebook, identities
from curator.errors import ConfigError
from curator.types import DecideRequest, Document, JsonObject

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cascade.policy import Certificate, Policy, TierRecord
    from cascade.router import Cascade
    from cli.output import Output
    from cli.settings import EngineSettings
    from curator.engines.base import Engine
    from curator.engines.wrappers import Account
    from curator.task import Task

FEW: Final = 5
"""Answers that are expected of a tier, below which their absence says nothing."""


def cascade_of(settings: EngineSettings, known: Sequence[EngineSettings], account: Account | None) -> Cascade:
    """The cascade, its tiers connected with what `known` says of the same specs: keys, limits, settings, prices.
    All tiers draw on one `account`.

    Raises: ConfigError, MissingExtraError, WeightsError
    """
    if settings.api_key is not None or settings.price_input is not None:
        raise ConfigError(
            f"{settings.spec} is a cascade: keys and prices are those of its tiers",
            hint="say them in [[cascade.tiers]], under the spec that the policy has for the tier",
        )

    def make(tier: TierRecord, currency: str) -> Engine:
        from cli.build import connected

        given = _settings_of(tier, currency, known)
        if account is not None and account.budget.money is not None and not _priced(given):
            raise ConfigError(
                f"budget.money needs prices, and tier {tier.name!r} has none",
                hint="set price_input and price_output in [[cascade.tiers]] and certify again",
            )
        return connected(given, account, known)

    return open_spec(CascadeSpec.read(settings.spec, settings.settings), make)


def _settings_of(tier: TierRecord, currency: str, known: Sequence[EngineSettings]) -> EngineSettings:
    """How a tier is connected. A price that holds now counts before the one that held when it was certified."""
    from cli.settings import EngineSettings

    given = next((one for one in known if one.spec == tier.spec), EngineSettings(spec=tier.spec))
    if given.price_input is not None and given.currency != currency:
        raise ConfigError(
            f"the price of {tier.spec} is in {given.currency}, the policy's are in {currency}",
            hint=f"write {currency}, or certify again",
        )
    if given.price_input is not None or tier.price is None:
        return given
    price = {"price_input": tier.price[0], "price_output": tier.price[1], "currency": currency}
    return given.model_copy(update=price)


def _priced(settings: EngineSettings) -> bool:
    """Whether the answers have a cost. A cascade's tiers are asked one by one."""
    return settings.price_input is not None or is_cascade(settings.spec)


def full_spec(settings: EngineSettings) -> str:
    """The spec as a policy records it: for a cascade with all that decides which cascade it is."""
    if not is_cascade(settings.spec):
        return settings.spec
    return str(CascadeSpec.read(settings.spec, settings.settings))


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a policy says of one question of a task, or of its sampled fields. `certificate` is that of the question
    with the same name, None where the policy has none; `path` is the way that it goes."""

    name: str
    path: Path
    certificate: Certificate | None

    @property
    def cost(self) -> float | None:
        """Money that one answer is expected to take; None where that is unknown."""
        if self.certificate is None:
            return None
        return self.certificate.cost if self.path.certified else self.certificate.baseline_cost


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a policy says about the requests of a task, per view and for the sampled fields."""

    policy: Policy
    requests: tuple[tuple[Coverage, ...], ...]

    @property
    def uncovered(self) -> dict[str, str]:
        """Question -> why no certificate covers it, where none does."""
        found = (one for asked in self.requests for one in asked if not one.path.certified)
        return {one.name: one.path.note for one in found}

    def say(self, out: Output) -> None:
        """Tell who is to answer, and of what no certificate holds."""
        shares = ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items())
        out.say(f"answers are expected of: {shares}")
        for name, why in self.uncovered.items():
            out.complain(f"{name}: no certificate covers it: {why}")

    def compare(self, given: Mapping[str, int], out: Output) -> None:
        """Tell of a tier that was to answer and never did: it may not run, which the last one pays for."""
        total = sum(given.values())
        top = {name.partition("/")[0] for name in given}
        for name, share in self.shares.items():
            if name not in top and share * total >= FEW:
                out.complain(f"{name} was to give {share:.0%} of {total:,} answers, and gave none: does it run?")

    def to_json(self) -> JsonObject:
        """Who is expected to answer, and what no certificate covers."""
        return {"served_by": dict(self.shares), "uncovered": dict(self.uncovered)}

    @property
    def cost(self) -> float | None:
        """Money per request, on average; None where a part is unknown."""
        costs = [one.cost for asked in self.requests for one in asked]
        known = [cost for cost in costs if cost is not None]
        return sum(known) / len(self.requests) if known and len(known) == len(costs) else None

    @property
    def shares(self) -> dict[str, float]:
        """Tier -> the share of the answers that it is expected to give."""
        total = [0.0] * len(self.policy.tiers)
        count = 0
        for one in (one for asked in self.requests for one in asked):
            covered = one.path.certified and one.certificate is not None
            shares = one.certificate.shares if covered and one.certificate else (*[0.0] * (len(total) - 1), 1.0)
            total, count = [have + share for have, share in zip(total, shares, strict=True)], count + 1
        return {tier.name: value / max(count, 1) for tier, value in zip(self.policy.tiers, total, strict=True)}


def expectation(settings: EngineSettings, task: Task[BaseModel]) -> Expectation | None:
    """What the policy of a cascade says about a task; None for another engine.

    Raises: ConfigError as `cascade.artifact.load`, and for a question that is to be refused.
    """
    if not is_cascade(settings.spec):
        return None
    spec = CascadeSpec.read(settings.spec, settings.settings)
    policy = load(spec.policy, key=spec.key)
    book = Rulebook(policy, spec.uncertified)
    named = {question.name: question.certificate for question in policy.questions}
    asked = tuple(
        tuple(Coverage(name, book.path(name, mark), named.get(name)) for name, mark in marks)
        for marks in _marks(policy, task)
    )
    return Expectation(policy, asked)


def _marks(policy: Policy, task: Task[BaseModel]) -> Iterator[list[tuple[str, str]]]:
    """Per request that one document takes: the names of its questions and their fingerprints."""
    from cascade.asking import TEXT
    from curator.requests import requests_of

    tiers = identities(policy)
    for _, request in requests_of(task, Document("", "")):
        if isinstance(request, DecideRequest):
            yield [(one.name, question_fingerprint(request, one, tiers)) for one in request.questions]
        else:
            yield [(TEXT, prompt_fingerprint(request, tiers))]
