"""The folder that a trained model is written to."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curator.engines.adapters import RECORD
from curator.engines.cache import sha256_of
from curator.errors import InputError, MissingExtraError, WeightsError


def missing_extra(error: ImportError) -> MissingExtraError:
    """What to say when training's libraries are not there."""
    return MissingExtraError(
        f"training needs {error.name}, which is not installed", hint="pip install 'goldless[train]'"
    )


def check_empty(folder: Path) -> None:
    """Raises: InputError if there is something in `folder`, which would be mixed up with a model's files."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty", hint="choose a folder that does not exist yet")


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A place to write a model's files in. They move into `folder` when the block ends, the record last, so that
    a folder with a record is complete.

    Raises: WeightsError for a full or read-only disk.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-", ignore_cleanup_errors=True) as name:
            yield Path(name)
            for path in sorted(Path(name).iterdir(), key=lambda path: path.name == RECORD):
                os.replace(path, folder / path.name)
    except OSError as error:
        raise WeightsError(f"cannot write to {folder}: {error}", hint="free some space, or choose another") from error


def tidy_adapter(folder: Path, base: str) -> None:
    """Say in peft's config what the base is called instead of where it lay on this machine, and name the layers
    by their kind, sorted: peft lists every one, in an order that changes from run to run."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    config["target_modules"] = sorted({name.rpartition(".")[2] for name in config["target_modules"]})
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def weights_sha256(folder: Path) -> str:
    """Hex sha256 of a model's weights: of the file, or where there are several of their names and sums.

    Raises: WeightsError if there are none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise WeightsError(f"{folder} holds no *.safetensors weights", hint="train it again")
    if len(files) == 1:
        return sha256_of(files[0])
    return hashlib.sha256("".join(f"{path.name} {sha256_of(path)}\n" for path in files).encode()).hexdigest()
