"""Curves of cost and quality as a picture. Needs the extra `plot`; nothing of it is loaded before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cascade.deferral import Curve
from cascade.operating import Point
from curator.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS: Final = (".png", ".svg")


def draw(curves: Sequence[Curve], points: Sequence[Point], path: Path, *, currency: str = "") -> None:
    """Write quality over cost per query, or over the share of strong calls where a cost is unknown, to a PNG or SVG
    file. Curves called `random` and `oracle` are drawn dashed.

    Raises: InputError for another format or no curve; MissingExtraError.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"a plot cannot be written to {path}", hint=f"its name ends in {' or '.join(FORMATS)}")
    if not curves:
        raise InputError("there is no curve to draw", hint="replay two tiers with a signal or a policy")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(f"a plot needs {error.name}", hint="pip install 'goldless[plot]'") from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    priced = not any(np.isnan(curve.cost).any() for curve in curves)
    for curve in curves:
        style = "--" if curve.name in ("random", "oracle") else "-"
        axes.plot(curve.cost if priced else curve.calls, curve.quality, style, label=curve.name)
    _mark(axes, curves[0], points, priced)
    unit = f"cost per query{f' ({currency})' if currency else ''}"
    axes.set(xlabel=unit if priced else "share of strong calls", ylabel="quality")
    axes.legend()
    figure.savefig(path, dpi=150)


def _mark(axes: Axes, first: Curve, points: Sequence[Point], priced: bool) -> None:
    """Operating points, the weak tier alone, and what the strong tier alone reaches."""
    axes.axhline(first.quality[-1], color="grey", linewidth=0.8, label="strong alone")
    for point in points:
        across = point.cost.value if priced else 1.0 - sum(point.shares[:-1])
        if across is not None and point.quality.value is not None:
            axes.plot([across], [point.quality.value], "o", label=point.name)
