"""The supervisor of `make run`: starts the lines of the Procfile, prints their output, stops them.

Each line runs in its own session, so Ctrl-C reaches only the supervisor. If the supervisor is
killed, the kernel sends SIGTERM to each process (Linux only).
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from threading import Condition, Thread

from config.dev.child_process import die_with_parent

LAST_LINES = 20  # of each process, printed if it exits at the start
RELEASE_TIME = 3.5  # seconds for the workers to release their runs while the others still run
KILL_AFTER = 9.0  # seconds until the remaining processes are killed
FIRST = ("worker", "agents")  # they need Valkey and the database to release their runs
COLOURS = (36, 33, 32, 35, 34, 31)  # ANSI: cyan, yellow, green, magenta, blue, red
READY = re.compile(r"^(The [a-z ]+|Pushpin) (listens on|takes runs|is not needed)")


class ProcessExited(Exception):
    """A process has exited on its own. Print its last lines, then stop the others."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Supervisor:
    """Starts the processes when it is created, in the main thread. `end` stops them all."""

    def __init__(self, checkout: Path, *, lock: int) -> None:
        commands = dict(
            line.split(": ", 1) for line in (checkout / "Procfile").read_text().splitlines()
        )
        self.lines = {name: deque[str](maxlen=LAST_LINES) for name in commands}
        self.ready: set[str] = set()  # processes that have printed a READY line; Valkey never does
        self.loud = False  # whether the processes' lines are printed as they arrive
        self._changed = Condition()
        # A preexec_fn is safe only without other threads, so the readers start after all processes.
        started = {name: _start(command, checkout, lock) for name, command in commands.items()}
        self._processes = {name: process for name, (process, _) in started.items()}
        self._readers = []
        for (name, (_, output)), colour in zip(started.items(), cycle(COLOURS), strict=False):
            prefix = f"{name:<{max(map(len, commands))}} | "
            if sys.stdout.isatty():
                prefix = f"\033[{colour}m{prefix}\033[0m"
            reader = Thread(target=self._read, args=(name, output, prefix), daemon=True)
            self._readers.append(reader)
            reader.start()

    def wait(self, question: Callable[[], bool], seconds: float) -> bool:
        """Wait until `question` is true. Return False after `seconds`.

        Raises `ProcessExited` if a process has exited on its own.
        """
        end = time.monotonic() + seconds
        while not question():
            if ended := self._processes.keys() - self._running():
                raise ProcessExited(min(ended))
            if time.monotonic() > end:
                return False
            with self._changed:
                self._changed.wait(0.1)
        return True

    def end(self) -> None:
        """Stop the processes of `FIRST`, then all others. Kill what does not stop in time."""
        start = time.monotonic()
        self._stop([name for name in FIRST if name in self._processes], start + RELEASE_TIME)
        self._stop(list(self._processes), start + KILL_AFTER)
        if self._running():
            print("Some processes did not stop in time and are killed.", flush=True)
        self.kill()
        for process in self._processes.values():
            process.wait()
        for reader in self._readers:
            reader.join(1.0)

    def kill(self) -> None:
        """Kill every process that has not stopped."""
        for name in self._running():
            self._send(signal.SIGKILL, name)

    def _running(self) -> list[str]:
        return [name for name, process in self._processes.items() if process.poll() is None]

    def _stop(self, names: list[str], end: float) -> None:
        for name in names:
            if name in self._running():
                self._send(signal.SIGTERM, name)
        for name in names:
            try:
                self._processes[name].wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                return

    def _send(self, number: signal.Signals, name: str) -> None:
        try:
            os.killpg(self._processes[name].pid, number)
        except ProcessLookupError:
            pass  # it has just ended

    def _read(self, name: str, output: int, prefix: str) -> None:
        """Handle each line of one process's output. Runs in a thread."""
        with open(output, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                text = line.rstrip("\n")
                if self.loud:
                    # One write for text and line end, because other threads print meanwhile.
                    moment = time.strftime("%H:%M:%S")
                    # Even if nothing can be printed any more, read on, or the process blocks.
                    with suppress(OSError):
                        print(f"{moment} {prefix}{text}\n", end="", flush=True)
                with self._changed:
                    if READY.match(text):
                        self.ready.add(name)
                    self.lines[name].append(text)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def _start(command: str, checkout: Path, lock: int) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a line of the Procfile. Return the process and the reading end of its output."""
    # The process inherits both ends of the pipe. So it can still write after the supervisor was
    # killed, and stops in order instead of dying at its next line of output.
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        command,
        shell=True,
        cwd=checkout,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=write_end,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=[read_end, lock],  # the data folder stays locked until the last process exits
        preexec_fn=die_with_parent(signal.SIGTERM),
    )
    os.close(write_end)
    return process, read_end
