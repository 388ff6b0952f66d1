"""The model card: a README.md that says what a trained model is, and how to use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from curator.engines.known import KNOWN, by_hub
from curator.types import Json, JsonObject


def licence(base: str) -> str:
    """The licence of a base model; empty where it is not known."""
    name = base.removeprefix("wheel:") if base.startswith("wheel:") else by_hub(base.partition("@")[0])
    return KNOWN[name].license if name in KNOWN else ""


def display(base: str) -> str:
    """A base model as others may know it: a folder or file by its name, without where it lies on this machine."""
    path = Path(base).expanduser()
    return path.name if path.exists() else base


def card(name: str, record: JsonObject) -> str:
    """The card of a trained model; `record` is its `training.json`. `merged` in it is the dtype of merged weights."""
    return "\n".join(_card(name, record)) + "\n"


def _card(name: str, record: JsonObject) -> Iterator[str]:
    base = display(str(record["base"]))
    settings, report = _object(record["settings"]), _object(record["report"])
    known = licence(str(record["base"]))
    adapter = settings.get("method") != "full" and not record.get("merged")
    yield from (
        "---",
        f"license: {known or 'other'}",
        f"base_model: {base}",
        f"tags: [goldless, {record['kind']}]",
        "---",
        "",
    )
    what = "A LoRA adapter for" if adapter else "A fine-tuned copy of"
    data = "weak labels" if record["kind"] == "sft" else "preference pairs of models' own answers"
    yield from (f"# {name}", "", f"{what} {base}, trained by goldless on {data}: no gold label was used.", "")
    yield from _table(
        "Made from",
        {
            "base": f"{base} (revision {record['revision']})",
            "licence of the base": known or "not known: see the base model",
            "dataset": f"version {record['dataset_version']}, hash {record['dataset_hash']}",
            "task": f"{record['task']}: {record['instruction']}",
            **({"merged weights": record["merged"]} if record.get("merged") else {}),
        },
    )
    yield from _table("Settings", settings)
    yield from _table(f"Metrics (on {data} that were held out)", report)
    yield from ("## How to load", "", "```python", "from curator import connect", "")
    where = f'connect("transformers:{base}", adapter="{name}")' if adapter else f'connect("transformers:{name}")'
    yield from (f"engine = {where}  # or vllm:", "```")


def _table(title: str, values: JsonObject) -> Iterator[str]:
    yield from (f"## {title}", "", "| | |", "|---|---|")
    yield from (f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in values.items() if _is_plain(value))
    yield ""


def _is_plain(value: Json) -> bool:
    """Whether a value fits a cell: there is one, and it is neither a table nor a list of them."""
    return value is not None and not isinstance(value, dict | list)


def _shown(value: Json) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}
