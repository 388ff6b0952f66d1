"""Policies as files: sealed with a checksum, signed if wanted, and refused where they must not be used.

The checksum is the SHA-256 of the canonical JSON (sorted keys, no spaces) of all but the checksum and the signature; it
tells accidents. The signature is Ed25519 over the same bytes; it tells who made the policy.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from pydantic import ValidationError

from cascade.policy import VERSION, Policy
from curator.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

AGAIN = "certify again: `goldless certify`"
MAKE_KEY = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub"


def canonical(policy: Policy) -> bytes:
    """What is checked and signed."""
    content = policy.model_dump(mode="json", exclude={"checksum", "signature"})
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def seal(policy: Policy, key: Path | None = None) -> Policy:
    """The policy with its checksum, and signed with the private key in the PEM file `key` if there is one.

    Raises: ConfigError for a file that holds no Ed25519 key; MissingExtraError.
    """
    content = canonical(policy)
    signature = None if key is None else base64.b64encode(signing_key(key).sign(content)).decode()
    return policy.model_copy(update={"checksum": _checksum(content), "signature": signature})


def save(policy: Policy, path: Path) -> None:
    """Write a sealed policy; a file that is there is replaced at once or not at all.

    Raises: ConfigError for a policy without its checksum, or a file that cannot be written.
    """
    if policy.checksum != _checksum(canonical(policy)):
        raise ConfigError("the policy was changed after it was sealed, or never was", hint="seal it, then save it")
    content = orjson.dumps(policy.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ConfigError(f"the policy cannot be written to {path}: {error.strerror}") from None


def load(path: Path, *, key: Path | None = None, now: datetime | None = None) -> Policy:
    """The policy in a file, checked. With `key`, the PEM file of a public key, only if that key's owner signed it.

    Raises: ConfigError for a file that is no policy, of a newer version, changed, not signed by that key, or expired;
    MissingExtraError.
    """
    policy = _parsed(path)
    content = canonical(policy)
    if policy.checksum != _checksum(content):
        raise ConfigError(
            f"{path} was changed after it was made: its checksum is wrong", hint=f"restore it, or {AGAIN}"
        )
    if key is not None:
        _verify(policy, content, key, path)
    if policy.expires is not None and policy.expires <= (now or datetime.now(UTC)):
        raise ConfigError(f"{path} expired on {policy.expires:%Y-%m-%d}", hint=f"traffic changes; {AGAIN}")
    return policy


def check(policy: Policy, tiers: Mapping[str, str], questions: Mapping[str, str]) -> None:
    """Refuse a policy that was made for other models or questions than these. `tiers` maps a tier's name to who it is
    (`curator.engines.base.identity_text`), the cheapest first; `questions` a question's name to its fingerprint.

    Raises: ConfigError naming the tier or the question.
    """
    known = {tier.name: tier.identity for tier in policy.tiers}
    if list(known) != list(tiers):
        raise ConfigError(
            f"the policy is for the tiers {', '.join(known)}, these are {', '.join(tiers) or 'none'}",
            hint=f"name them alike and in this order, the cheapest first, or {AGAIN}",
        )
    for name, identity in tiers.items():
        if known[name] != identity:
            raise ConfigError(
                f"tier {name} is {identity}, the policy is for {known[name]}",
                hint=f"use that model, or {AGAIN}",
            )
    certified = {question.name: question.fingerprint for question in policy.questions}
    for name, fingerprint in questions.items():
        if name not in certified:
            raise ConfigError(f"the policy has no question {name!r}", hint=f"it has {', '.join(certified)}; {AGAIN}")
        if certified[name] != fingerprint:
            raise ConfigError(
                f"question {name!r} is not asked as it was certified",
                hint=f"its instructions, options and their order, template and examples must be the same; {AGAIN}",
            )


def _checksum(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _parsed(path: Path) -> Policy:
    try:
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        hint = f"name another file, or make it: `goldless certify --out {path}`"
        raise ConfigError(f"the policy {path} cannot be read: {error.strerror}", hint=hint) from None
    except orjson.JSONDecodeError as error:
        hint = f"name the file that `goldless certify` wrote, or {AGAIN}"
        raise ConfigError(f"{path} is no policy: {error}", hint=hint) from None
    version = found.get("version") if isinstance(found, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise ConfigError(
            f"{path} has version {version} of the format, this goldless knows {VERSION}",
            hint=f"pip install -U goldless, or {AGAIN}",
        )
    try:
        return Policy.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path} is no policy: {where}: {first['msg']}", hint=AGAIN) from None


def _verify(policy: Policy, content: bytes, key: Path, path: Path) -> None:
    if policy.signature is None:
        raise ConfigError(f"{path} is not signed", hint="goldless certify --sign key.pem")
    public = _public(key)
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(base64.b64decode(policy.signature), content)
    except (InvalidSignature, ValueError):
        raise ConfigError(
            f"{path} was not signed by the owner of {key}, or was changed since", hint="ask who made it, or " + AGAIN
        ) from None


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file. Raises: ConfigError if it holds no Ed25519 key; MissingExtraError."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise _missing(error) from error
    key = _read(path, lambda pem: load_pem_private_key(pem, None), "private key without a password")
    if not isinstance(key, Ed25519PrivateKey):
        raise _other_kind(path)
    return key


def _public(path: Path) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise _missing(error) from error
    key = _read(path, load_pem_public_key, "public key")
    if not isinstance(key, Ed25519PublicKey):
        raise _other_kind(path)
    return key


def _read(path: Path, read: Callable[[bytes], object], what: str) -> object:
    try:
        return read(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"the key {path} cannot be read: {error.strerror}", hint=MAKE_KEY) from None
    except (ValueError, TypeError):
        raise ConfigError(f"{path} holds no {what}", hint=MAKE_KEY) from None


def _other_kind(path: Path) -> ConfigError:
    return ConfigError(f"the key in {path} is no Ed25519 key", hint=MAKE_KEY)


def _missing(error: ImportError) -> MissingExtraError:
    return MissingExtraError(
        f"signing needs {error.name or error}", hint="pip install 'goldless[sign]', or leave the signature out"
    )
