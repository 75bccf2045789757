"""The supervisor of `make run`: which processes are ready, which have exited, and their output.

honcho starts the lines of the Procfile and forwards their output. The supervisor records the
process ids that honcho prints, so it can stop the processes even if honcho was killed.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Thread

from config.dev.child_process import die_with_parent
from config.dev.process_list import ProcessList

LAST_LINES = 20  # of each process, printed if it exits at the start
RELEASE_TIME = 3.5  # seconds for the worker to release its runs while the others still run
KILL_AFTER = 9.0  # seconds until the remaining processes are killed
LINE = re.compile(r"^\S+ (?P<name>[\w-]+)(?:\.\d+)?\s*\| (?P<text>.*)$")
READY = re.compile(r"^(The [a-z ]+|Pushpin) (listens on|takes runs|is not needed)")
STARTED_OR_STOPPED = re.compile(
    r"^(?P<name>[\w-]+)\.\d+ (?P<what>started|stopped) \((?:pid|rc)=(?P<number>-?\d+)\)"
)


class ProcessExited(Exception):
    """A process has exited on its own, and honcho stops the others. Print its name, then stop."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Supervisor:
    """Starts the processes when it is created. `end` stops them all."""

    def __init__(self, checkout: Path, port: int, *, lock: int, file: ProcessList) -> None:
        self.file = file
        self.groups: dict[str, int] = {}  # process ids, which are the ids of process groups too
        self.stopped: dict[str, int] = {}  # exit statuses, in the order of the exits
        self.lines: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LAST_LINES))
        self.ready: set[str] = set()  # the processes that have printed so; Valkey never does
        self.loud = False  # whether the processes' lines are printed as they arrive
        self.changed = Condition()
        environment = dict(os.environ)
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment["PYTHONUNBUFFERED"] = "1"
        # honcho inherits both ends of the pipe. If this process is killed, honcho can still write,
        # and so it stops the other processes instead of dying at its first line.
        read_end, write_end = os.pipe()
        # No .env file: it would override DATA_DIR.
        honcho = [sys.executable, "-m", "honcho", "-e", os.devnull, "start", "-p", str(port)]
        self.honcho = subprocess.Popen(
            honcho,
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone: it stops the others
            pass_fds=[read_end, lock],  # the data folder stays locked until the last process exits
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        os.close(write_end)
        self.reader = Thread(target=self.read, args=[read_end], daemon=True)
        self.reader.start()

    def read(self, read_end: int) -> None:
        """Handle each line of honcho's output. Runs in a thread."""
        with open(read_end, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self.hear(line.rstrip("\n"))
        with self.changed:
            self.changed.notify_all()

    def hear(self, line: str) -> None:
        """Handle one line: a process started, stopped, became ready, or printed something."""
        match = LINE.match(line)
        name, text = (match["name"], match["text"]) if match else ("system", line)
        with self.changed:
            change = STARTED_OR_STOPPED.match(text) if name == "system" else None
            if change and change["what"] == "started":
                self.groups[change["name"]] = int(change["number"])
                self.file.add(change["name"], int(change["number"]))
            elif change:
                self.stopped[change["name"]] = int(change["number"])
            if READY.match(text):
                self.ready.add(name)
            self.lines[name].append(text)
            self.changed.notify_all()
        if self.loud and name != "system":
            print(line, flush=True)

    def wait(self, question: Callable[[], bool], seconds: float) -> bool:
        """Wait until `question` is true. Return False after `seconds`.

        Raises `ProcessExited` if a process has exited on its own.
        """
        end = time.monotonic() + seconds
        while not question():
            if self.stopped or self.honcho.poll() is not None:
                raise ProcessExited(next(iter(self.stopped), "honcho"))
            if time.monotonic() > end:
                return False
            with self.changed:
                self.changed.wait(0.1)
        return True

    def end(self) -> None:
        """Stop the worker first, because it needs Valkey and the database to release its runs."""
        start = time.monotonic()
        if "worker" in self.groups and self.honcho.poll() is None:
            self.send(signal.SIGTERM, "worker")
            with self.changed:
                self.changed.wait_for(lambda: self.stopped, RELEASE_TIME)
        self.honcho.terminate()
        try:
            self.honcho.wait(max(0.1, start + KILL_AFTER - time.monotonic()))
        except subprocess.TimeoutExpired:
            print("Some processes did not stop in time and are killed.", flush=True)
        self.kill()

    def kill(self) -> None:
        """Kill every process that has not stopped."""
        self.send(signal.SIGKILL, *(name for name in self.groups if name not in self.stopped))
        try:
            os.killpg(self.honcho.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # honcho and its helpers have ended
        self.honcho.wait()
        self.reader.join(1.0)
        self.file.clear()

    def send(self, sig: signal.Signals, *names: str) -> None:
        """Send a signal to the process groups of these processes."""
        for name in names:
            try:
                os.killpg(self.groups[name], sig)
            except ProcessLookupError:
                pass  # it has already ended
