"""Which rules of a policy may be used for a question. Whatever is not certified goes to the last tier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from cascade.policy import VERSION, Certificate, Policy, QuestionPolicy, Rule, Verdict
from cascade.signals import parse_signal
from curator.errors import ConfigError

Uncertified = Literal["teacher", "rules", "refuse"]
"""What to do with a question that no certificate covers: ask the last tier alone; use its rules all the same, unless
its verdict is BLOCK (to try a policy out); or refuse the request."""

EXPIRED: Final = "the policy has expired"


@dataclass(frozen=True, slots=True)
class Path:
    """The way of one question: per tier but the last the rule that judges it, None where the tier is not asked.
    `certified` is whether the certificate covers this way, `note` why not."""

    rules: tuple[Rule | None, ...]
    certificate: Certificate | None
    certified: bool
    note: str = ""

    def rule(self, tier: int) -> Rule | None:
        return self.rules[tier] if tier < len(self.rules) else None

    def confidence_basis(self, rule: Rule, teacher: str) -> str:
        """What a score of `rule` rests on."""
        if not rule.scorer.knots or self.certificate is None:
            return "raw"
        if self.certificate.basis == "vs_truth":
            return f"audited({self.certificate.rows})"
        return f"reference:{teacher}"


class Rulebook:
    """The rules of `policy` by fingerprint.

    Raises: ConfigError for a policy that is expired, of a newer version, or has rules that no tier or signal fits.
    """

    def __init__(self, policy: Policy, uncertified: Uncertified) -> None:
        self._check(policy)
        self.policy = policy
        self._uncertified = uncertified
        self._names = [tier.name for tier in policy.tiers]
        self._known = {entry.fingerprint: self._path(entry) for entry in policy.questions}
        self._by_name = {entry.name for entry in policy.questions}

    def path(self, name: str, fingerprint: str) -> Path:
        """The way of the question with this fingerprint.

        Raises: ConfigError where it is not certified and that is to be refused.
        """
        if self.expired:
            found = self._direct(EXPIRED)
        elif (known := self._known.get(fingerprint)) is not None:
            found = known
        else:
            found = self._direct(self._unknown(name))
        if self._uncertified == "refuse" and not found.certified:
            raise ConfigError(
                f"question {name!r} is not certified: {found.note}", hint="certify it, or ask the teacher"
            )
        return found

    @property
    def expired(self) -> bool:
        """Whether the policy's time is over."""
        return _is_past(self.policy.expires)

    def _path(self, entry: QuestionPolicy) -> Path:
        rules, certificate = self._rules(entry), entry.certificate
        if certificate.verdict is Verdict.PASS:
            return Path(rules, certificate, certified=True)
        note = f"its verdict is {certificate.verdict}: {certificate.reason}"
        if self._uncertified == "rules" and certificate.verdict is not Verdict.BLOCK:
            return Path(rules, certificate, certified=False, note=note)
        return self._direct(note)

    def _direct(self, note: str) -> Path:
        """To the last tier at once."""
        return Path((None,) * (len(self._names) - 1), None, certified=False, note=note)

    def _unknown(self, name: str) -> str:
        if name in self._by_name:
            return "its wording, options, examples or models are not those that were certified"
        return "the policy does not know it"

    def _check(self, policy: Policy) -> None:
        if policy.version > VERSION:
            raise ConfigError(f"the policy has version {policy.version}, newer than {VERSION}", hint="update goldless")
        if _is_past(policy.expires):
            raise ConfigError(f"{EXPIRED}: it was valid until {policy.expires}", hint="certify again")
        if not policy.tiers:
            raise ConfigError("the policy has no tiers", hint="certify again")

    def _rules(self, entry: QuestionPolicy) -> tuple[Rule | None, ...]:
        rules = {rule.tier: rule for rule in entry.rules}
        if wrong := set(rules) - set(self._names[:-1]):
            raise ConfigError(
                f"question {entry.name!r} has a rule for {sorted(wrong)[0]!r}, which is no tier below the last",
                hint=f"tiers: {', '.join(self._names)}",
            )
        used = {name: rule for name, rule in rules.items() if rule.threshold is not None}
        for rule in used.values():
            for signal in rule.scorer.signals:
                parse_signal(signal)
        return tuple(used.get(name) for name in self._names[:-1])


def identities(policy: Policy) -> Sequence[str]:
    """Who answers, the cheapest first: what fingerprints are made with."""
    return [tier.identity for tier in policy.tiers]


def _is_past(moment: datetime | None) -> bool:
    if moment is None:
        return False
    return datetime.now(UTC) >= (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
