"""Fine-tunes a tiny encoder, and kills itself (-9) after a checkpoint.

Run by test_train_classifier.py: python killed_tuning.py <encoder> <folder> <method> <checkpoint at which it dies>
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from head_builders import FIELDS, TEXTS, tiny_settings

from curator.training import tune_state
from curator.training.classifier import train_classifier


class Deadly(tune_state.Checkpoints):
    """Dies once it has written as many checkpoints as it was told."""

    written = 0

    def save(self, checkpoint: tune_state.Checkpoint) -> None:
        super().save(checkpoint)
        Deadly.written += 1
        if Deadly.written == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    from curator.training import finetune

    finetune.Checkpoints = Deadly  # type: ignore[misc]
    encoder, folder, method = sys.argv[1:4]
    train_classifier(TEXTS, FIELDS, Path(folder), encoder, tiny_settings(method))


if __name__ == "__main__":
    main()
