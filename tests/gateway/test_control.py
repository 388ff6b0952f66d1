"""What a request may ask of the cascade, and how it is told that it may not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cascade.gateway.control import PLAIN, Control, control_of
from cascade.rulebook import Wish
from cascade.wire.models import UnknownModelError
from curator.errors import InputError

TIERS = ("small", "strong")


@pytest.mark.parametrize(
    ("model", "headers", "expected"),
    [
        ("cascade", {}, PLAIN),
        ("cascade:small", {}, Control(Wish("small"))),
        ("cascade", {"x-goldless-tier": "strong"}, Control(Wish("strong"))),
        ("cascade:small", {"x-goldless-tier": "small"}, Control(Wish("small"))),
        ("cascade", {"x-goldless-alpha": "0.01"}, Control(Wish(alpha=0.01))),
        ("cascade:small", {"x-goldless-budget": "2e-3"}, Control(Wish("small"), 0.002)),
    ],
)
def test_what_may_be_asked(model: str, headers: Mapping[str, str], expected: Control) -> None:
    found = control_of(headers, model, "cascade", TIERS)
    assert found == expected
    assert found.overrides == (expected is not PLAIN)


@pytest.mark.parametrize("model", ["", "gpt-9", "cascade:", "cascade:tiny", "small", "Cascade", ":small"])
def test_models_that_there_are_not(model: str) -> None:
    with pytest.raises(UnknownModelError, match=r"models: cascade, cascade:small, cascade:strong"):
        control_of({}, model, "cascade", TIERS)


@pytest.mark.parametrize(
    ("model", "headers", "named"),
    [
        ("cascade", {"x-goldless-tier": "tiny"}, "x-goldless-tier"),
        ("cascade:small", {"x-goldless-tier": "strong"}, "different tiers"),
        ("cascade:small", {"x-goldless-alpha": "0.1"}, "says nothing about a tier"),
        *(("cascade", {"x-goldless-alpha": value}, "x-goldless-alpha") for value in ("0", "1", "-1", "nan", "x", "")),
        *(("cascade", {"x-goldless-budget": value}, "x-goldless-budget") for value in ("0", "inf", "-1", "nan", "x")),
    ],
)
def test_what_may_not_be_asked(model: str, headers: Mapping[str, str], named: str) -> None:
    with pytest.raises(InputError, match=named):
        control_of(headers, model, "cascade", TIERS)
