"""`goldless replay`: policies and signals on recorded outcomes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import Session, command
from curator.errors import InputError, SourceError

if TYPE_CHECKING:
    from cascade.deferral import Curve
    from cascade.operating import Point
    from cascade.outcomes import Outcomes
    from cascade.policy import Policy, Rule
    from cascade.replay import Arm, Replay
    from cascade.resampling import Estimate
    from cli.output import Output


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "replay",
        shared=("json",),
        example="goldless replay outcomes.csv --signal confidence --plot curve.png\n"
        "goldless replay outcomes.parquet --policy policy.json --signal confidence=0.8\n"
        "goldless replay outcomes.jsonl --tier small --tier strong --json | jq .replay.arms",
    )(run)


def run(
    session: Session,
    outcomes: Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet of recorded answers, long or wide.")],
    policy: Annotated[
        list[Path] | None, typer.Option("--policy", "-p", help="A policy artifact to replay; repeatable.")
    ] = None,
    signal: Annotated[
        list[str] | None,
        typer.Option(
            "--signal",
            metavar="NAME[=THRESHOLD]",
            help="A signal as a deferral rule; repeatable. Without this and --policy: all of them.",
        ),
    ] = None,
    tier: Annotated[
        list[str] | None, typer.Option("--tier", help="A tier to replay, the cheapest first; repeatable.")
    ] = None,
    question: Annotated[str, typer.Option("--question", help="Which question of the policies, if several.")] = "",
    cost: Annotated[
        list[str] | None,
        typer.Option("--cost", metavar="TIER=AMOUNT", help="Cost per query of a tier whose costs were not recorded."),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the curves into a PNG or SVG file.")] = None,
    draws: Annotated[int, typer.Option("--draws", min=100, help="Resamples behind an interval.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Of the resamples, the splits and random routing.")] = 0,
) -> None:
    """What a cascade would have cost on recorded outcomes, and how good it would have been.

    Of two tiers every threshold is tried: APGR (0.5 is random routing), the least share of strong calls for 50% and
    80% of the gap, and the cost saved at equal quality and at one point less, with the threshold chosen on one half of
    the queries and scored on the other. A policy, or a signal with a threshold, is one operating point, over any
    number of tiers. Without recorded quality an answer is right if the last tier gave it.
    """
    from cascade.deferral import judged
    from cascade.recorded import read_outcomes

    artifacts = [(path, _policy(path)) for path in policy or []]
    wanted = tier or [record.name for _, found in artifacts[:1] for record in found.tiers]
    found = read_outcomes(outcomes, tiers=wanted)
    known, basis, blank = judged(_priced(found.outcomes, cost or []))
    notes = [
        *([f"left out, for want of an answer of every tier: {found.incomplete} queries"] if found.incomplete else []),
        *(f"without an answer of {name}: {count}" for name, count in found.lacking.items()),
        *([f"left out, for want of a known quality: {blank} queries"] if blank else []),
        *([f"columns that are no signals: {', '.join(found.ignored)}"] if found.ignored else []),
    ]
    for note in notes:
        session.out.say(note)
    rules = _rules(known, artifacts, signal or [], question)
    result, points, curves = _replayed(known, rules, draws, seed)
    if plot is not None:
        from cascade.plot import draw

        draw(curves, points, plot, currency=found.currency)
        session.out.say(f"the plot is in {plot}")
    head = {"basis": basis, "currency": found.currency, "incomplete": found.incomplete, "unknown_quality": blank}
    _show(session.out, head, result, (points, curves))


@dataclass(frozen=True, slots=True)
class _Rule:
    """Rules under one name; `stated` where their thresholds are given. `curve` is what its curve is called: a signal
    has one, whatever thresholds are asked for."""

    name: str
    curve: str
    rules: tuple[Rule, ...]
    stated: bool


def _policy(path: Path) -> Policy:
    """Raises: InputError for a file that is none."""
    from pydantic import ValidationError

    from cascade.policy import Policy

    try:
        return Policy.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{path} is no policy: {where}: {first['msg']}", hint="`goldless certify` writes one"
        ) from None


def _priced(outcomes: Outcomes, given: list[str]) -> Outcomes:
    """The outcomes with the costs that are given. Raises: InputError where costs were recorded."""
    import numpy as np

    costs = outcomes.cost.copy()
    for item in given:
        name, value = _named_number(item, "--cost")
        if value is None or value < 0 or name not in outcomes.tiers:
            raise InputError(f"--cost {item!r} is not TIER=AMOUNT", hint=f"tiers: {', '.join(outcomes.tiers)}")
        at = outcomes.tiers.index(name)
        if not np.isnan(costs[:, at]).all():
            raise InputError(f"--cost {name}: the outcomes hold its costs", hint="leave it out, or blank the column")
        costs[:, at] = value
    return replace(outcomes, cost=costs)


def _named_number(item: str, option: str) -> tuple[str, float | None]:
    """NAME or NAME=NUMBER."""
    name, equals, number = item.partition("=")
    try:
        value = float(number) if equals else None
    except ValueError:
        value = math.nan
    if not name or (value is not None and not math.isfinite(value)):
        raise InputError(f"{option} {item!r}: what stands after = is no number")
    return name, value


def _rules(outcomes: Outcomes, policies: list[tuple[Path, Policy]], signals: list[str], question: str) -> list[_Rule]:
    import numpy as np

    from cascade.operating import question_of, signal_rules

    found = [_Rule(path.stem, path.stem, question_of(policy, question).rules, True) for path, policy in policies]
    if not policies and not signals:
        signals = [name for name, table in outcomes.signals.items() if not np.isnan(table[:, 0]).all()]
    for item in signals:
        name, threshold = _named_number(item, "--signal")
        found.append(_Rule(item, name, signal_rules(outcomes, name, threshold), threshold is not None))
    if not found:
        raise InputError("the outcomes hold no signal to defer by", hint="record one, e.g. a column `confidence`")
    return found


def _replayed(
    outcomes: Outcomes, rules: list[_Rule], draws: int, seed: int
) -> tuple[Replay | None, list[Point], list[Curve]]:
    """The comparison and the curves, where there are two tiers, and the operating points."""
    from cascade.deferral import Pair, baselines, curve, thinned
    from cascade.operating import deferral, operate
    from cascade.replay import replay

    if len(outcomes.tiers) < 2:
        raise InputError("there is one tier: nothing can be deferred", hint="record the answers of a second one")
    two = len(outcomes.tiers) == 2
    if not two and (open_ones := [rule.name for rule in rules if not rule.stated]):
        raise InputError(
            f"{', '.join(open_ones)}: every threshold is tried between two tiers, not {len(outcomes.tiers)}",
            hint=f"choose two with --tier, of {', '.join(outcomes.tiers)}, or give --signal NAME=THRESHOLD",
        )
    points = [operate(outcomes, rule.name, rule.rules, draws=draws, seed=seed) for rule in rules if rule.stated]
    if not two:
        return None, points, []
    pair = Pair.of(outcomes)
    drawn = {rule.curve: deferral(outcomes, rule.curve, rule.rules) for rule in rules}
    every = [*drawn.values(), *baselines(pair, seed)]
    return replay(outcomes, every, draws=draws, seed=seed), points, [thinned(curve(pair, rule)) for rule in every]


def _show(
    out: Output, head: Mapping[str, object], result: Replay | None, drawn: tuple[list[Point], list[Curve]]
) -> None:
    points, curves = drawn
    if out.json:
        return out.emit(
            {
                **head,
                "replay": result.to_json() if result else None,
                "points": [point.to_json() for point in points],
                "curves": [curve.to_json() for curve in curves],
            }
        )
    if result:
        _show_arms(out, result, str(head["basis"]))
    if points:
        rows = [_point_row(point) for point in points]
        out.rows(list(rows[0]), rows, title="At the stated thresholds")
    return None


def _show_arms(out: Output, result: Replay, basis: str) -> None:
    weak, strong = result.tiers
    out.text(
        f"{result.rows:,} queries, quality {basis}: {weak} {_figure(result.weak)}, {strong} {_figure(result.strong)}"
    )
    rows = [_arm_row(arm) for arm in result.arms]
    out.rows(list(rows[0]), rows, title=f"{weak} before {strong}; leads are over {result.against}")
    reasons = [result.arms[0].apgr.reason, *(saving.saved.reason for saving in result.arms[0].savings)]
    for reason in dict.fromkeys(filter(None, reasons)):
        out.text(f"- undefined: {reason}")


def _arm_row(arm: Arm) -> dict[str, object]:
    calls = {f"calls_for_{share:.0%}": _figure(found) for share, found in arm.calls.items()}
    saved = {f"saved_at_{_loss(item.loss)}": _figure(item.saved) for item in arm.savings}
    change = {f"change_at_{_loss(item.loss)}": _figure(item.change) for item in arm.savings}
    return {"rule": arm.name, "apgr": _figure(arm.apgr), "lead": _figure(arm.lead), **calls, **saved, **change}


def _loss(loss: float) -> str:
    return f"{100 * loss:g}_point_less" if loss else "equal_quality"


def _point_row(point: Point) -> dict[str, object]:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(point.tiers, point.shares, strict=True))
    names = ("quality", "change", "pgr", "saved", "cost")
    return {"policy": point.name, "answered_by": shares, **{name: _figure(getattr(point, name)) for name in names}}


def _figure(found: Estimate) -> str:
    if found.value is None:
        return "-"
    return f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}]"
