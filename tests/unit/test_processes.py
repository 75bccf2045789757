"""Each process of the Procfile imports its modules in a fresh interpreter.

Tests share an interpreter in which Django's models are loaded. A process without them, like the
proxy, would fail at its first import and no other unit or integration test would notice.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
MAIN = 'if __name__ == "__main__":'
PROCESSES = sorted(
    ".".join(file.relative_to(CHECKOUT).with_suffix("").parts)
    for file in (CHECKOUT / "config").rglob("*.py")
    if MAIN in file.read_text()
)
IMPORTED = "import importlib, sys; importlib.import_module(sys.argv[1])"
COLLECTS = "import gc; {}; assert gc.isenabled(); assert gc.get_freeze_count() > 100_000"


@pytest.mark.parametrize("module", PROCESSES)
def test_each_process_imports_its_modules_in_a_fresh_interpreter(
    module: str, tmp_path: Path
) -> None:
    run([IMPORTED, module], tmp_path)


@pytest.mark.parametrize(
    "begun", ["import config.asgi", "from config.celery import app; app.Worker()"]
)
def test_the_garbage_collector_runs_once_all_modules_are_imported(
    begun: str, tmp_path: Path
) -> None:
    run([COLLECTS.format(begun)], tmp_path)


def run(program: list[str], data: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", *program],
        cwd=CHECKOUT,
        env={**os.environ, "DATA_DIR": str(data), "DJANGO_SETTINGS_MODULE": "config.settings"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
