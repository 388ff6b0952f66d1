"""Deferral rules on recorded outcomes of published models (BENCHMARKS.md s.7): APGR, calls, savings, intervals.

    python -m benchmarks.replay --data data --json benchmarks/results/replay.json

Per pair of models: every single signal, scorers learnt from recorded traffic (`learned`: signals, subject and MiniLM
features of the prompt; `learned_vote`: the votes of further small models too), and two rules that are chosen among all
of these on the learning rows: `chosen` by APGR, `thrifty` by the cost saved at one point less. Learning is
cross-fitted: a query's score comes from rows of other folds, and so does the choice of the rule. Leads are over the
best single signal, chosen in hindsight on all rows in either direction, which favours it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from benchmarks._routing import SETS, Recording
from cascade.deferral import Curve, Deferral, Pair, baselines, curve
from cascade.replay import Replay, replay
from curator.confidence import Floats, Ints
from curator.engines.encoder import Encoder
from curator.engines.features import FeatureCache
from curator.engines.known import DEFAULT_ENCODER

COMMAND = "python -m benchmarks.replay --data data --json benchmarks/results/replay.json"
FOLDS, INNER = 5, 3
VOTE = "vote"
Embed = Callable[[tuple[str, ...]], Floats]


def main() -> None:
    """All pairs, as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder that holds routing/")
    parser.add_argument("--sets", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    encoder = Encoder(DEFAULT_ENCODER)
    cache = FeatureCache(encoder, encoder.identity.key)

    def embed(texts: tuple[str, ...]) -> Floats:
        return cache.encode(texts).astype(np.float64)

    found: dict[str, dict[str, object]] = {}
    for name in given.sets:
        for recording in SETS[name](given.data):
            found[recording.name] = measure(recording, embed, given.draws)
            print(f"{recording.name} done", file=sys.stderr, flush=True)
            if given.json:
                save(given.json, recording.name, found[recording.name])
    show(found)


def save(path: Path, name: str, figures: dict[str, object]) -> None:
    """Add a pair to what the file holds already."""
    held = json.loads(path.read_text()) if path.exists() else {"command": COMMAND, "pairs": {}}
    held["pairs"][name] = rounded(figures)
    path.write_text(json.dumps(held, indent=1) + "\n")


def measure(recording: Recording, embed: Embed, draws: int) -> dict[str, object]:
    """Every rule on one pair, and what was chosen per fold."""
    pair = Pair.of(recording.outcomes)
    singles = {name: rule(name, scores, recording.vote_cost) for name, scores in recording.signals.items()}
    turned = {name: Deferral(f"{name} turned", -single.scores, single.cost) for name, single in singles.items()}
    best = max((*singles.values(), *turned.values()), key=lambda single: apgr(curve(pair, single)))
    learned, picks = cross_fitted(recording, pair, embed)
    rules = [best, *(single for single in singles.values() if single.name != best.name), *learned]
    rules = [*rules, *baselines(pair)]
    result = replay(recording.outcomes, rules, against=best.name, draws=draws)
    return {"result": result.to_json(), "best_single": best.name, "picked": picks, "verdict": verdict(result)}


def verdict(result: Replay) -> str:
    """Whether the chosen rule is at least as good as the best single signal."""
    lead = next(arm.lead for arm in result.arms if arm.name == "chosen")
    if lead.low is None or lead.high is None:
        return lead.reason
    return "better" if lead.low > 0 else "as good" if lead.high >= 0 else "worse"


def rule(name: str, scores: Floats, vote_cost: Floats | None) -> Deferral:
    """A rule that pays for the votes where it uses them."""
    return Deferral(name, scores, vote_cost if VOTE in name else None)


def apgr(points: Curve) -> float:
    """Area under the curve as a share of the gap; minus infinity without a gap."""
    gap = points.quality[-1] - points.quality[0]
    area = np.trapezoid(points.quality - points.quality[0], points.calls)
    return float(area / gap) if gap > 0 else -np.inf


def saved(points: Curve, strong_cost: float) -> float:
    """Share of the strong tier's cost that the cheapest threshold at one point less saves; at least 0."""
    enough = points.quality >= points.quality[-1] - 0.01
    return max(0.0, 1.0 - float(points.cost[enough].min()) / strong_cost)


@dataclass(frozen=True, slots=True)
class Fold:
    """What every candidate scores: learning rows (out of fold where it learns) and held-out rows."""

    learn: Ints
    held: Ints
    scores: Mapping[str, tuple[Floats, Floats]]


def cross_fitted(recording: Recording, pair: Pair, embed: Embed) -> tuple[list[Deferral], dict[str, list[str]]]:
    """Learnt and chosen rules, every query scored by what other folds taught; and the choices."""
    size = len(pair.weak)
    names = ["learned", *(["learned_vote"] if VOTE in recording.signals else []), "chosen", "thrifty"]
    scores = {name: np.empty(size) for name in names}
    cost = {name: np.zeros(size) for name in names}
    picks: dict[str, list[str]] = {name: [] for name in names}
    votes = recording.vote_cost if recording.vote_cost is not None else np.zeros(size)
    for fold in folds(recording, pair, embed):
        for name in names:
            pick = best_of(name, fold, pair, votes)
            picks[name].append(pick)
            known, new = fold.scores[pick]
            # As a share of the learning rows that score lower, folds with different rules can be compared.
            scores[name][fold.held] = np.searchsorted(np.sort(known), new) / len(known)
            cost[name][fold.held] = votes[fold.held] if VOTE in pick else 0.0
    return [Deferral(name, scores[name], cost[name]) for name in names], picks


def best_of(name: str, fold: Fold, pair: Pair, votes: Floats) -> str:
    """The candidate that an arm takes in a fold, on its learning rows."""
    learn = pair.take(fold.learn)
    free = [pick for pick in fold.scores if pick.endswith("learned")]
    candidates = {"learned": free, "learned_vote": [p for p in fold.scores if p.endswith("learned_vote")]}
    curves = {
        pick: curve(learn, rule(pick, fold.scores[pick][0], votes[fold.learn]))
        for pick in candidates.get(name, [*fold.scores])
    }
    if name == "thrifty":
        strong = float(learn.strong_cost.mean())
        return max(curves, key=lambda pick: saved(curves[pick], strong))
    return max(curves, key=lambda pick: apgr(curves[pick]))


def folds(recording: Recording, pair: Pair, embed: Embed) -> Iterator[Fold]:
    """Candidates per fold: every signal, and two learners with and without the votes."""
    free, all_of_them = inputs(recording, embed)
    tables = {"learned": free, **({"learned_vote": all_of_them} if VOTE in recording.signals else {})}
    for learn, held in KFold(FOLDS, shuffle=True, random_state=0).split(free):
        scores = {name: (values[learn], values[held]) for name, values in recording.signals.items()}
        for name, table in tables.items():
            for kind in LEARNERS:
                inside = np.empty(len(learn))
                for rows, left in KFold(INNER, shuffle=True, random_state=1).split(learn):
                    inside[left] = fitted(kind, table, pair, learn[rows])(table[learn[left]])
                scores[f"{kind} {name}"] = (inside, fitted(kind, table, pair, learn)(table[held]))
        yield Fold(learn, held, scores)


def inputs(recording: Recording, embed: Embed) -> tuple[Floats, Floats]:
    """Features (n, d) without and with the votes."""
    signals = np.stack([values for name, values in recording.signals.items() if name != VOTE], axis=1)
    ranks = QuantileTransformer(n_quantiles=100, output_distribution="uniform").fit_transform(signals)
    parts = [ranks, ranks**2]
    if recording.groups:
        names = sorted(set(recording.groups))
        parts.append(np.array([[float(name == group) for name in names] for group in recording.groups]))
    if recording.texts:
        parts.append(embed(recording.texts))
    free = np.concatenate(parts, axis=1)
    votes = recording.signals.get(VOTE)
    return free, free if votes is None else np.column_stack([free, votes, votes**2, votes[:, None] * ranks])


def gain_learner(table: Floats, pair: Pair, rows: Ints) -> Callable[[Floats], Floats]:
    """Ridge regression of what escalation gains: escalate where the strong model is likely to mend the answer."""
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.geomspace(10, 1e5, 9)))
    model.fit(table[rows], pair.gain[rows])
    return lambda asked: -model.predict(asked)


def right_learner(table: Floats, pair: Pair, rows: Ints) -> Callable[[Floats], Floats]:
    """Logistic regression of the weak model being right."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=300))
    model.fit(table[rows], pair.weak[rows] > 0.5)
    return lambda asked: model.predict_proba(asked)[:, 1]


LEARNERS = {"gain": gain_learner, "right": right_learner}


def fitted(kind: str, table: Floats, pair: Pair, rows: Ints) -> Callable[[Floats], Floats]:
    """A learner of that kind, fitted on `rows`."""
    return LEARNERS[kind](table, pair, rows)


def rounded(value: object) -> object:
    """Numbers of a nested structure with four decimals (six where they are money)."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return (round(value, 4) if abs(value) >= 0.01 else round(value, 8)) if isinstance(value, float) else value


def show(found: Mapping[str, Mapping[str, object]]) -> None:
    """The tables in Markdown: what was chosen against the best single signal, and every rule."""
    print("| pair | rule | APGR | lead | calls 50% | calls 80% | saved, equal | saved, -1 point | change at -1 point |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, part in found.items():
        result = part["result"]
        for arm in result["arms"]:
            equal, less = arm["savings"]
            figures = [arm["apgr"], arm["lead"], *arm["calls"].values(), equal["saved"], less["saved"], less["change"]]
            print(f"| {name} | {arm['name']} | {' | '.join(map(figure, figures))} |")
    for name, part in found.items():
        print(f"- {name}: against the best single signal ({part['best_single']}), chosen is: {part['verdict']}")


def figure(found: Mapping[str, float | None]) -> str:
    """A value with its interval."""
    value, low, high = (found[key] for key in ("value", "low", "high"))
    return "undefined" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
