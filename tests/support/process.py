"""One real process of the service, which a test can start, kill, freeze and replace."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.support.waiting import until


class Process:
    """A command in its own process group, with its output in the file `log`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        log: Path,
    ) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.directory = directory
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise LookupError(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if self.running:
            raise RuntimeError(f"{self.name} is running already")
        with self.log.open("ab") as words:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL the whole group, and reap it."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def terminate(self) -> None:
        """SIGTERM the whole group, as a platform or honcho does."""
        self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    async def ended(self, *, within: float) -> float:
        """Wait until the process has ended by itself. Returns the seconds that this took."""
        begun = time.monotonic()
        await until(lambda: not self.running, within=within, what=f"the end of {self.name}")
        return time.monotonic() - begun

    async def wait_for_log(self, text: str, *, within: float) -> None:
        """Wait until `text` is in the log. Text from an earlier start counts too."""
        await until(
            lambda: self.log.exists() and text in self.log.read_text(errors="replace"),
            within=within,
            what=f"{text!r} in the log of {self.name}",
        )

    def memory(self) -> int:
        """The resident memory in bytes, with all children."""
        process = psutil.Process(self.pid)
        return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])

    def processor(self) -> float:
        """Seconds of processor time that it has used."""
        used = psutil.Process(self.pid).cpu_times()
        return float(used.user + used.system)

    def tail(self, lines: int = 40) -> str:
        """The last lines of the log, to explain a failure."""
        if not self.log.exists():
            return f"--- {self.name} said nothing"
        words = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"--- {self.name}", *words])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return  # it has gone already, with all of its children


def alive(process: psutil.Process) -> bool:
    """Whether it still runs. A zombie does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
