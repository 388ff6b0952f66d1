"""What a policy certifies, told in a line, and asked for."""

from __future__ import annotations

from pathlib import Path

from cascade.policy import Policy, Verdict
from curator.errors import ConfigError


def certified(policy: Policy) -> str:
    """What a policy certifies, in a line."""
    said = [
        f"{entry.name}: {_certificate(entry.certificate.verdict, entry.certificate.bound)}"
        for entry in policy.questions
    ]
    return "; ".join(said) or "it certifies nothing"


def _certificate(verdict: Verdict, bound: float | None) -> str:
    return f"{verdict}, risk at most {bound:.3g}" if verdict is Verdict.PASS and bound is not None else str(verdict)


def certifies(policy: Policy, path: Path) -> None:
    """Raises: ConfigError for a policy that lets no lower tier answer anything."""
    if not any(entry.certificate.verdict is Verdict.PASS for entry in policy.questions):
        raise ConfigError(f"{path} certifies nothing: {certified(policy)}", hint="certify again: `goldless certify`")
