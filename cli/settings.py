"""What goldless.toml may hold: one model per table. The defaults work.

`cli/config.py` reads the file; `cli/build.py` makes tasks, engines and filters of it.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from cascade.gateway.settings import ServeSettings
from cli.cascade_settings import CascadeSettings
from cli.progressive_settings import ProgressiveSettings
from cli.tables import EngineSettings as EngineSettings
from cli.tables import Table as Table
from curator.types import JsonObject, TurnOrder


class StoreSettings(Table):
    """Where everything is kept; `wait` is how many seconds to wait for another command's write."""

    path: Path = Path("goldless.duckdb")
    wait: NonNegativeFloat = 10.0


class SourceSettings(Table):
    """The documents. `text` and `id` name columns, `columns` those to keep beside the text."""

    uri: str
    text: str = "text"
    id: str | None = None
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "arrow", "lines", "files", "hf"] = "auto"
    encoding: str = "utf-8"
    columns: list[str] | None = None
    delimiter: str | None = None
    max_row_bytes: PositiveInt | None = None


class FieldSettings(Table):
    """One question. `labels` are a choice's options, a score's levels (lowest first) or the words
    for true and false, as a list or as label = "what it means"."""

    kind: Literal["predicate", "choice", "score", "text", "number", "date", "reasoning"]
    instructions: str = ""
    labels: list[str] | dict[str, str] = Field(default_factory=list)
    levels: list[str | int] | dict[str, str] = Field(default_factory=list)
    optional: bool = False
    none: str = "none of these"

    @model_validator(mode="after")
    def _options(self) -> Self:
        if self.labels and self.levels:
            raise ValueError("give labels or levels, not both")
        if self.kind in ("choice", "score") and not self.options:
            raise ValueError(f"a {self.kind} needs {'labels' if self.kind == 'choice' else 'levels'}")
        if self.kind == "predicate" and self.options and len(self.options) != 2:
            raise ValueError("a predicate has two labels: the word for true, then the word for false")
        return self

    @property
    def options(self) -> list[str | int] | dict[str, str]:
        """The labels or levels, whichever were given."""
        return self.levels or ([*self.labels] if isinstance(self.labels, list) else self.labels)


class TaskSettings(Table):
    """What to label: a pydantic model of your own ('module:Class', beside the settings), or fields
    written down here."""

    model: str | None = None
    instruction: str = ""
    fields: dict[str, FieldSettings] = Field(default_factory=dict)
    samples: PositiveInt = 5
    temperature: NonNegativeFloat = 0.7
    max_tokens: PositiveInt = 256
    answer_format: Literal["json", "text"] = "json"

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if bool(self.model) == bool(self.fields):
            raise ValueError("give either model = 'module:Class' or [task.fields.<name>] tables")
        return self


class TemplateSettings(Table):
    """The text around a question; what is left out stays as it is by default."""

    system: str | None = None
    state: str | None = None
    question: str | None = None
    option: str | None = None
    described: str | None = None
    answer_prefix: str | None = None
    letters: bool | None = None
    order: TurnOrder | None = None


class ViewSettings(Table):
    """How many ways to ask each question: other wordings and other option orders, whose votes are
    averaged. `templates` are wordings of your own beside [template]."""

    count: PositiveInt = 1
    templates: list[TemplateSettings] = Field(default_factory=list)


class ReferenceSettings(EngineSettings):
    """A stronger model, which answers `rows` uniformly drawn documents to calibrate the confidences."""

    rows: PositiveInt = 200


class LengthSettings(Table):
    """See curator.filters.length."""

    min_chars: int | None = None
    max_chars: int | None = None
    min_words: int | None = None
    max_words: int | None = None


class LanguageSettings(Table):
    """See curator.filters.language."""

    allowed: list[str] = Field(default_factory=lambda: ["en"])
    min_probability: float = 0.8
    keep_unsure: bool = True


class RepetitionSettings(Table):
    """See curator.filters.repetition."""

    duplicate_lines: float | None = None
    duplicate_line_chars: float | None = None
    top_ngrams: dict[str, float] | None = None
    duplicate_ngrams: dict[str, float] | None = None
    character_runs: float | None = None
    min_words: int | None = None


class FilterSettings(Table):
    """Quality filters: a table of settings, or true. Any other name is a filter of your own, and its
    value says where it is: 'module:function' or 'file.py:function', beside the settings or in the
    working directory."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str]

    length: LengthSettings | bool = False
    language: LanguageSettings | bool = False
    repetition: RepetitionSettings | bool = False

    @model_validator(mode="before")
    @classmethod
    def _own_filters(cls, values: object) -> object:
        for name, value in values.items() if isinstance(values, dict) else ():
            if name not in cls.model_fields and not (isinstance(value, str) and ":" in value):
                close = difflib.get_close_matches(name, cls.model_fields, n=1) or [None]
                meant = f"did you mean {close[0]!r}?" if close[0] else f"known are {', '.join(cls.model_fields)}."
                raise ValueError(f"unknown filter {name!r}; {meant} A filter of your own is a 'module:function'")
        return values

    @property
    def table(self) -> JsonObject:
        """What was set, as curator.filters reads it."""
        found: JsonObject = self.model_dump(mode="json", exclude_unset=True)
        return found


class DedupSettings(Table):
    """Duplicate removal. `threshold` is the Jaccard similarity of near-duplicates. Finding them needs
    the `dedup` extra: where `near` is not set, they are removed if it is installed, and stay if not."""

    exact: bool = True
    near: bool | None = None
    threshold: float = Field(0.8, gt=0, le=1)


class PriorSettings(Table):
    """How often the classes occur. `probes` texts without content are asked about to estimate it; 0 is none. `shares`
    says it where you know it, per field and label: `shares = { label = { spam = 0.13 } }`; labels that are left out
    share what is left."""

    probes: NonNegativeInt = 0
    shares: dict[str, dict[str, float]] = Field(default_factory=dict)


class DenoiseSettings(Table):
    """Correcting a label by what is said of texts like it, where the table is there; see curator.denoising.Denoising.
    Needs the `denoise` extra. What is left out stays as it is by default."""

    encoder: str | None = None
    share: float | None = Field(None, gt=0, le=1)
    weight: float | None = Field(None, gt=0, le=1)
    folds: int | None = Field(None, ge=2)
    strength: float | None = Field(None, gt=0)
    rows: PositiveInt | None = None


class SelectSettings(Table):
    """What enters the training set; see curator.selection.SelectionPolicy."""

    min_confidence: float = Field(0.0, ge=0, le=1)
    coverage: float = Field(1.0, gt=0, le=1)
    coverage_of: Literal["rows", "class"] = "rows"
    balance: bool = False
    by: str | None = None
    quota: PositiveInt | None = None
    max_rows: PositiveInt | None = None
    seed: int = 0


class BudgetSettings(Table):
    """Hard caps of one run, reserved before a request is sent."""

    calls: PositiveInt | None = None
    tokens: PositiveInt | None = None
    money: NonNegativeFloat | None = None


class Settings(Table):
    """The whole file."""

    store: StoreSettings = StoreSettings()
    source: SourceSettings | None = None
    task: TaskSettings | None = None
    template: TemplateSettings = TemplateSettings()
    views: ViewSettings = ViewSettings()
    engine: EngineSettings | None = None
    reference: ReferenceSettings | None = None
    filters: FilterSettings = FilterSettings()
    dedup: DedupSettings = DedupSettings()
    prior: PriorSettings = PriorSettings()
    denoise: DenoiseSettings | None = None
    select: SelectSettings = SelectSettings()
    budget: BudgetSettings = BudgetSettings()
    progressive: ProgressiveSettings = ProgressiveSettings()
    cascade: CascadeSettings = CascadeSettings()
    serve: ServeSettings = ServeSettings()
