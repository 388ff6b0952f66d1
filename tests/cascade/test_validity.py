"""Generated text held to what was asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cascade.validity import is_valid, is_valid_tool_call
from curator.errors import InputError

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}

pytest.importorskip("jsonschema")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"n": 1}', True),
        ('{"n": 1', False),
        ('{"n": "1"}', False),
        ('{"n": 1, "m": 2}', False),
        ("", False),
        ('Here: {"n": 1}', False),
    ],
)
def test_json_by_its_schema(text, valid):
    assert is_valid(text, SCHEMA) is valid


def test_without_a_schema_nothing_is_violated():
    assert is_valid("anything", None)


def test_a_schema_that_is_none_says_so():
    with pytest.raises(InputError, match="no JSON schema"):
        is_valid("{}", {"type": "objekt"})


def test_tool_calls_need_a_known_tool_and_fitting_arguments():
    tools = {"add": SCHEMA}
    assert is_valid_tool_call("add", '{"n": 1}', tools)
    assert not is_valid_tool_call("add", '{"n": null}', tools)
    assert not is_valid_tool_call("sub", '{"n": 1}', tools)


def test_without_jsonschema_it_says_what_to_install():
    code = """
import sys
sys.modules["jsonschema"] = None
from cascade.validity import is_valid
from curator.errors import MissingExtraError
assert is_valid("x", None)
try:
    is_valid("{}", {"type": "object"})
except MissingExtraError as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pip install 'goldless[schema]'"
