"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # vLLM leaves zmq contexts open when it shuts down; they are collected during whichever test comes next.
    ours = r"ignore:Exception ignored in. <function Context.__del__:pytest.PytestUnraisableExceptionWarning"
    config.addinivalue_line("filterwarnings", ours)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets with gold labels. Gold is used to score, never to train."""
    folder = Path(os.environ.get("GOLDLESS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no datasets in {folder}; set GOLDLESS_DATA to the folder that holds trec/, sms_spam/, ...")
    return folder
