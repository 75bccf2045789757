"""What several unit tests share."""

import os
import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

CONFIG = Path(__file__).resolve().parents[2] / "config" / "settings"
PARTS = ("agents", "deployment", "limits", "model")  # whose names the settings take over
SETTINGS_FILES = [CONFIG / f"{name}.py" for name in ("base", *PARTS)]
Read = Callable[..., dict[str, Any]]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Read:
    """What the settings are where nothing is set but this."""
    whole = {f"config.settings.{name}": import_module(f"config.settings.{name}") for name in PARTS}

    def settings(**environment: str) -> dict[str, Any]:
        for name in os.environ:
            monkeypatch.delenv(name)
        monkeypatch.setenv("DATA_DIR", str(tmp_path))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for name in PARTS:  # to be read anew
            del sys.modules[f"config.settings.{name}"]
        try:
            return runpy.run_path(str(SETTINGS_FILES[0]))
        finally:
            sys.modules.update(whole)

    return settings
