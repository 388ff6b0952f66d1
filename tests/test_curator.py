"""curator/__init__.py: the public names."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import curator


@pytest.mark.parametrize("name", curator.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(curator, name).__doc__


def test_no_public_name_is_hidden_by_a_module_of_the_same_name():
    for name in curator.__all__:
        getattr(curator, name)
    assert not [name for name in curator.__all__ if isinstance(getattr(curator, name), ModuleType)]


def test_every_public_name_has_one_home():
    assert sorted(curator._MODULE) == sorted(curator.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'curat'"):
        _ = curator.curat


def test_importing_the_package_imports_nothing_else():
    code = "import sys, curator; print({'duckdb', 'numpy', 'pydantic', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
