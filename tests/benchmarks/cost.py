"""Measures a process's processor time, writes, memory and threads; pins processes to cores."""

from __future__ import annotations

import os
import time

import psutil

MEASURED, ELSE = 0, 1  # the core of the measured process, and the core of all others


class Cost:
    """The resources that one process has used since `begin()`."""

    def __init__(self, pid: int | None = None) -> None:
        self._process = psutil.Process(pid or os.getpid())
        self._begun = self._spent = 0.0
        self._written = 0

    def begin(self) -> Cost:
        self._begun, self._spent = time.monotonic(), self._now()
        self._written = self._process.io_counters().write_count
        return self

    @property
    def writes(self) -> int:
        """System calls that write. A write to a reader may hold several events."""
        return int(self._process.io_counters().write_count) - self._written

    def _now(self) -> float:
        # `clock_getcpuclockid` of POSIX, which Python lacks. It has nanoseconds; /proc has ticks.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    @property
    def seconds(self) -> float:
        """Processor time in seconds."""
        return self._now() - self._spent

    @property
    def share(self) -> float:
        """Processor time in percent of one core."""
        return 100 * self.seconds / max(0.001, time.monotonic() - self._begun)

    @property
    def memory(self) -> int:
        """The process's own bytes, which would be free without it."""
        return int(self._process.memory_full_info().uss)

    @property
    def threads(self) -> int:
        return int(self._process.num_threads())


def pin(core: int, *pids: int) -> None:
    """Pin these processes, and all that they start later, to this core, if the machine has it."""
    if (os.cpu_count() or 1) > core:
        for pid in pids:
            for thread in psutil.Process(pid).threads():
                os.sched_setaffinity(thread.id, {core})
