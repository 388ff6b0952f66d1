"""An adapter and its base as one safetensors model, which every engine loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from curator.engines.adapters import RECORD, check_adapter, record_of
from curator.engines.weights import STAMP, resolve
from curator.errors import ConfigError
from curator.training.card import card
from curator.training.outputs import check_empty, filling, missing_extra

if TYPE_CHECKING:
    from curator.engines.torch_model import CausalModel

_TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.jinja",
    "*.model",
)


def merge(adapter: str | Path, folder: str | Path, *, base: str | None = None, dtype: str | None = None) -> Path:
    """Write `adapter` merged into its base as a model folder; returns the folder.

    `base` is where the base's weights come from (default: what the adapter was trained on), `dtype` that of the
    merged weights (default: the base's own). The sum is made in float32.
    Raises: ConfigError without a base; InputError if the folder holds something else; WeightsError if the adapter
    does not fit; MissingExtraError.
    """
    adapter, folder = Path(adapter).expanduser(), Path(folder).expanduser()
    record = record_of(adapter)
    if (spec := base or record.get("base")) is None:
        raise ConfigError(f"{adapter} does not say what it was trained on", hint="pass base=, such as org/model")
    weights = resolve(str(spec))
    check_adapter(adapter, weights)
    check_empty(folder)
    found = dtype or _own_dtype(weights.path)
    model = _merged(weights.path, adapter, found)
    with filling(folder) as place:
        model.save_pretrained(place)
        copy_tokenizer(weights.path, place)
        if record:
            noted = {**record, "merged": found}
            (place / RECORD).write_text(json.dumps(noted, indent=2))
            (place / "README.md").write_text(card(folder.name, noted), encoding="utf-8")
    return folder


def _merged(base: Path, adapter: Path, dtype: str) -> CausalModel:
    try:
        import torch

        from curator.engines.torch_model import put_on, read_model, torch_dtype
    except ImportError as error:
        raise missing_extra(error) from error
    wanted = torch_dtype(dtype)
    model = put_on(adapter, read_model(base, torch.float32))
    return model.merge_and_unload().to(wanted)


def copy_tokenizer(source: Path, target: Path) -> None:
    """The tokenizer's files as they are: reading and writing them anew may change them."""
    for path in {path for pattern in _TOKENIZER for path in source.glob(pattern)}:
        if path.name != STAMP and not path.name.endswith(".safetensors"):
            shutil.copyfile(path, target / path.name)


def _own_dtype(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")
