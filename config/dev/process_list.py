"""The file that lists the running processes of `make run`: `run.processes` in the data folder.

`make run` stops its processes; if `make run` is killed, honcho stops them. If both are killed at
once, the processes stay without a supervisor. The next start finds them here and tells the user
how to stop them.
"""

import os
from pathlib import Path

GONE = "gone"


class ProcessList:
    """A line for each process: its name, its id, the id of its `make run`, and both start times."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "run.processes"

    def add(self, name: str, pid: int) -> None:
        """Record a process that this process has started."""
        with self._file.open("a") as lines:
            lines.write(f"{name} {pid} {os.getpid()} {began(pid)} {began(os.getpid())}\n")

    def clear(self) -> None:
        """Delete the file, because all processes in it have ended."""
        self._file.unlink(missing_ok=True)

    def left_behind(self) -> str | None:
        """Return what to do about processes that outlived their `make run`, or None without any."""
        alive: dict[str, str] = {}
        try:
            lines = self._file.read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            try:
                name, pid, owner, part_began, owner_began = line.split()
                if began(int(owner)) == owner_began != GONE:
                    return None  # this `make run` still watches its processes
                if began(int(pid)) == part_began != GONE:
                    alive[name] = pid
            except ValueError:
                continue  # `make run` was killed while it wrote this line
        if not alive:
            return None
        groups = " ".join(f"-{pid}" for pid in alive.values())
        return (
            f"An earlier `make run` was killed, and left running: {', '.join(alive)}."
            f" End them with `kill -- {groups}`, then start again."
        )


def began(pid: int) -> str:
    """Return the start time of this process in kernel ticks, or `GONE` if it has ended.

    The kernel reuses process ids; the id and the start time together identify one process. Outside
    Linux the start time is unknown, and the result is `alive`.
    """
    stat = Path(f"/proc/{pid}/stat")
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        if not Path("/proc/self/stat").exists():  # not Linux
            return "alive" if _exists(pid) else GONE
        return GONE
    return GONE if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
