"""The first command of a newcomer: `make run` on a fresh copy, with the embedded model."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.ports import HOST, essentials, free_port, listens
from tests.support.process import Process
from tests.support.recording import Recording
from tests.support.replayer import Replayer
from tests.support.visitor import Visitor
from tests.support.waiting import until

CHECKOUT = Path(__file__).resolve().parents[2]
STARTED_WITHIN = 120.0  # seconds; it takes four on a quiet machine
ENDED_WITHIN = 10.0  # seconds from Ctrl-C
REPLIED_WITHIN = 90.0  # seconds: half a thousand tokens of a small model on a busy processor

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh copy of what this checkout would commit, without data and environment."""
    place = tmp_path_factory.mktemp("copy")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (CHECKOUT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, place / name)
    yield place
    shutil.rmtree(place)


def make_run(copy: Path, port: int, also: Mapping[str, str], *before: str) -> Process:
    """`make run` in the copy, with the environment that runs this test. `before` may start it."""
    venv = Path(sys.executable).parent.parent
    starts = len(list(copy.glob("make-run-*.log")))  # each attempt writes the same words again
    return Process(
        f"make run on {port}",
        [*before, "make", "run", f"VENV={venv}"],
        environment={**essentials(), "PORT": str(port), **also},
        directory=copy,
        log=copy / f"make-run-{starts}.log",
    )


@asynccontextmanager
async def running(copy: Path, port: int, *before: str, **also: str) -> AsyncIterator[Process]:
    """`make run` from its address on; whatever the test did, nothing of it is left."""
    part = make_run(copy, port, also, *before)
    part.start()
    family: list[psutil.Process] = []
    at = also.get("PUSHPIN_PORT", port)
    try:
        await part.wait_for_log(f"Unspool answers at http://{HOST}:{at}/", within=STARTED_WITHIN)
        family = psutil.Process(part.pid).children(recursive=True)
        yield part
    except BaseException:
        sys.stderr.write(part.tail())
        raise
    finally:
        part.kill()
        for process in family:
            if process.is_running():
                process.kill()


def control_c(part: Process) -> None:
    """As a terminal does: SIGINT to all processes in its foreground."""
    os.killpg(part.pid, signal.SIGINT)


def a_part_dies(part: Process) -> None:
    """`make run` stops all others then."""
    family = psutil.Process(part.pid).children(recursive=True)
    (web,) = [process for process in family if "config.server" in process.cmdline()]
    web.kill()


def alive(processes: list[psutil.Process]) -> list[str]:
    """The processes that still run. A zombie does not run: it waits for its parent."""
    left = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                left.append(" ".join(process.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return left


def retold(recording: Recording) -> tuple[Replayer, list[str]]:
    """The follower's events, folded, and each rule that they broke."""
    told, faults = Replayer(), []
    for block in (heard.block for heard in recording.received()):
        if block.event == "conversation.snapshot":  # the worker may have found its Valkey gone
            faults += told.apply_snapshot(block.payload)
        else:
            faults += told.apply(block)
    return told, faults


async def asked_and_heard(port: int) -> tuple[str, str]:
    """The reply as a visitor received it, and as the API returns it."""
    visitor = Visitor(HOST, port)
    try:
        await visitor.begin_session()
        asked = await visitor.ask("Say hello in one sentence.")
        follower = visitor.follower(asked.conversation, cursor=asked.cursor)
        recording = await asyncio.wait_for(follower.follow(), REPLIED_WITHIN)
        assert recording.whole
        told, faults = retold(recording)
        assert faults == []
        truth = await visitor.conversation(asked.conversation)
        replies = [m["content"] for m in truth["messages"] if m["run"] == asked.run]
        return told.text(asked.run), replies[-1]
    finally:
        await visitor.close()


async def test_a_fresh_copy_answers_with_the_real_model_and_ends_at_control_c(copy: Path) -> None:
    port = free_port()
    async with running(copy, port) as part:
        heard, stored = await asked_and_heard(port)
        assert heard == stored
        assert heard.strip()
        family = psutil.Process(part.pid).children(recursive=True)
        control_c(part)
        await part.ended(within=ENDED_WITHIN)
        assert alive(family) == []
        assert not listens(port)


async def test_a_fresh_copy_runs_behind_pushpin_where_a_setting_says_so(copy: Path) -> None:
    port, held = free_port(), free_port()
    grip = f"http://{HOST}:{free_port()}/?key={secrets.token_hex()}"
    async with running(copy, port, GRIP_URL=grip, PUSHPIN_PORT=str(held)) as part:
        heard, stored = await asked_and_heard(held)
        assert heard == stored
        assert heard.strip()
        family = psutil.Process(part.pid).children(recursive=True)
        assert {"condure", "zurl"} <= {process.name() for process in family}
        control_c(part)
        await part.ended(within=ENDED_WITHIN)
        assert alive(family) == []
        assert not listens(held)


@pytest.mark.parametrize("end", [control_c, a_part_dies])
async def test_a_reply_interrupted_by_the_shutdown_resumes_at_the_next_start(
    copy: Path, end: Callable[[Process], None]
) -> None:
    port = free_port()
    visitor = Visitor(HOST, port)
    try:
        async with running(copy, port) as part:
            await visitor.begin_session()
            asked = await visitor.ask("Tell me a very long story about a river and a mountain.")
            follower = visitor.follower(asked.conversation, cursor=asked.cursor)
            following = asyncio.create_task(follower.follow())
            await follower.wait_for(
                lambda heard: heard.block.event == "text.delta", within=REPLIED_WITHIN
            )
            end(part)
            await part.ended(within=ENDED_WITHIN)
        async with running(copy, port):
            await asyncio.wait_for(following, REPLIED_WITHIN)
            run = await visitor.run(asked.run)
            truth = await visitor.conversation(asked.conversation)
    finally:
        await visitor.close()
    replies = [m["content"] for m in truth["messages"] if m["run"] == asked.run]
    told, faults = retold(follower.recording)
    assert (run["status"], faults, told.text(asked.run)) == ("completed", [], replies[-1])


async def test_two_copies_on_two_ports_do_not_collide(copy: Path) -> None:
    first, second = free_port(), free_port()
    async with running(copy, first), running(copy, second) as beside:
        await beside.wait_for_log(f"data/port-{second}", within=1)
        for heard, stored in await asyncio.gather(asked_and_heard(first), asked_and_heard(second)):
            assert heard == stored


async def test_a_copy_with_a_high_log_level_starts_normally(copy: Path) -> None:
    async with running(copy, free_port(), LOG_LEVEL="ERROR") as part:
        control_c(part)
        await part.ended(within=ENDED_WITHIN)


async def test_no_process_survives_when_make_run_is_killed(copy: Path) -> None:
    async with running(copy, free_port()) as part:
        family = psutil.Process(part.pid).children(recursive=True)
        part.kill()
        await until(lambda: not alive(family), within=ENDED_WITHIN, what="the end of every part")


async def test_no_process_survives_when_its_terminal_is_closed(copy: Path) -> None:
    """make leads the terminal's session here, and does not pass SIGHUP on."""
    terminal = (sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])")
    async with running(copy, free_port(), *terminal) as part:
        family = psutil.Process(part.pid).children(recursive=True)
        assert len(family) > 5
        part.kill()
        await until(lambda: not alive(family), within=ENDED_WITHIN, what="the end of every part")


async def test_a_port_in_use_is_reported_and_leaves_nothing_behind(copy: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        part = make_run(copy, port, {})
        part.start()
        await part.ended(within=STARTED_WITHIN)
        assert f"Port {port} cannot be had" in part.tail()


async def test_a_data_folder_with_any_name_works(copy: Path) -> None:
    port = free_port()
    folder = copy / "d" / ("漢" * 60 + "a,b#50%25?x=1")
    async with running(copy, port, DATA_DIR=str(folder)):
        heard, stored = await asked_and_heard(port)
        assert heard == stored
        assert (folder / "db.sqlite3").exists()
