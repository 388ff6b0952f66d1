"""GGUF files become safetensors folders, once: vLLM, transformers and training all read those."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from threading import RLock

from curator.errors import MissingExtraError, WeightsError

log = logging.getLogger(__name__)

_ONE_AT_A_TIME = RLock()


def convert(gguf: Path, folder: Path, *, dtype: str = "bfloat16") -> None:
    """Write the model and tokenizer of `gguf` into `folder` with dequantised weights.

    In a process of its own: dequantising takes some ten times the file's size in memory (measured:
    6.6 GB for half a billion parameters), which Python would not give back.

    Raises: MissingExtraError; WeightsError if the file is damaged, its architecture is unknown, or
    memory runs out.
    """
    command = [sys.executable, "-m", __name__, str(gguf), str(folder), dtype]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    kind, _, rest = done.stdout.strip().rpartition("\n")[2].partition("\t")
    message, _, hint = rest.partition("\t")
    if kind == MissingExtraError.__name__:
        raise MissingExtraError(message, hint=hint)
    if kind == WeightsError.__name__:
        raise WeightsError(message, hint=hint)
    killed = done.returncode == -signal.SIGKILL
    raise WeightsError(
        f"{gguf} could not be converted: {'killed' if killed else done.stderr.strip().rpartition(chr(10))[2]}",
        hint="out of memory? free some, or pass a safetensors folder" if killed else "check the file and the disk",
    )


def main(gguf: str, folder: str, dtype: str) -> int:
    """What the child process does; one line on stdout says what went wrong."""
    try:
        dequantise(Path(gguf), Path(folder), dtype=dtype)
    except (MissingExtraError, WeightsError) as error:
        sys.stdout.write(
            "\t".join(" ".join(part.split()) for part in (type(error).__name__, error.message, error.hint))
        )
        return 1
    return 0


def dequantise(gguf: Path, folder: Path, *, dtype: str) -> None:
    """`convert` in this process.

    Raises: as `convert`.
    """
    try:
        import gguf as _gguf  # noqa: F401  transformers reads GGUF through it
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(
            f"reading GGUF files needs {error.name}", hint="pip install 'goldless[local]'"
        ) from error
    log.info("converting %s to safetensors (once)", gguf.name)
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name, "local_files_only": True}
    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=getattr(torch, dtype))
            # Else the config says that the weights are quantised, and saving is refused.
            vars(model.config).pop("quantization_config", None)
            model.hf_quantizer = None
            model.save_pretrained(folder)
            AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    except Exception as error:  # gguf and transformers raise whatever comes: ValueError, KeyError, struct.error...
        if isinstance(error, OSError) and error.errno:
            raise  # the disk's fault, not the file's
        raise WeightsError(
            f"{gguf} cannot be read as a GGUF model: {error}", hint="check the file, or pass a safetensors folder"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the terminal; one thread at a time.

    Two that overlap would put back each other's streams, and stderr would stay silent for good.
    """
    from transformers.utils import logging as noise

    with _ONE_AT_A_TIME:
        level = noise.get_verbosity()
        noise.set_verbosity_error()
        noise.disable_progress_bar()
        try:
            # Some bars are tqdm's own and can only be kept off by their stream.
            with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        finally:
            noise.set_verbosity(level)
            noise.enable_progress_bar()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
