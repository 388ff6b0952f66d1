"""The list of models, for both clients."""

from __future__ import annotations

import httpx2
from openai.types import Model
from typesafe_sdk import ListModelsResponse

from cascade.wire.models import listing, names

TIERS = ("small", "strong")
MADE = 1_790_000_000


def test_both_official_clients_read_the_list():
    body = listing(TIERS, MADE)
    wanted = ["cascade", "cascade:small", "cascade:strong"]
    assert [Model.model_validate(one, strict=True).id for one in body["data"]] == wanted
    theirs = ListModelsResponse.from_http_response(httpx2.Response(200, json=body))
    assert [one.name for one in theirs.models] == wanted
    assert theirs.models[0].release_date == "2026-09-21"


def test_the_cascade_may_have_another_name():
    assert names(TIERS, "helpdesk") == ("helpdesk", "helpdesk:small", "helpdesk:strong")
