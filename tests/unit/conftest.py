"""Fixtures that several unit tests share."""

import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support.scripted_service import Open, Terminal

BASE = Path(__file__).resolve().parents[2] / "config" / "settings" / "base.py"
Read = Callable[..., dict[str, Any]]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Read:
    """A function that reads the settings from an environment with only its arguments."""

    def settings(**environment: str) -> dict[str, Any]:
        for name in os.environ:
            monkeypatch.delenv(name)
        monkeypatch.setenv("DATA_DIR", str(tmp_path))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(BASE))

    return settings


@pytest.fixture
def terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Open:
    return lambda service, **how: Terminal(service, capsys, tmp_path, monkeypatch, **how)


@pytest.fixture
def agent_limits(settings: Any) -> None:
    """Let an agent be silent for 5 s."""
    settings.MODEL_READ_TIMEOUT = settings.TOOL_TIMEOUT = 5.0
