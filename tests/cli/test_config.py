"""goldless.toml: every mistake is named with its line, and the right name is suggested."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr

from cli.config import line_numbers, read_settings, secret, state_folder, telemetry_exporters
from cli.settings import FilterSettings
from curator.errors import ConfigError
from curator.filters import FACTORIES

FULL = """\
[store]
path = "my.duckdb"

[source]
uri = "reviews.jsonl"

[task]
instruction = "Is it good?"

[task.fields.sentiment]
kind = "choice"
labels = ["bad", "good"]

[engine]
spec = "http://localhost:8000/v1#m"
api_key = "${GOLDLESS_TEST_KEY}"

[select]
min_confidence = 0.9
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "goldless.toml"
    path.write_text(text, encoding="utf-8")
    return path


def failure(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_settings(written(folder, text))
    return caught.value


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, FULL))
    assert settings.store.path == Path("my.duckdb")
    assert settings.task is not None
    assert settings.task.fields["sentiment"].options == ["bad", "good"]
    assert settings.select.min_confidence == 0.9


@pytest.mark.parametrize(
    ("wrong", "right", "line"),
    [
        ("min_confidence", "min_confidnce", 19),
        ("labels", "lables", 12),
        ("[engine]", "[enigne]", 14),
        ("path", "pth", 2),
    ],
)
def test_an_unknown_key_is_answered_with_the_right_one(tmp_path: Path, wrong: str, right: str, line: int) -> None:
    error = failure(tmp_path, FULL.replace(wrong, right))
    assert f"line {line}: unknown setting" in error.message
    assert right.strip("[]") in error.message
    assert error.hint == f"did you mean {wrong.strip('[]')!r}?"


def test_a_key_of_another_table_is_sent_there(tmp_path: Path) -> None:
    error = failure(tmp_path, "[dedup]\nmax_rows = 3\n")
    assert "line 2" in error.message
    assert error.hint == "'max_rows' belongs to [select]"


def test_a_key_like_nothing_lists_what_is_known(tmp_path: Path) -> None:
    assert failure(tmp_path, "[dedup]\nqqqq = 3\n").hint == "known here: exact, near, threshold"


def test_every_mistake_is_reported_once(tmp_path: Path) -> None:
    error = failure(tmp_path, "[dedup]\nthreshold = 3\n[task.fields.a]\nkind = 'choice'\nlabels = 4\n")
    assert "line 2: 'dedup.threshold'" in error.message
    assert "line 5: 'task.fields.a.labels'" in error.message
    assert len(error.message.splitlines()) == 2


def test_a_missing_setting_names_its_table(tmp_path: Path) -> None:
    error = failure(tmp_path, "\n[source]\ntext = 'body'\n")
    assert "line 2: the setting 'source.uri' is missing" in error.message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[task]\ninstruction = 'x'\n", "give either model"),
        ("[task.fields.a]\nkind = 'choice'\n", "a choice needs labels"),
        ("[task.fields.a]\nkind = 'predicate'\nlabels = ['a', 'b', 'c']\n", "a predicate has two labels"),
        ("[task.fields.a]\nkind = 'score'\nlabels = ['a', 'b']\nlevels = [1, 2]\n", "not both"),
        ("[engine]\nspec = 'x'\nprice_input = 1.0\n", "price_output"),
        ("[task.fields.a]\nkind = 'sentiment'\n", "'predicate', 'choice'"),
        ("[filters]\nlenght = { min_chars = 3 }\n", "unknown filter 'lenght'; did you mean 'length'?"),
        ("[filters]\nqqqq = true\n", "known are length, language, repetition. A filter of your own"),
        ("[filters]\nlength = { min_char = 3 }\n", "unknown setting 'filters.length"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in failure(tmp_path, text).message


def test_filters_hold_what_was_set_only(tmp_path: Path) -> None:
    text = "[filters]\nlength = { min_chars = 3 }\nrepetition = true\nads = 'mine:no_ads'\nlanguage = false\n"
    table = read_settings(written(tmp_path, text)).filters.table
    assert table == {"length": {"min_chars": 3}, "repetition": True, "ads": "mine:no_ads", "language": False}


def test_every_filter_setting_exists() -> None:
    for name, factory in FACTORIES.items():
        models = [part for part in get_args(FilterSettings.model_fields[name].annotation) if part is not bool]
        assert set(models[0].model_fields) == set(inspect.signature(factory).parameters)


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    error = failure(tmp_path, "[store]\npath = my.duckdb\n")
    assert "is not valid TOML" in error.message
    assert "line 2" in error.message


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        read_settings(tmp_path / "goldless.toml")
    (tmp_path / "goldless.toml").write_bytes(b"[store]\npath = '\xe9'\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_settings(tmp_path / "goldless.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "goldless.toml"
    path.write_text("[store]\npath = 'x'\n", encoding="utf-8-sig")
    assert read_settings(path).store.path == Path("x")


def test_lines_of_keys_in_long_strings_and_lists_of_tables() -> None:
    text = "\n".join(
        ["[a]", 'b = """', "c = 1", '"""', "'d e' = 2", "[[v.t]]", "x = 1", "[[v.t]]", "x = 2", "[a . f]", "g.h = 3"]
    )
    assert line_numbers(text) == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "d e"): 5,
        ("v", "t", 0): 6,
        ("v", "t", 0, "x"): 7,
        ("v", "t", 1): 8,
        ("v", "t", 1, "x"): 9,
        ("a", "f"): 10,
        ("a", "f", "g", "h"): 11,
    }


def test_a_key_comes_from_the_environment_and_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = read_settings(written(tmp_path, FULL)).engine
    assert engine is not None
    monkeypatch.delenv("GOLDLESS_TEST_KEY", raising=False)
    with pytest.raises(ConfigError, match="GOLDLESS_TEST_KEY"):
        secret(engine.api_key)
    monkeypatch.setenv("GOLDLESS_TEST_KEY", "hunter2")
    assert secret(engine.api_key) == "hunter2"
    assert "hunter2" not in repr(engine)
    assert secret(SecretStr("as it stands")) == "as it stands"
    assert secret(None) is None


def test_variables_are_read_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDLESS_TEST_KEY", "hunter2")
    text = FULL.replace('uri = "reviews.jsonl"', 'uri = "${GOLDLESS_TEST_KEY}"')
    source = read_settings(written(tmp_path, text)).source
    assert source is not None
    assert source.uri == "${GOLDLESS_TEST_KEY}"


def test_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "goldless"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_folder().parts[-3:] == (".local", "state", "goldless")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "x"}, None),
        ({"OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_TRACES_EXPORTER": "console"}, (("console",), (), "goldless")),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SERVICE_NAME": "x"},
            (("otlp_proto_http",), ("otlp_proto_http",), ""),
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            (("otlp_proto_grpc",), (), "goldless"),
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"}, None),
    ],
)
def test_exporters_only_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    expected: tuple[tuple[str, ...], tuple[str, ...], str] | None,
) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = telemetry_exporters()
    assert (found and (found.traces, found.metrics, found.service)) == expected
