"""What several unit tests share."""

import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SETTINGS = Path(__file__).resolve().parents[2] / "config" / "settings.py"
Read = Callable[..., dict[str, Any]]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Read:
    """What the settings are where nothing is set but this."""

    def settings(**environment: str) -> dict[str, Any]:
        for name in os.environ:
            monkeypatch.delenv(name)
        monkeypatch.setenv("DATA_DIR", str(tmp_path))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(SETTINGS))

    return settings
