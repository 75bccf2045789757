"""The Procfile's parts as one running whole: who is ready, who has ended, what each said last.

honcho starts them and passes their lines on. What it says of their process ids is kept, so that
they can be ended even if honcho itself was killed.
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
from config.parts_file import PartsFile

LAST_LINES = 20  # of each part, shown if it dies at start
HANDING_OVER = 3.5  # seconds in which the worker gives its replies back, the rest still running
ENDING = 9.0  # seconds until whoever is left is killed
LINE = re.compile(r"^\S+ (?P<name>[\w-]+)(?:\.\d+)?\s*\| (?P<text>.*)$")
READY = re.compile(r"^(The [a-z ]+|Pushpin) (listens on|takes runs|is not needed)")
NEWS = re.compile(
    r"^(?P<name>[\w-]+)\.\d+ (?P<what>started|stopped) \((?:pid|rc)=(?P<number>-?\d+)\)"
)


class ProcessExited(Exception):
    """A part has ended by itself, and honcho is ending the others: say so, and stop."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Supervisor:
    """Started at once; `end` leaves no process behind."""

    def __init__(self, checkout: Path, port: int, *, lock: int, file: PartsFile) -> None:
        self.file = file
        self.groups: dict[str, int] = {}  # a part's process id, which is its group's too
        self.stopped: dict[str, int] = {}  # in the order in which they ended
        self.lines: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LAST_LINES))
        self.ready: set[str] = set()  # those that have said so; Valkey never does
        self.loud = False  # whether the parts' lines are shown as they come
        self.changed = Condition()
        environment = dict(os.environ)
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment["PYTHONUNBUFFERED"] = "1"
        # honcho holds both ends: were we killed, its first word would otherwise be its last, and
        # it would end nobody.
        heard, spoken = os.pipe()
        # An .env file is for those who call honcho themselves: here it would overrule DATA_DIR.
        honcho = [sys.executable, "-m", "honcho", "-e", os.devnull, "start", "-p", str(port)]
        self.honcho = subprocess.Popen(
            honcho,
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=spoken,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C is ours to pass on, in order
            pass_fds=[heard, lock],  # the data folder is in use until the last of them has ended
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        os.close(spoken)
        self.reader = Thread(target=self.read, args=[heard], daemon=True)
        self.reader.start()

    def read(self, heard: int) -> None:
        with open(heard, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self.hear(line.rstrip("\n"))
        with self.changed:
            self.changed.notify_all()

    def hear(self, line: str) -> None:
        match = LINE.match(line)
        name, text = (match["name"], match["text"]) if match else ("system", line)
        with self.changed:
            news = NEWS.match(text) if name == "system" else None
            if news and news["what"] == "started":
                self.groups[news["name"]] = int(news["number"])
                self.file.add(news["name"], int(news["number"]))
            elif news:
                self.stopped[news["name"]] = int(news["number"])
            if READY.match(text):
                self.ready.add(name)
            self.lines[name].append(text)
            self.changed.notify_all()
        if self.loud and name != "system":
            print(line, flush=True)

    def wait(self, question: Callable[[], bool], seconds: float) -> bool:
        """Whether it came true in time. Raises Died where a part ended instead."""
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
        """End the worker first, while the others still take what it gives back; then everybody."""
        start = time.monotonic()
        if "worker" in self.groups and self.honcho.poll() is None:
            self.send(signal.SIGTERM, "worker")
            with self.changed:
                self.changed.wait_for(lambda: self.stopped, HANDING_OVER)
        self.honcho.terminate()
        try:
            self.honcho.wait(max(0.1, start + ENDING - time.monotonic()))
        except subprocess.TimeoutExpired:
            print("Some parts did not end in time, and are killed.", flush=True)
        self.kill()

    def kill(self) -> None:
        """Leave nobody, whatever state they are in."""
        self.send(signal.SIGKILL, *(name for name in self.groups if name not in self.stopped))
        try:
            os.killpg(self.honcho.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended, and its helpers with it
        self.honcho.wait()
        self.reader.join(1.0)
        self.file.clear()

    def send(self, sig: signal.Signals, *names: str) -> None:
        for name in names:
            try:
                os.killpg(self.groups[name], sig)
            except ProcessLookupError:
                pass  # it has ended by itself
