"""The picture is written, and says what it lacks."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from replay_builders import outcomes

from cascade.deferral import Deferral, Pair, baselines, curve
from cascade.operating import operate, signal_rules
from cascade.plot import draw
from curator.errors import InputError, MissingExtraError


@pytest.fixture
def given():
    found = outcomes([0, 1, 0, 1] * 5, [1, 1, 1, 0] * 5)
    sure = np.tile([0.1, 0.9, 0.4, 0.6], 5)
    found = type(found)(
        found.tiers, found.answers, {"sure": np.stack([sure, sure], axis=1)}, found.cost, found.latency, found.quality
    )
    pair = Pair.of(found)
    curves = [curve(pair, rule) for rule in (Deferral("sure", sure), *baselines(pair))]
    return curves, [operate(found, "sure=0.5", signal_rules(found, "sure", 0.5), draws=100)]


def test_a_png_and_an_svg(tmp_path, given):
    pytest.importorskip("matplotlib")
    draw(*given, tmp_path / "curve.png", currency="USD")
    draw(*given, tmp_path / "curve.svg", currency="USD")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "curve.svg").read_text()


def test_another_format_or_nothing_to_draw_is_refused(tmp_path, given):
    with pytest.raises(InputError, match=r"its name ends in \.png or \.svg"):
        draw(*given, tmp_path / "curve.pdf")
    with pytest.raises(InputError, match="no curve to draw"):
        draw([], given[1], tmp_path / "curve.png")


def test_without_the_extra_it_says_what_to_install(tmp_path, given, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"goldless\[plot\]"):
        draw(*given, tmp_path / "curve.png")
