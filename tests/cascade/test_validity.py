"""Generated text held to what was asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cascade.validity import calls_of, is_valid, is_valid_reply, is_valid_tool_call
from curator.errors import InputError
from curator.types import ChatRequest, GenerateRequest, Message, Sample

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


ASKED = (Message("user", "How many?"),)
ADD = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
NOW = {"type": "function", "function": {"name": "now"}}
FREE = {"type": "custom", "custom": {"name": "run"}}


def call(name="add", arguments='{"n": 1}', kind="function"):
    said = "arguments" if kind == "function" else "input"
    return {"id": "a", "type": kind, kind: {"name": name, said: arguments}}


@pytest.mark.parametrize(
    ("calls", "choice", "valid"),
    [
        ([call()], None, True),
        ([call(), call("now", "")], "auto", True),
        ([call("now", "[]")], "auto", False),
        ([call(), call(arguments='{"n": ')], "auto", False),
        ([call("sub")], "auto", False),
        ([call("run", "anything", "custom")], "auto", True),
        ([call("add", "anything", "custom")], "auto", False),
        ([call()], "none", False),
        ([], "none", True),
        ([], "required", False),
        ([call("now", "{}")], "required", True),
        ([call()], {"type": "function", "function": {"name": "add"}}, True),
        ([call("now", "{}")], {"type": "function", "function": {"name": "add"}}, False),
        ([], {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}, False),
        ([call()], {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}, True),
    ],
)
def test_a_reply_calls_tools_as_it_was_told_to(calls, choice, valid):
    request = ChatRequest(ASKED, tools=(ADD, NOW, FREE), tool_choice=choice)
    assert is_valid_reply(Sample("", "tool_calls", tool_calls=tuple(calls)), request) is valid


def test_a_reply_without_calls_is_text_by_the_schema():
    asked = GenerateRequest(ASKED, schema=SCHEMA)
    assert is_valid_reply(Sample('{"n": 1}'), asked)
    assert not is_valid_reply(Sample("one"), asked)
    assert not is_valid_reply(Sample('{"n": 1}', "content_filter"), asked)
    assert is_valid_reply(Sample("", tool_calls=(call(),)), ChatRequest(ASKED, schema=SCHEMA, tools=(ADD,)))
    assert not is_valid_reply(Sample("", tool_calls=(call(),)), asked)


def test_equal_calls_are_equal_however_they_are_written():
    one = Sample("", tool_calls=(call(arguments='{"n": 1, "m": 2}'), call("now", "{}")))
    other = Sample("", tool_calls=(call("now", "{ }"), call(arguments='{"m":2,"n":1}')))
    assert calls_of(one) == calls_of(other)
    assert calls_of(one) != calls_of(Sample("", tool_calls=(call(),)))
    assert calls_of(Sample("", tool_calls=(call(arguments="{"),))) == [("add", "{")]


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
