"""The supervisor of `make run`, with small commands in place of the service's processes."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.dev.supervisor import LAST_LINES, ProcessExited, Supervisor

CHECKOUT = Path(__file__).resolve().parents[2]
WITHIN = 20.0  # seconds; they bound a busy machine and measure nothing
QUIET = "echo 'The web process listens on 127.0.0.1 port 8000'; exec sleep 600"
# It releases its runs at SIGTERM, if the server is still there.
WORKER = (
    "trap 'kill -0 $(cat server.pid) && echo released > released; exit 0' TERM;"
    " echo 'The worker takes runs'; while true; do sleep 0.05; done"
)
SERVER = "echo $$ > server.pid; echo 'The model listens on a port'; exec sleep 600"
LINES = 20_000  # together more than the 64 KB that a pipe holds
Start = Callable[..., Supervisor]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a supervisor with these lines of a Procfile."""
    made: list[Supervisor] = []
    lock = os.open(tmp_path / "run.lock", os.O_CREAT | os.O_RDWR)

    def supervisor(**lines: str) -> Supervisor:
        text = "".join(f"{name}: {command}\n" for name, command in lines.items())
        (tmp_path / "Procfile").write_text(text)
        made.append(Supervisor(tmp_path, lock=lock))
        return made[-1]

    yield supervisor
    for one in made:
        one.kill()
        one.end()
    os.close(lock)


def test_a_process_is_ready_at_its_ready_line_whatever_follows(
    start: Start,
) -> None:
    many = f"echo 'The worker takes runs'; seq {2 * LAST_LINES}; exec sleep 600"
    log_line = "echo '12:00:01 INFO a log line: The bridge listens on it'; exec sleep 600"
    idle = "echo 'The embedded model is not needed: OPENAI_API_KEY is set.'; exec sleep 600"
    started = start(worker=many, bridge=log_line, model=idle, web=QUIET)
    assert started.wait(lambda: started.ready == {"worker", "model", "web"}, WITHIN)
    assert started.wait(lambda: f"{2 * LAST_LINES}" in started.lines["worker"], WITHIN)
    assert started.wait(lambda: len(started.lines["bridge"]) == 1, WITHIN)
    assert started.ready == {"worker", "model", "web"}
    assert started.lines["worker"][0] == f"{LAST_LINES + 1}"


def test_a_process_that_exits_is_reported_with_its_last_lines(start: Start) -> None:
    started = start(web=QUIET, worker="echo no database; exit 3")
    with pytest.raises(ProcessExited) as exited:
        started.wait(lambda: False, WITHIN)
    started.end()
    assert (exited.value.name, list(started.lines["worker"])) == ("worker", ["no database"])


def test_the_worker_stops_before_the_servers_that_it_needs(start: Start, tmp_path: Path) -> None:
    started = start(model=SERVER, worker=WORKER)
    assert started.wait(lambda: started.ready == {"model", "worker"}, WITHIN)
    started.end()
    assert (tmp_path / "released").read_text() == "released\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "server.pid").read_text()), 0)


def test_a_process_that_ignores_sigterm_is_killed(
    start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("config.dev.supervisor.KILL_AFTER", 0.2)
    started = start(web=f"trap '' TERM; {QUIET}")
    assert started.wait(lambda: started.ready == {"web"}, WITHIN)
    started.end()
    assert "Some processes did not stop in time and are killed." in capfd.readouterr().out


def test_each_line_is_printed_with_the_time_and_the_name_of_its_process(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    once_loud = "cat; until [ -e loud ]; do sleep 0.05; done"
    started = start(
        web=f"{once_loud}; echo a line; exec sleep 600",
        worker=f"{once_loud}; seq 200; exec sleep 600",
    )
    started.loud = True
    (tmp_path / "loud").touch()
    assert started.wait(lambda: "200" in started.lines["worker"], WITHIN)
    assert started.wait(lambda: "a line" in started.lines["web"], WITHIN)
    started.end()
    printed = [line.split(" ", 1) for line in capfd.readouterr().out.splitlines()]
    times, lines = zip(*printed, strict=True)
    assert all(time.strptime(moment, "%H:%M:%S") for moment in times)
    assert sorted(lines) == sorted(
        ["web    | a line", *(f"worker | {number}" for number in range(1, 201))]
    )


def test_the_processes_of_a_killed_supervisor_end(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(f"model: {SERVER}\n")
    program = (
        "import sys, time; from pathlib import Path; from config.dev.supervisor import Supervisor;"
        "Supervisor(Path(sys.argv[1]), lock=0).wait(lambda: False, 600)"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=CHECKOUT)
    pid_file = tmp_path / "server.pid"
    end = time.monotonic() + WITHIN
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)
    server = os.pidfd_open(int(pid_file.read_text()))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    try:
        assert select.select([server], [], [], WITHIN)[0] == [server]  # it has ended
    finally:
        os.close(server)


def test_a_process_goes_on_where_nothing_can_be_printed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes more than a pipe holds after the reader of `make run`'s output has gone."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as output:
        started = start(web=f"sleep 0.2; seq {LINES}; echo done; exec sleep 600")
        monkeypatch.setattr(sys, "stdout", output)
        started.loud = True
        assert started.wait(lambda: "done" in started.lines["web"], WITHIN)
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            output.close()
