from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from gateway_builders import FUN_BODY, MOOD_BODY, certified, running, scripted_tiers
from openai import APIStatusError, AsyncOpenAI, AuthenticationError, PermissionDeniedError, RateLimitError
from route_builders import row, scripted

from cascade.artifact import seal
from cascade.gateway.access import Access, money_check, tokens_of
from cascade.gateway.billing import Billing
from cascade.gateway.key_file import changing
from cascade.gateway.key_records import KeyRecord, new_key
from cascade.gateway.keys import Keyring
from cascade.gateway.ledger import Ledger
from cascade.gateway.limits import Limiter
from curator.engines.metering import MeteredEngine
from curator.errors import BudgetExceededError, ConfigError, InputError, KeyRejectedError, NotAllowedError
from curator.errors import RateLimitError as Limited
from curator.types import GenerateRequest, Message, Price, Sampling

NOW = datetime(2026, 11, 26, tzinfo=UTC)
ASK = GenerateRequest((Message("user", "a b c d"),), Sampling(max_tokens=10))


def made(path: Path, **given: object) -> tuple[str, KeyRecord]:
    key, record = new_key("x", NOW, **given)
    with changing(path) as records:
        records.append(record)
    return key, record


def access(**changed: object) -> Access:
    return Access(Billing(Ledger()), limiter=Limiter(lambda: 0.0), **changed)


def test_without_keys_everybody_is_let_in() -> None:
    door = access()
    assert door.identify(None) is None
    assert door.identify("Bearer anything") is None
    with door.admit("q1", None, ASK) as bill:
        assert bill.purse is None
    assert door.headers(None) == {}
    door.close()


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer  "])
def test_a_key_is_read_from_the_header(tmp_path: Path, scheme: str) -> None:
    key, record = made(tmp_path / "keys")
    door = access(keys=Keyring(tmp_path / "keys"))
    assert door.identify(scheme + key) == record
    for wrong in (None, "", key, f"Basic {key}", "Bearer", f"Bearer {key} x"):
        with pytest.raises(KeyRejectedError):
            door.identify(wrong)
    door.close()


@pytest.mark.anyio
async def test_tokens_are_settled_with_what_the_calls_took() -> None:
    _, record = new_key("x", NOW, limits={"tokens_per_minute": 1000, "in_flight": 1})
    door = access()
    engine = MeteredEngine(scripted("m", generate=lambda _: "one two"), door.billing.meter("small", "m", None))
    estimate = tokens_of(ASK)
    assert estimate == (7 + 64) // 4 + 10
    with door.admit("q1", record, ASK):
        await engine.generate(ASK)
        assert door.headers(record)["x-ratelimit-remaining-tokens"] == str(1000 - estimate)
        with pytest.raises(Limited), door.admit("q2", record, ASK):
            pass
    assert door.headers(record)["x-ratelimit-remaining-tokens"] == str(1000 - 6)
    with door.admit("q3", record, ASK):
        pass
    assert door.headers(record)["x-ratelimit-remaining-tokens"] == str(1000 - 6)
    door.close()


@pytest.mark.anyio
async def test_a_request_may_set_itself_a_budget() -> None:
    door = access()
    meter = door.billing.meter("small", "m", Price(1e6, 1e6))
    engine = MeteredEngine(scripted("m", generate=lambda _: "one two"), meter)
    with door.admit("q1", None, ASK, cap=100.0) as bill:
        await engine.generate(ASK)
    assert bill.cost == 6.0
    with pytest.raises(BudgetExceededError, match="of this request"), door.admit("q2", None, ASK, cap=80.0):
        await engine.generate(ASK)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="amount of money"), door.admit("q3", None, ASK, cap=wrong):
            pass
    door.close()


def test_what_can_never_be_let_in_is_told_so() -> None:
    _, record = new_key("x", NOW, limits={"tokens_per_minute": 5})
    with pytest.raises(NotAllowedError), access().admit("q1", record, ASK):
        pass
    assert tokens_of(row("fine")) > 10


def test_a_budget_without_a_price_is_refused_at_the_start(tmp_path: Path) -> None:
    made(tmp_path / "keys", caps={"day": 1.0})
    priced = {"small": Price(1, 1), "strong": Price(1, 1)}
    Keyring(tmp_path / "keys", check=money_check(priced))
    with pytest.raises(ConfigError, match=r"\(x\) has a budget in money, but the tier 'strong' has no price"):
        Keyring(tmp_path / "keys", check=money_check({**priced, "strong": None}))
    with pytest.raises(ConfigError, match="a budget in USD, but the tier 'small' is paid in EUR"):
        Keyring(tmp_path / "keys", check=money_check({**priced, "small": Price(1, 1, "EUR")}))
    made(tmp_path / "free")
    Keyring(tmp_path / "free", check=money_check({"small": None}))


@pytest.mark.anyio
async def test_the_openai_client_meets_keys_rates_and_models(tmp_path: Path) -> None:
    limited, _ = made(tmp_path / "keys", limits={"requests_per_minute": 1, "tokens_per_minute": 5000})
    small, _ = made(tmp_path / "keys", models=("cascade:small",))
    keys = Keyring(tmp_path / "keys")

    def client(url: str, key: str) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)

    async with running(tmp_path, scripted_tiers(), keys=keys) as server:
        async with client(server.url, "sk-gl-none") as asked:
            with pytest.raises(AuthenticationError, match="not known"):
                await asked.models.list()
        async with client(server.url, limited) as asked:
            raw = asked.decisions.with_raw_response
            done = await raw.create(model="cascade", input="fine", questions=[MOOD_BODY])
            assert done.headers["x-ratelimit-remaining-requests"] == "0"
            assert 4000 < int(done.headers["x-ratelimit-remaining-tokens"]) < 5000
            with pytest.raises(RateLimitError) as caught:
                await raw.create(model="cascade", input="fine", questions=[MOOD_BODY])
            assert 0 < float(caught.value.response.headers["retry-after"]) <= 60
            assert caught.value.response.headers["x-ratelimit-limit-requests"] == "1"
        async with client(server.url, small) as asked:
            await asked.decisions.create(model="cascade:small", input="fine", questions=[MOOD_BODY])
            with pytest.raises(PermissionDeniedError, match="may not use the model 'cascade'"):
                await asked.decisions.create(model="cascade", input="fine", questions=[MOOD_BODY])
        kinds = {(group.key, group.kind): total for group, total in server.gateway.access.billing.ledger.totals.items()}
    assert {key[:12] for key, kind in kinds if kind == "answer"} == {k.split("-")[2] for k in (limited, small)}


@pytest.mark.anyio
async def test_money_ends_escalations_first_and_then_requests(tmp_path: Path) -> None:
    """Each tier at its own price, over HTTP: an escalation that the key cannot pay is not made; then nothing is."""
    tiers = scripted_tiers()
    prices = {"small": Price(1000.0, 1000.0), "strong": Price(1e6, 1e6)}
    plain = certified(tiers)
    records = tuple(tier.model_copy(update={"price": (prices[tier.name].input,) * 2}) for tier in plain.tiers)
    key, _ = made(tmp_path / "keys", caps={"total": 0.5})
    keys = Keyring(tmp_path / "keys", check=money_check(prices))
    found = seal(plain.model_copy(update={"tiers": records}))
    async with (
        running(tmp_path, tiers, found, keys=keys, live={"state": tmp_path / "live.json", "share": 0.0001}) as server,
        AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client,
    ):
        asked = {"model": "cascade", "input": "hard", "questions": [MOOD_BODY, FUN_BODY]}
        first = await client.decisions.create(**asked)
        refused = None
        while refused is None:
            try:
                await client.decisions.create(**asked)
            except APIStatusError as error:
                refused = error
        spent = server.gateway.access.budgets.spent(key.split("-")[2])
        totals = server.gateway.access.billing.ledger.totals
    assert (first.answers[0].choice, first.goldless["certified"]) == ("good", False)
    assert [(one["tier"], one.get("error")) for one in first.goldless["attempts"]] == [
        ("small", None),
        ("strong", "BudgetExceededError"),
    ]
    assert refused.status_code == 402
    assert "the budget in all of this API key is 0.5 USD" in str(refused)
    assert {group.tier for group in totals} == {"small"}
    assert spent.total == pytest.approx(sum(total.cost for total in totals.values()))
    assert 0 < spent.total <= 0.5
