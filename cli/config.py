"""The only reader of goldless.toml and of the environment."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from cli.settings import Settings
from curator.errors import ConfigError

__all__ = ["Exporters", "Settings", "hub_address", "read_settings", "secret", "state_folder", "telemetry_exporters"]

Location = tuple[int | str, ...]
_KEY = r"(?:\"[^\"]*\"|'[^']*'|[A-Za-z0-9_-]+)"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*=(.*)")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def read_settings(path: Path) -> Settings:
    """The settings in a file.

    Raises: ConfigError naming the line and the setting, and the right name of an unknown one.
    """
    text = _read(path)
    try:
        return Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint="strings need quotes") from None
    except ValidationError as error:
        lines = line_numbers(text)
        problems = [_problem(path, details, lines) for details in _distinct(error.errors(), lines)]
        raise ConfigError("\n".join(message for message, _ in problems), hint=problems[0][1]) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint="`goldless init` writes one") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def line_numbers(text: str) -> dict[Location, int]:
    """Path of every table and key of a TOML text -> the line it stands on, counted from 1."""
    found: dict[Location, int] = {}
    table: Location = ()
    counts: dict[Location, int] = {}
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not inside and (header := _HEADER.match(line)):
            table = _parts(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            found.setdefault(table, number)
        elif not inside and (assignment := _ASSIGNMENT.match(line)):
            found.setdefault((*table, *_parts(assignment[1])), number)
        inside = _open_string(line, inside)
    return found


def _parts(dotted: str) -> Location:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, dotted))


def _open_string(line: str, inside: str) -> str:
    """The quotes of a multi-line string that is still open after `line`."""
    for quotes in re.findall(r'"""|\'\'\'', line):
        inside = "" if quotes == inside else inside or quotes
    return inside


def _distinct(errors: Sequence[ErrorDetails], lines: Mapping[Location, int]) -> list[ErrorDetails]:
    """One error per setting: a union reports each of its branches."""
    first: dict[Location, ErrorDetails] = {}
    for details in errors:
        first.setdefault(_known(details["loc"], lines), details)
    return list(first.values())


def _known(location: Location, lines: Mapping[Location, int]) -> Location:
    """The longest beginning of `location` that the file has."""
    return next((location[:n] for n in range(len(location), 0, -1) if location[:n] in lines), location)


def _problem(path: Path, details: ErrorDetails, lines: Mapping[Location, int]) -> tuple[str, str]:
    location = _known(details["loc"], lines) if details["type"] != "missing" else details["loc"]
    number = lines.get(_known(location, lines))
    where = f"{path} line {number}" if number else str(path)
    name = ".".join(map(str, location))
    match details["type"]:
        case "extra_forbidden":
            return f"{where}: unknown setting {name!r}", _suggestion(details["loc"])
        case "missing":
            return f"{where}: the setting {name!r} is missing", ""
        case "value_error":
            return f"{where}: {name or 'the file'}: {details['msg'].removeprefix('Value error, ')}", ""
        case _:
            return f"{where}: {name!r}: {details['msg'][0].lower()}{details['msg'][1:]}", ""


def _suggestion(location: Location) -> str:
    key = str(location[-1])
    model = _model_at(location[:-1])
    names = sorted(model.model_fields) if model else []
    if close := difflib.get_close_matches(key, names, n=1, cutoff=0.5):
        return f"did you mean {close[0]!r}?"
    for table, field in Settings.model_fields.items():
        inner = _model_of(field.annotation)
        if inner and key in inner.model_fields:
            return f"{key!r} belongs to [{table}]"
    return f"known here: {', '.join(names)}"


def _model_at(location: Location) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Settings
    for part in location:
        if model and part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
            model = _model_of(annotation)
    return model


def _model_of(annotation: object) -> type[BaseModel] | None:
    """The model inside an optional, a list or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_of(part))), None)


def secret(value: SecretStr | None) -> str | None:
    """An API key, with `${NAME}` taken from the environment.

    Raises: ConfigError if the variable is not set.
    """
    if value is None:
        return None
    text = value.get_secret_value()
    if not (variable := _VARIABLE.fullmatch(text)):
        return text
    found = os.environ.get(variable[1], "")
    if not found:
        raise ConfigError(
            f"engine.api_key is ${{{variable[1]}}}, and that variable is not set",
            hint=f"export {variable[1]}=..., or remove api_key for a server that needs none",
        )
    return found


def state_folder() -> Path:
    """Where crash reports go: `$XDG_STATE_HOME/goldless`, by default ~/.local/state/goldless."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base else Path.home() / ".local" / "state") / "goldless"


def hub_address() -> str:
    """Where models are looked up: `$HF_ENDPOINT`, by default the Hugging Face hub."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class Exporters:
    """Names of the OpenTelemetry exporters that the environment asks for, and the service name to
    use where it gives none ("" where it does)."""

    traces: tuple[str, ...]
    metrics: tuple[str, ...]
    service: str


def telemetry_exporters() -> Exporters | None:
    """What `OTEL_*` asks for; None where it asks for nothing, or where the SDK is switched off.

    `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` name exporters; an OTLP endpoint alone means
    `otlp`. Everything else (headers, sampler, intervals, resource) the SDK reads by itself.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    traces, metrics = _exporter_names("TRACES"), _exporter_names("METRICS")
    if not traces and not metrics:
        return None
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Exporters(traces, metrics, "" if named else "goldless")


def _exporter_names(signal: str) -> tuple[str, ...]:
    names = os.environ.get(f"OTEL_{signal}_EXPORTER", "")
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    if not names and any(os.environ.get(name) for name in endpoints):
        names = "otlp"
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    # The extra brings OTLP over HTTP only; gRPC works where its exporter is installed.
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    chosen = [name.strip() for name in names.split(",") if name.strip() not in ("", "none")]
    return tuple(otlp if name == "otlp" else name for name in chosen)
