"""A database of an older Unspool ends each start with what to do about it."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import essentials, free_port

CHECKOUT = Path(__file__).resolve().parents[2]
WORKER = ["-m", "celery", "--quiet", "-A", "config.celery", "worker"]
COMMANDS = {
    "make run": ["-m", "config.dev.run"],
    "make setup": ["manage.py", "migrate", "--noinput"],
    "web": ["-m", "config.server"],
    "worker": WORKER,
}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env={**essentials(), "DATA_DIR": str(folder), "PORT": str(free_port())},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_an_old_data_folder_ends_the_start_with_a_remedy(
    tmp_path: Path, command: list[str]
) -> None:
    with sqlite3.connect(tmp_path / "db.sqlite3") as database:
        database.execute("CREATE TABLE streams_run (id integer)")
    database.close()
    done = run(command, tmp_path)
    assert done.returncode == 1
    sentence = (
        f"The database {tmp_path}/db.sqlite3 was made by an older version of Unspool, and nothing"
        f" of it is migrated. Move the folder {tmp_path} away or delete it, then start again."
    )
    assert sentence in done.stderr
    if command in (COMMANDS["web"], COMMANDS["worker"]):
        assert done.stderr.splitlines()[-1] == sentence
