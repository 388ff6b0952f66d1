"""`goldless certify`: a policy for a cascade, from unlabeled traffic or the store's documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.failures import Exit
from cli.session import Session, command
from curator.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cascade.policy import Certificate, Policy
    from cli.cascade_settings import CascadeSettings
    from cli.certification import Basis, Certification
    from cli.output import Output
    from curator.task import Task


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "certify",
        example="goldless certify\ngoldless certify --traffic queries.jsonl --alpha 0.02 --out policy.json\n"
        "goldless certify --draw 100 --sheet sheet.csv\ngoldless certify --sheet sheet.csv\n"
        "goldless certify --tier small=head:models/tone --tier large=http://localhost:8000/v1#large "
        "--price small=0.01,0.01 --price large=1,3",
    )(certify)


def certify(
    session: Session,
    tier: Annotated[
        list[str] | None,
        typer.Option("--tier", metavar="NAME=ENGINE", help="A tier, the cheapest first; the last is the teacher."),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option("--price", metavar="NAME=IN,OUT", help="A tier's price per million input and output tokens."),
    ] = None,
    traffic: Annotated[
        str | None, typer.Option("--traffic", help="Unlabeled queries to sample, instead of the store's documents.")
    ] = None,
    audits: Annotated[
        bool, typer.Option("--audits", help="Certify against the truth, with the store's audited documents.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Certify against the truth, with a sheet that people filled in.")
    ] = None,
    draw: Annotated[
        int | None, typer.Option("--draw", min=1, help="Write --sheet, with so many documents for people to check.")
    ] = None,
    sample: Annotated[int | None, typer.Option("--sample", "-n", min=2, help="Documents to ask about.")] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", min=0.0001, max=0.9999, help="The risk allowed.")] = None,
    gate: Annotated[bool, typer.Option("--gate/--no-gate", help="Whether to ask again with changed requests.")] = True,
    sign: Annotated[Path | None, typer.Option("--sign", help="Sign with this Ed25519 private key (PEM).")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the policy.")] = Path("policy.json"),
) -> None:
    """Find out which answers of cheap models can be served in place of the last one's, and how sure that is.

    All tiers answer the same sample; nothing is sent that was answered before. Half of it chooses thresholds, the
    other half tests them, so that with confidence 1 - delta at most the share alpha of the served answers differs from
    the last tier's. No label is needed. Exits with 3 unless every question passes; those that do not go to the last
    tier. The settings are in [cascade].

    Against the truth: --draw writes a sheet with the documents that tell most, people fill it in from the top, and
    --sheet alone certifies with what they found. Sampled fields are one prompt, certified against the last tier only.
    """
    from cascade.artifact import save, seal, signing_key
    from cli.certification import Certification

    if sign is not None:
        signing_key(sign)
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder for {out}", hint="make it first, or name another file with --out")
    basis = _basis(audits, sheet, draw)
    task = _asked(session, basis)
    settings = _settings(session, tier, price, {"sample": sample, "alpha": alpha})
    _not_its_own_tier(settings, out)
    job = Certification(session, task, settings, gate, traffic, basis, sheet or Path())
    if draw is not None:
        _draw(session, job, draw)
        return
    with session.out.guarded():
        policy = seal(job.run(), sign)
    save(policy, out)
    _show(session.out, policy, out)
    if any(question.certificate.verdict != "PASS" for question in policy.questions):
        raise typer.Exit(Exit.PARTIAL)


def _basis(audits: bool, sheet: Path | None, draw: int | None) -> Basis:
    """What to certify against. Raises: InputError for options that do not go together."""
    if draw is not None and sheet is None:
        raise InputError("which sheet is to be written?", hint="--draw 100 --sheet sheet.csv")
    if sheet is not None and draw is not None and sheet.exists():
        raise InputError(f"{sheet} is there already", hint="it may hold answers; name another file")
    if audits and sheet is not None:
        raise InputError(
            "--audits are a uniform draw, a sheet is a weighted one: they do not mix", hint="leave one of them out"
        )
    return "audits" if audits else "sheet" if sheet is not None else "teacher"


def _asked(session: Session, basis: Basis) -> Task[BaseModel]:
    """The task as a cascade asks it: in one way. Says what is certified, where that is not all, or not field by field.

    Raises: InputError for sampled fields whose answers cannot be compared.
    """
    from cli.tier_texts import check_sampled

    task = session.task()
    task = replace(task, views=(replace(task.views[0], order=0),))
    closed, sampled = (", ".join(item.name for item in fields) for fields in (task.closed, task.sampled))
    if not sampled:
        return task
    check_sampled(task)
    if basis == "teacher":
        each = f"certified are {closed} each, and " if closed else "certified is "
        session.out.say(f"{each}the prompt for {sampled} as one question, 'text', by its first sample")
        return task
    if not closed:
        raise InputError(f"only closed fields are checked by people; {sampled} is sampled", hint="leave --audits out")
    session.out.complain(f"{sampled} is left out: only closed fields are checked by people")
    return replace(task, output=_closed_part(task))


def _closed_part(task: Task[BaseModel]) -> type[BaseModel]:
    """The task's model without its sampled fields: the questions are the same."""
    from pydantic import create_model

    known = task.output.model_fields
    kept: dict[str, Any] = {item.name: (known[item.name].annotation, known[item.name]) for item in task.closed}
    return create_model(task.output.__name__, **kept)


def _draw(session: Session, job: Certification, count: int) -> None:
    """Write the sheet, and say what to do with it."""
    with session.out.guarded():
        rows = job.draw(count)
    session.out.facts({"rows": rows, "path": str(job.sheet)}, title="To check")
    for field in job.task.closed:
        session.out.say(f"fill in {field.name}: {', '.join(field.question.labels)}")
    session.out.say(f"from the top, leaving none out; then: goldless certify --sheet {job.sheet}")


def _settings(
    session: Session, tiers: Sequence[str] | None, prices: Sequence[str] | None, given: Mapping[str, object]
) -> CascadeSettings:
    """The settings with what the command line says instead. Raises: ConfigError"""
    from cli.cascade_settings import TierSettings

    settings = session.settings.cascade
    found = {tier.name: tier for tier in settings.tiers}
    if tiers:
        found = {name: TierSettings(name=name, spec=spec) for name, spec in (_pair(one, "--tier") for one in tiers)}
    for name, written in (_pair(one, "--price") for one in prices or []):
        if name not in found:
            raise ConfigError(f"--price names {name!r}, which is no tier", hint=f"tiers: {', '.join(found) or 'none'}")
        found[name] = found[name].model_copy(update=_price(name, written))
    if len(found) < 2 or len(found) < len(tiers or ()):
        raise ConfigError(
            "a cascade needs two tiers or more, with different names",
            hint="--tier small=ENGINE --tier large=ENGINE, or [[cascade.tiers]] twice in the settings",
        )
    if len({tier.currency for tier in found.values()}) > 1:
        raise ConfigError("the tiers' prices are in different currencies", hint="convert them to one")
    said = {name: value for name, value in given.items() if value is not None}
    return settings.model_copy(update={"tiers": list(found.values()), **said})


def _not_its_own_tier(settings: CascadeSettings, out: Path) -> None:
    """Raises: ConfigError where the new policy would replace that of one of its tiers."""
    from cascade.opening import CascadeSpec, is_cascade

    for tier in settings.tiers:
        if is_cascade(tier.spec) and CascadeSpec.read(tier.spec).policy.resolve() == out.resolve():
            raise ConfigError(f"{out} is the policy of the tier {tier.name}", hint="name another file with --out")


def _pair(written: str, option: str) -> tuple[str, str]:
    name, equals, value = written.partition("=")
    if not (name and equals and value):
        raise ConfigError(f"{option} {written!r} is not NAME=...", hint=f"{option} small=...")
    return name, value


def _price(name: str, written: str) -> dict[str, object]:
    try:
        given, answered = (float(part) for part in written.split(","))
    except ValueError:
        given = answered = -1.0
    if not (0 <= given < float("inf") and 0 <= answered < float("inf")):
        raise ConfigError(f"--price {name}={written} is not IN,OUT", hint=f"--price {name}=0.15,0.6 per million tokens")
    return {"price_input": given, "price_output": answered}


def _show(out: Output, policy: Policy, path: Path) -> None:
    """One row per question, with what is certified of it."""
    if out.json:
        return out.emit({"path": str(path), **policy.model_dump(mode="json")})
    names = [tier.name for tier in policy.tiers]
    head = (
        "question",
        "verdict",
        "alpha",
        "delta",
        "rows",
        "risk",
        "bound",
        "served",
        "cost",
        "alone",
        "seconds",
        "seconds_alone",
    )
    rows = [_row(question.name, question.certificate, names) for question in policy.questions]
    out.rows(head, rows, title=f"Certificates {policy.questions[0].certificate.basis}; cost per 1,000")
    for question in policy.questions:
        out.text(f"- {question.name}: {question.certificate.reason}")
        for note in question.certificate.notes:
            out.text(f"  {note}")
    out.say(f"\nthe policy is in {path}; it expires on {policy.expires:%Y-%m-%d}")
    return None


def _row(name: str, found: Certificate, tiers: Sequence[str]) -> dict[str, object]:
    shares = ", ".join(f"{tier} {share:.0%}" for tier, share in zip(tiers, found.shares, strict=True))
    per_thousand = [None if value is None else value * 1000 for value in (found.cost, found.baseline_cost)]
    return {
        "question": name,
        "verdict": str(found.verdict),
        "alpha": found.alpha,
        "delta": found.delta,
        "rows": found.rows,
        "risk": found.risk,
        "bound": found.bound,
        "served": shares,
        "cost": per_thousand[0],
        "alone": per_thousand[1],
        "seconds": found.latency,
        "seconds_alone": found.baseline_latency,
    }
