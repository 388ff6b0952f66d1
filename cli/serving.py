"""Settings -> the gateway that they describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cascade.artifact import load
from cascade.gateway.access import Access, money_check
from cascade.gateway.billing import Billing
from cascade.gateway.budgets import Budgets
from cascade.gateway.gateway import Gateway
from cascade.gateway.keys import Keyring, may_listen
from cascade.gateway.ledger import Ledger, LedgerSettings, measure
from cascade.gateway.policy_life import PolicyLife
from cascade.gateway.settings import ServeSettings
from cascade.gateway.stack import cap_of, stacked
from cascade.gateway.tiers import TierPool
from cascade.gateway.upstreams import Upstreams
from cascade.policy import Policy, TierRecord
from cascade.traffic_writer import TrafficSettings, TrafficWriter
from cli.build import options_of, task_of, template_of
from cli.cascade_settings import TierSettings
from cli.settings import Settings
from curator.engines import connect
from curator.engines.base import Engine
from curator.errors import ConfigError
from curator.types import Template


@dataclass(frozen=True, slots=True)
class Serving:
    """A gateway, and what is to be closed after it."""

    gateway: Gateway
    writer: TrafficWriter | None

    async def aclose(self) -> None:
        """Write what is left, and close the tiers."""
        if self.writer is not None:
            self.writer.close()
        self.gateway.access.close()
        await self.gateway.pool.aclose()


def serving_of(settings: Settings, serve: ServeSettings, folder: Path, scrape: Callable[[], bytes] | None) -> Serving:
    """The gateway; `folder` is where a task's own module is looked for first. Nothing is loaded or listened on yet.

    Raises: ConfigError for a policy that cannot be used, tiers that are not its own or not known where, keys that
    cannot be read or held to, or an address that is open to anyone; MissingExtraError, WeightsError.
    """
    policy = load(serve.policy, key=serve.signed_by)
    tiers = {tier.name: tier for tier in settings.cascade.tiers}
    keys = None
    if serve.keys is not None:
        keys = Keyring(serve.keys, check=money_check({t.name: t.price_in(policy.currency) for t in policy.tiers}))
    may_listen(serve.host, keys, anyone=serve.open)
    ledger = Ledger(None if serve.ledger is None else LedgerSettings(folder=serve.ledger))
    measure(ledger)
    billing = Billing(ledger)
    _check_names(serve, policy)

    def open_tier(record: TierRecord, currency: str, last: bool) -> Upstreams:
        upstreams = _upstreams(record, serve, tiers.get(record.name))
        return stacked(upstreams, serve, record.name, price=record.price_in(currency), billing=billing, last=last)

    pool = TierPool(open_tier, uncertified=serve.uncertified, fallback=serve.fallback, cap=cap_of(serve))
    writer = _writer(serve)
    access = Access(billing, keys=keys, budgets=_budgets(serve), currency=policy.currency)
    life = PolicyLife(serve, pool.cascade, writer, keep=pool.keep)
    return Serving(Gateway(serve, life, pool, access, template=template(settings, folder), scrape=scrape), writer)


def resolved(serve: ServeSettings, folder: Path) -> ServeSettings:
    """The settings with paths that start at the settings' file."""
    paths = {
        name: folder / path
        for name in ("policy", "signed_by", "rollout", "keys", "ledger")
        if (path := getattr(serve, name)) is not None
    }
    live = serve.live.model_copy(update={"state": folder / serve.live.state})
    traffic = serve.traffic and serve.traffic.model_copy(update={"folder": folder / serve.traffic.folder})
    return serve.model_copy(update={**paths, "live": live, "traffic": traffic})


def template(settings: Settings, folder: Path) -> Template:
    """How questions are put: as the task's were when they were certified."""
    if settings.task is not None:
        return task_of(settings, folder).views[0].template
    return template_of(settings.template)


def _upstreams(record: TierRecord, serve: ServeSettings, known: TierSettings | None) -> Mapping[str, Engine]:
    """The engines of one tier by spec, the one that the policy knows first."""
    spec = serve.tiers.get(record.name) or (known.spec if known else "") or record.spec
    if not spec:
        raise ConfigError(
            f"the policy does not say where tier {record.name!r} is found",
            hint=f"--tier {record.name}=ENGINE, or [serve.tiers]",
        )
    options = options_of(known) if known else {}
    return {one: connect(one, price=None, **options) for one in (spec, *serve.replicas.get(record.name, ()))}


def _check_names(serve: ServeSettings, policy: Policy) -> None:
    names = [tier.name for tier in policy.tiers]
    if unknown := sorted({*serve.tiers, *serve.replicas} - set(names)):
        raise ConfigError(f"{unknown[0]!r} is no tier of {serve.policy}", hint=f"tiers: {', '.join(names)}")
    money = serve.resilience.escalation_money
    if money is not None and policy.tiers[-1].price is None:
        raise ConfigError(
            f"serve.resilience.escalation_money is a cap on money, but the tier {names[-1]!r} has no price",
            hint="certify with prices (`goldless certify --price`), or cap the share: escalation = 0.2",
        )


def _writer(serve: ServeSettings) -> TrafficWriter | None:
    if (found := serve.traffic) is None:
        return None
    settings = TrafficSettings(folder=found.folder, content=found.content, rows=found.rows, seconds=found.seconds)
    return TrafficWriter(settings)


def _budgets(serve: ServeSettings) -> Budgets:
    """Spending is remembered beside the keys that it is of."""
    return Budgets(None if serve.keys is None else serve.keys.with_name(serve.keys.name + ".spent"))
