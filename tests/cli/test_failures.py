"""Every failure becomes one message and one exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.failures import Exit, exit_code, explain, root_cause
from curator import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), Exit.USAGE),
        (errors.SourceError("x"), Exit.USAGE),
        (errors.TaskError("x"), Exit.USAGE),
        (errors.MissingExtraError("x"), Exit.USAGE),
        (errors.WeightsError("x"), Exit.USAGE),
        (errors.AuthenticationError("x"), Exit.FAILED),
        (errors.ServerError("x"), Exit.FAILED),
        (errors.StoreCorruptError("x"), Exit.FAILED),
        (errors.StoreLockedError("x"), Exit.BUSY),
        (errors.BudgetExceededError("x"), Exit.BUDGET),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (ValueError("x"), Exit.FAILED),
    ],
)
def test_exit_codes(error: BaseException, code: Exit) -> None:
    assert exit_code(error) == code


def test_our_errors_show_message_and_hint_only() -> None:
    said: list[str] = []
    explain(errors.SourceError("row 3 is odd", hint="mend it"), said.append, debug=False)
    assert said == ["error: row 3 is odd\n  hint: mend it"]


def test_a_bug_is_one_line_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    said: list[str] = []
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("division by zero\nsecond line")
    assert explain(caught.value, said.append, debug=False) == Exit.FAILED
    (report,) = (tmp_path / "goldless").glob("crash-*.txt")
    assert "Traceback" not in said[0]
    assert "second line" not in said[0]
    assert str(report) in said[0]
    assert "ZeroDivisionError: division by zero\nsecond line" in report.read_text()
    assert "test_failures.py" in report.read_text()


def test_a_bug_where_no_folder_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(file))
    monkeypatch.setattr("tempfile.tempdir", str(file))
    said: list[str] = []
    explain(ValueError("x"), said.append, debug=False)
    assert "--debug" in said[0]


def test_debug_prints_the_traceback() -> None:
    said: list[str] = []
    with pytest.raises(errors.StoreError) as caught:
        raise errors.StoreError("x")
    explain(caught.value, said.append, debug=True)
    assert "Traceback" in said[0]
    assert said[1] == "error: x"


def test_the_cause_in_a_group_is_ours_first() -> None:
    group = BaseExceptionGroup(
        "", [KeyboardInterrupt(), ExceptionGroup("", [ValueError("y"), errors.ServerError("x")])]
    )
    said: list[str] = []
    assert isinstance(root_cause(group), errors.ServerError)
    assert explain(group, said.append, debug=False) == Exit.FAILED
    assert said == ["error: x"]
