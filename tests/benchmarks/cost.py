"""What a process spends: processor time, writes, memory, threads; and on which core it may."""

from __future__ import annotations

import os
import time

import psutil

MEASURED, ELSE = 0, 1  # the core of the process that is measured, and of all others


class Cost:
    """What one process has spent since `begin()`."""

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
        # `clock_getcpuclockid` of POSIX, which Python lacks: nanoseconds, where /proc has ticks.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    @property
    def seconds(self) -> float:
        """Of processor time."""
        return self._now() - self._spent

    @property
    def share(self) -> float:
        """Of one core, in percent."""
        return 100 * self.seconds / max(0.001, time.monotonic() - self._begun)

    @property
    def memory(self) -> int:
        """Bytes of its own: what would be free without it."""
        return int(self._process.memory_full_info().uss)

    @property
    def threads(self) -> int:
        return int(self._process.num_threads())


def pin(core: int, *pids: int) -> None:
    """Keep these processes, and what they start from now on, on this core, if there is one."""
    if (os.cpu_count() or 1) > core:
        for pid in pids:
            for thread in psutil.Process(pid).threads():
                os.sched_setaffinity(thread.id, {core})
