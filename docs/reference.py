"""The generated parts of docs/cli.md: the commands from the app, the settings from their models.

    python docs/reference.py

writes them anew; `tests/test_docs.py` fails when they are out of date.
"""

from __future__ import annotations

import enum
import inspect
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from cli.main import ORDER, app
from cli.project import settings_text
from cli.session import SHARED
from cli.settings import FieldSettings, Settings

PAGE = Path(__file__).with_name("cli.md")
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end of generated -->)", re.DOTALL)


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def renewed(text: str) -> str:
    """The page with its generated parts as they should be."""
    parts = {"commands": commands, "file": settings_file, "settings": settings}
    return _PART.sub(lambda found: f"{found[1]}\n{parts[found[2]]()}\n\n{found[3]}", text)


def commands() -> str:
    """One section per command, and one table of the options that many share."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    sections = [_command(f"goldless {name}", command) for name, command in _leaves(root)]
    return "\n\n".join([*sections, _shared(root)])


def _leaves(root: TyperGroup) -> Iterator[tuple[str, TyperCommand]]:
    """Commands in the order of a person's needs; those of a group under the group's name."""
    names = [*ORDER, *sorted(set(root.commands) - set(ORDER))]
    for name in names:
        command = root.commands[name]
        leaves = (
            {f"{name} {inner}": leaf for inner, leaf in command.commands.items()}
            if isinstance(command, TyperGroup)
            else {name: command}
        )
        for title, leaf in leaves.items():
            assert isinstance(leaf, TyperCommand)
            yield title, leaf


def _command(name: str, command: TyperCommand) -> str:
    arguments = [_argument(param) for param in command.params if isinstance(param, TyperArgument)]
    lines = [f"### `{' '.join([name, *arguments])}`", "", inspect.cleandoc(command.help or "")]
    rows = [(_names(param), _default(param), param.help or "") for param in command.params if param.name not in SHARED]
    if rows:
        lines += ["", _table(("argument or option", "default", "meaning"), rows)]
    taken = [f"`--{param.name}`" for param in command.params if param.name in ("config", "store", "json")]
    examples = [line.strip()[2:] for line in (command.epilog or "").splitlines() if line.strip().startswith("$ ")]
    lines += ["", f"Also takes {', '.join(taken)}. Examples:" if taken else "Examples:", ""]
    return "\n".join([*lines, "```text", *examples, "```"])


def _shared(root: TyperGroup) -> str:
    """The options that commands have in common, from a command that has them all."""
    rows = [_row(param) for param in root.commands["curate"].params if param.name in SHARED]
    return "\n".join(["### Shared options", "", _table(("option", "default", "meaning"), rows)])


def _row(param: object) -> tuple[str, str, str]:
    assert isinstance(param, (TyperArgument, TyperOption))
    known: TyperArgument | TyperOption = param
    return _names(known), _default(known), known.help or ""


def _argument(param: TyperArgument) -> str:
    name = (param.name or "").upper()
    return name if param.required else f"[{name}]"


def _names(param: TyperArgument | TyperOption) -> str:
    if isinstance(param, TyperArgument):
        return f"`{(param.name or '').upper()}`{_choices(param)}"
    return ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts]) + _choices(param)


def _choices(param: object) -> str:
    allowed = getattr(getattr(param, "type_descriptor", None), "choices", None) or ()
    values = [str(item.value) if isinstance(item, enum.Enum) else str(item) for item in allowed]
    return f" ({', '.join(values)})" if values else ""


def _default(param: TyperArgument | TyperOption) -> str:
    value: object = param.default
    if param.required:
        return "required"
    if value is None or value is False or value == 0:
        return ""
    return f"`{value.value if isinstance(value, enum.Enum) else value}`" if value is not True else "on"


def settings_file() -> str:
    """What `goldless init` writes."""
    text = settings_text("documents.jsonl", "text", ["negative", "positive"], "transformers:wheel:smollm2-135m")
    return f"```toml\n{text}```"


def settings() -> str:
    """One table per table of the file."""
    tables = [("[task.fields.<name>]" if name == "task.fields" else f"[{name}]", model) for name, model in _models()]
    return "\n\n".join(f"### `{title}`\n\n{_about(model)}\n\n{_fields(model)}" for title, model in tables)


def _models() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Settings.model_fields.items():
        model = _model_of(field.annotation)
        assert model is not None
        yield name, model
        if name == "task":
            yield "task.fields", FieldSettings
        if name in ("filters", "cascade", "serve"):
            yield from ((f"{name}.{key}", inner) for key, inner in _inner(model))


def _inner(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        if (found := _model_of(field.annotation)) is not None:
            yield name, found


def _model_of(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_of(part))), None)


def _about(model: type[BaseModel]) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").split())


def _fields(model: type[BaseModel]) -> str:
    rows = [(f"`{name}`", _type(field.annotation), _value(field)) for name, field in model.model_fields.items()]
    return _table(("setting", "type", "default"), rows)


def _type(annotation: object) -> str:
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is list:
        return f"list of {_type(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return "table"
    names = {str: "text", int: "number", float: "number", bool: "true/false"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    if getattr(annotation, "__name__", "") in ("Path", "SecretStr"):
        return "text"
    found = names.get(annotation) if isinstance(annotation, type) else None
    return found or str(getattr(annotation, "__name__", annotation))


def _value(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel) or value in ("", [], {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
