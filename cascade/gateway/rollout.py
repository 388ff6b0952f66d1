"""The file that says which other policy is tried beside the one that serves, and how far that is.

    policy = "next.json"
    stage = "canary"      # shadow: only judged; canary: serves a share of the requests; serve: serves all of them
    share = 0.1

Without the file, or with stage = "off", nothing is tried.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curator.errors import ConfigError

Stage = Literal["off", "shadow", "canary", "serve"]
_WORDS: Final = 2**64


class Rollout(BaseModel):
    """What the file says. `policy` is looked for beside the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Path
    stage: Stage = "shadow"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1


def read_rollout(path: Path) -> Rollout | None:
    """What `path` says; None where there is no such file, or nothing is tried.

    Raises: ConfigError naming the setting.
    """
    try:
        found = Rollout.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the rollout {path} cannot be read: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{path}: {where}: {first['msg']}", hint='policy = "next.json", stage = "shadow", share = 0.1'
        ) from None
    return None if found.stage == "off" else found.model_copy(update={"policy": path.parent / found.policy})


def falls_in(request_id: str, share: float) -> bool:
    """Whether a request is one of the `share` that a canary serves: the same ids always are."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * _WORDS
