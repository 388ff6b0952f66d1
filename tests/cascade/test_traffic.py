from __future__ import annotations

from dataclasses import replace

from traffic_builders import STRONG, decided, generated

from cascade.traffic import Request, keyed, without_content
from curator.engines.base import request_key
from curator.types import DecideRequest


def test_the_key_is_that_of_what_the_tier_was_asked() -> None:
    record = keyed(decided(1, strong=True))
    assert isinstance(record.request, DecideRequest)
    assert record.answers[1].key == request_key(STRONG, record.request)
    assert record.answers[0].key != record.answers[1].key


def test_the_key_of_a_tier_that_was_asked_some_of_the_questions() -> None:
    record = decided(1, strong=True)
    assert isinstance(record.request, DecideRequest)
    second = replace(record.request.questions[0], name="other")
    both = replace(record, request=replace(record.request, questions=(*record.request.questions, second)))
    assert both.request is not None
    # Two questions share the state, which therefore stands first; so it does for the one that is left.
    assert keyed(both).answers[1].key == request_key(STRONG, part_of(both.request))
    assert keyed(both).answers[1].key != request_key(STRONG, record.request)


def part_of(request: Request) -> DecideRequest:
    assert isinstance(request, DecideRequest)
    template = replace(request.template, order="state_first")
    return replace(request, template=template, questions=request.questions[:1])


def test_without_content_nothing_is_left_that_somebody_wrote() -> None:
    for record in (decided(1, strong=True, text="secret text"), generated(1)):
        bare = without_content(keyed(record))
        assert "secret" not in repr(bare)
        assert [answer.key for answer in bare.answers] == [answer.key for answer in keyed(record).answers]
        assert keyed(bare) == bare
    assert without_content(decided(1)).served[0].value == "positive"


def test_the_cost_is_unknown_where_a_part_of_it_is() -> None:
    assert decided(1, strong=True).cost == 0.101
    assert generated(1).cost is None
