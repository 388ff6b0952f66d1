"""LoRA on an encoder, and the tuned part of a classifier on disk."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from curator.engines.encoder import Encoder
from curator.engines.torch_model import extra
from curator.engines.weights import fingerprint
from curator.errors import TrainingError


def add_lora(encoder: Encoder, rank: int) -> None:
    """Put a fresh adapter on every linear layer of the encoder; only the adapter is trained from then on.

    Raises: MissingExtraError without peft.
    """
    peft = extra("peft", "tuning with LoRA")
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
    encoder.model = peft.get_peft_model(encoder.model, config).eval()
    # Else the adapter would name a folder of this machine.
    encoder.model.peft_config["default"].base_model_name_or_path = encoder.identity.weights  # type: ignore[attr-defined]


def save_part(encoder: Encoder, target: Path) -> str:
    """Write what was tuned to the folder `target`, in place of what lay there; returns its fingerprint.

    Raises: TrainingError for a full or read-only disk.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-", ignore_cleanup_errors=True) as name:
            encoder.save(Path(name) / target.name)
            shutil.rmtree(target, ignore_errors=True)
            (Path(name) / target.name).replace(target)
    except OSError as error:
        raise TrainingError(f"cannot write {target}: {error}", hint="free some space") from error
    return fingerprint(target)
