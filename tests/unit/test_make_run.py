"""What `make run` says before it starts anything."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from config.dev.process_list import ProcessList, began
from tests.support.ports import essentials

CHECKOUT = Path(__file__).resolve().parents[2]


def make_run(folder: Path, **also: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "config.dev.run"],
        env={**essentials(), "DATA_DIR": str(folder), "PORT": "1"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **also,
    )


def no_file_may_grow() -> None:
    """As with a /dev/shm that cannot be written: a semaphore is a file of 32 bytes there."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_without_shared_memory_it_says_what_to_do(tmp_path: Path) -> None:
    done = make_run(tmp_path, preexec_fn=no_file_may_grow)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "A semaphore cannot be made (" in done.stderr
    assert "/dev/shm" in done.stderr


@pytest.fixture
def sleeper() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process  # type: ignore[misc]
    process.kill()
    process.wait()


def test_parts_that_outlived_their_make_run_are_named_at_the_next_start(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    owner = subprocess.Popen(["sleep", "600"])
    lines = f"web {sleeper.pid} {owner.pid} {began(sleeper.pid)} {began(owner.pid)}\nworker 12"
    (tmp_path / "run.processes").write_text(lines)
    assert ProcessList(tmp_path).left_behind() is None  # its owner watches it
    owner.kill()
    owner.wait()
    done = make_run(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "An earlier `make run` was killed, and left running: web."
        f" End them with `kill -- -{sleeper.pid}`, then start again.\n"
    )
    subprocess.run(["sh", "-c", f"kill -- -{sleeper.pid}"], check=True)
    sleeper.wait(10)
    assert ProcessList(tmp_path).left_behind() is None


def test_a_process_that_got_the_number_of_a_part_is_no_part(tmp_path: Path) -> None:
    us = os.getpid()
    (tmp_path / "run.processes").write_text(f"web {us} 1 1 1\nworker {us} 1 gone gone\n")
    assert ProcessList(tmp_path).left_behind() is None
