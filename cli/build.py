"""Settings -> the task, engine, source and filters that they describe."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

from pydantic import BaseModel, Field, create_model

from curator.errors import ConfigError, TaskError
from curator.fields import Labels, Ordered, Reasoning
from curator.task import DEFAULT_TEMPLATE, Task, View
from curator.types import Price, Sampling, Template

if TYPE_CHECKING:
    from cli.settings import (
        BudgetSettings,
        DenoiseSettings,
        EngineSettings,
        FieldSettings,
        SelectSettings,
        Settings,
        TaskSettings,
        TemplateSettings,
    )
    from curator.denoising import Denoising
    from curator.engines.base import Engine
    from curator.engines.wrappers import Account
    from curator.screening import Screening
    from curator.selection import SelectionPolicy
    from curator.sources import Source

OPEN_TYPES: Mapping[str, type] = {"text": str, "number": float}


def task_of(settings: Settings, folder: Path) -> Task[BaseModel]:
    """The task of the settings; `folder` is where a 'module:Class' is looked for first.

    Raises: ConfigError, TaskError
    """
    given = settings.task
    if given is None:
        raise ConfigError("the settings have no [task]", hint="`goldless init` writes a file that has one")
    output = load_model(given.model, folder) if given.model else inline_model(given)
    greedy = given.answer_format == "free"
    samples = 1 if greedy and "samples" not in given.model_fields_set else given.samples
    temperature = 0.0 if greedy and "temperature" not in given.model_fields_set else given.temperature
    task = Task(
        output,
        given.instruction,
        samples=samples,
        sampling=Sampling(temperature=temperature, max_tokens=given.max_tokens),
        answer_format=given.answer_format,
    )
    return _with_views(task, settings)


def _with_views(task: Task[BaseModel], settings: Settings) -> Task[BaseModel]:
    """Own wordings where there are any, the built-in paraphrases otherwise."""
    count = settings.views.count
    own = [template_of(settings.template)] if settings.template.model_fields_set else []
    own += [template_of(item) for item in settings.views.templates]
    if not own:
        return task.with_views(count) if count > 1 else task
    orders = (0, -1, *range(1, count + len(own)))
    views = tuple(View(own[i % len(own)], orders[i // len(own)]) for i in range(max(count, len(own))))
    return replace(task, views=views)


def template_of(settings: TemplateSettings) -> Template:
    """The default template with the parts that were set."""
    return replace(DEFAULT_TEMPLATE, **settings.model_dump(exclude_none=True))


def load_model(name: str, folder: Path) -> type[BaseModel]:
    """The pydantic model 'module:Class'.

    Raises: ConfigError if it cannot be imported, or is no pydantic model.
    """
    found = load_object(name, folder, "task.model")
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise ConfigError(f"task.model {name!r} is not a pydantic model", hint="class Review(pydantic.BaseModel): ...")
    return found


def load_object(name: str, folder: Path, setting: str) -> object:
    """Import 'module:name', looking into `folder` first.

    Raises: ConfigError
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{setting} is {name!r}", hint="write 'module:Name', for example 'my_tasks:Review'")
    if (path := str(folder.absolute())) not in sys.path:
        sys.path.insert(0, path)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(f"{setting}: {module_name!r} cannot be imported: {type(error).__name__}: {error}") from error
    try:
        found: object = getattr(module, attribute)
    except AttributeError:
        raise ConfigError(f"{setting}: {module_name!r} has no {attribute!r}") from None
    return found


def inline_model(settings: TaskSettings) -> type[BaseModel]:
    """A pydantic model of the fields in the settings.

    Raises: TaskError naming the field that cannot be asked.
    """
    if private := next((name for name in settings.fields if name.startswith("_")), None):
        raise TaskError(f"the field {private!r} starts with an underscore", hint="rename it")
    fields = {name: _annotation(field) for name, field in settings.fields.items()}
    try:
        # Made at run time, out of a static checker's sight.
        arguments: dict[str, Any] = {name: (annotation, ...) for name, annotation in fields.items()}
        return create_model("Output", **arguments)
    except (NameError, TypeError, ValueError) as error:
        raise TaskError(f"the fields {', '.join(fields)} make no model: {error}", hint="use plain words") from None


def _annotation(field: FieldSettings) -> object:
    closed = field.kind in ("predicate", "choice", "score")
    values, marks = _closed(field) if closed else (_open(field), [Reasoning()] if field.kind == "reasoning" else [])
    inner = Optional[values] if field.optional else values  # noqa: UP045
    described = Field(description=field.instructions or None)
    return Annotated.__class_getitem__((inner, *marks, described))  # type: ignore[attr-defined]


def _open(field: FieldSettings) -> object:
    if field.kind == "date":
        from datetime import date

        return date
    return OPEN_TYPES.get(field.kind, str)


def _closed(field: FieldSettings) -> tuple[object, list[object]]:
    options = field.options
    descriptions = dict(options) if isinstance(options, dict) else {}
    names: list[str | int] = list(options)
    if field.kind == "predicate":
        # The first label is the word for true.
        words = dict(zip((True, False), map(str, names), strict=False))
        meant = dict(zip((True, False), descriptions.values(), strict=False))
        return bool, [Labels(meant or None, words or None, field.none)]
    distinct = tuple(dict.fromkeys(names))
    if len(distinct) != len(names):
        repeated = next(label for label in distinct if names.count(label) > 1)
        raise TaskError(f"the label {repeated!r} is listed twice", hint="name every label once")
    marks: list[object] = [Labels(descriptions or None, None, field.none)]
    return Literal.__getitem__(distinct), [*marks, Ordered()] if field.kind == "score" else marks


def source_of(settings: Settings, folder: Path, uri: str | None = None) -> Source:
    """The documents: those of the settings (relative to `folder`), or `uri` read in the same way.

    Raises: ConfigError, SourceError
    """
    from curator.sources import open_source

    given = settings.source
    if given is None and uri is None:
        raise ConfigError("no documents are named", hint="goldless ingest PATH, or [source] in the settings")
    options = given.model_dump(exclude={"uri"}, exclude_unset=True) if given else {}
    return open_source(uri or _beside(folder, given.uri if given else ""), **options)


def _beside(folder: Path, uri: str) -> str:
    """A relative path of the settings counts from their folder; an address stays as it is."""
    remote = uri == "-" or re.match(r"[A-Za-z][\w+.-]+:", uri) is not None
    return uri if remote or folder == Path() else str(folder / uri)


def engine_of(
    settings: EngineSettings, budget: BudgetSettings | None = None, known: Sequence[EngineSettings] = ()
) -> Engine:
    """The engine, with retries, limits, prices and tracing around it. Nothing is sent yet. `known` says how the tiers
    of a cascade are connected.

    Raises: ConfigError, MissingExtraError, WeightsError
    """
    from cascade.opening import is_cascade
    from curator.engines.wrappers import Account, Budget

    if not budget or not budget.model_fields_set:
        return connected(settings, None, known)
    price = price_of(settings)
    if budget.money is not None and price is None and not is_cascade(settings.spec):
        raise ConfigError("budget.money needs prices", hint="set engine.price_input and engine.price_output")
    return connected(settings, Account(Budget(budget.calls, budget.tokens, budget.money, price)), known)


def connected(settings: EngineSettings, account: Account | None, known: Sequence[EngineSettings]) -> Engine:
    """The engine, whose calls draw on `account`."""
    from cascade.opening import is_cascade
    from cli.cascades import cascade_of
    from curator.engines import connect
    from curator.engines.wrappers import wrap

    if is_cascade(settings.spec):
        # Its tiers try again and are traced one by one.
        made = cascade_of(settings, known, account)
        return wrap(made, retry=None, concurrency=settings.concurrency, trace=False)
    price = price_of(settings)
    engine = connect(settings.spec, price=price, **options_of(settings))
    return wrap(engine, concurrency=settings.concurrency, budget=account, price=price)


def options_of(settings: EngineSettings) -> dict[str, object]:
    """What `connect` takes of a table beside spec and price."""
    from cli.config import secret

    key = {} if settings.api_key is None else {"api_key": secret(settings.api_key)}
    return {**settings.settings, **key}


def price_of(settings: EngineSettings) -> Price | None:
    """Money per million tokens; None where the settings give no price."""
    if settings.price_input is None or settings.price_output is None:
        return None
    return Price(settings.price_input, settings.price_output, settings.currency)


def screening_of(settings: Settings, folder: Path) -> Screening:
    """What is removed before anything is labelled; filters are looked for in `folder` first."""
    from curator.screening import Screening, near_where_possible

    dedup = settings.dedup
    near = near_where_possible(dedup.threshold) if dedup.near is None else dedup.threshold if dedup.near else None
    return Screening(dedup.exact, near, settings.filters.table, folder=folder)


def denoising_of(settings: DenoiseSettings | None) -> Denoising | None:
    """How labels are denoised; None where they are not."""
    from curator.denoising import Denoising

    return None if settings is None else Denoising(**settings.model_dump(exclude_none=True))


def selection_of(settings: SelectSettings) -> SelectionPolicy:
    """What enters the training set."""
    from curator.selection import SelectionPolicy

    return SelectionPolicy(
        min_confidence=settings.min_confidence,
        coverage=settings.coverage,
        coverage_of=settings.coverage_of,
        balanced=settings.balance,
        quota=settings.quota,
        max_rows=settings.max_rows,
        seed=settings.seed,
    )
