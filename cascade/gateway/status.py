"""The gateway's state, for people and scripts."""

from __future__ import annotations

from cascade.gateway.gateway import Gateway
from cascade.gateway.policy_life import Candidate
from cascade.gateway.replica import ReplicaHealth
from cascade.live import LiveRisk
from cascade.observer import Observer
from cascade.wire.extras import certificate_block
from curator.types import Json, JsonObject


def told(gateway: Gateway) -> JsonObject:
    """Everything that may be said; nothing that a client sent."""
    life, (able, ready) = gateway.life, gateway.ready()
    candidate = life.candidate
    return {
        "ready": able,
        **ready,
        "requests": {
            "in_flight": gateway.admission.in_flight,
            "waiting": gateway.admission.waiting,
            "shed": gateway.admission.shed,
        },
        "upstreams": {
            name: [_upstream(one) for one in stack.replicas.health] for name, stack in gateway.stacks.items()
        },
        "policy": _policy(life.main),
        "candidate": None if candidate is None else _candidate(candidate),
        "problems": dict(life.problems),
        "background": {
            "audits": {"running": len(life.audits), "dropped": life.audits.dropped},
            "rehearsals": {"running": len(life.rehearsals), "dropped": life.rehearsals.dropped},
        },
    }


def _upstream(found: ReplicaHealth) -> JsonObject:
    return {
        "name": found.name,
        "breaker": str(found.state),
        "in_flight": found.in_flight,
        "latency": found.latency,
        "calls": found.calls,
        "failures": found.failures,
        "last_error": found.last_error,
    }


def _policy(observer: Observer) -> JsonObject:
    policy = observer.policy
    questions: list[Json] = [
        {
            "name": entry.name,
            "fingerprint": entry.fingerprint,
            **certificate_block(entry.certificate),
            "live": _live(observer.live.get(entry.fingerprint)),
        }
        for entry in policy.questions
    ]
    return {
        "checksum": policy.checksum,
        "expires": None if policy.expires is None else policy.expires.isoformat(),
        "tiers": [tier.name for tier in policy.tiers],
        "questions": questions,
    }


def _live(live: LiveRisk | None) -> Json:
    if live is None:
        return None
    found = live.estimate()
    return {
        "risk": found.risk,
        "low": found.low,
        "high": found.high,
        "queries": found.queries,
        "audits": found.audits,
        "lost": found.lost,
        "level": live.level,
        "failed_safe": live.failed_safe,
        "alarms": len(live.alarms),
    }


def _candidate(found: Candidate) -> JsonObject:
    return {
        "stage": found.rollout.stage,
        "share": found.rollout.share,
        **_policy(found.observer),
        "rehearsed": found.rehearsal.told,
    }
