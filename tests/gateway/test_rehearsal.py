"""What another policy would have done: counted as its certificate counts."""

from __future__ import annotations

import pytest
from route_builders import certificate, policy, row, scripted

from cascade.gateway.rehearsal import Rehearsal, Rehearsed
from cascade.router import Cascade
from curator.types import Option, Question

pytestmark = pytest.mark.anyio
STARS = Question("stars", "score", "How many stars?", tuple(map(Option, "12345")))


@pytest.mark.parametrize(("tolerance", "disagreed"), [(0, 2), (1, 1), (2, 0)])
async def test_a_score_within_the_tolerance_does_not_disagree(tolerance: int, disagreed: int) -> None:
    tiers = {
        "small": scripted("small", decide=lambda _: [0.01, 0.01, 0.96, 0.01, 0.01]),
        "strong": scripted("strong", decide=lambda request: {"one": "4", "two": "5", "same": "3"}[request.state]),
    }
    careful = policy(dict(tiers), row("", STARS), {"stars": [0.99]})
    tried = policy(dict(tiers), row("", STARS), {"stars": [0.8]}, certified=certificate(tolerance=tolerance))
    rehearsal = Rehearsal(Cascade(tiers, tried))
    for state in ("one", "two", "same"):
        request = row(state, STARS)
        await rehearsal.judge(request, await Cascade(tiers, careful).route(request))
    assert rehearsal.questions["stars"] == Rehearsed(queries=3, accepted=3, compared=3, disagreed=disagreed)
    assert rehearsal.told == {"stars": {"queries": 3, "accepted": 3, "compared": 3, "disagreed": disagreed}}
    assert len(tiers["strong"].requests) == 3
