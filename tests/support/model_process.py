"""The scripted model as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx

from tests.support.ports import HOST, essentials, free_port
from tests.support.process import Process
from tests.support.procfile import CHECKOUT

MODEL = (sys.executable, "-m", "tests.support.openai_server")


class ModelProcess(Process):
    """`tests/support/openai_server.py` on a free port."""

    def __init__(self, data: Path, log: Path) -> None:
        self.port = free_port()
        super().__init__(
            "model",
            [*MODEL, "--port", str(self.port), "--ready-file", str(data / "ready")],
            environment=essentials(),
            directory=CHECKOUT,
            log=log,
        )

    def stats(self) -> dict[str, Any]:
        return dict(httpx.get(f"http://{HOST}:{self.port}/stats", trust_env=False).json())

    def release(self, message: str) -> None:
        """Let replies to this message go on that wait at `hold_at`, and let later ones pass."""
        httpx.post(
            f"http://{HOST}:{self.port}/release", json=message, trust_env=False
        ).raise_for_status()

    def last(self) -> dict[str, Any]:
        """The body of the last request to the model."""
        return dict(httpx.get(f"http://{HOST}:{self.port}/last", trust_env=False).json())
