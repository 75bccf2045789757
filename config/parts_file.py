"""The file that names the running parts of `make run`: `run.parts` in the data folder.

`make run` ends its parts, and honcho does where `make run` was killed. Where both are killed at
once, the parts run on without a supervisor. The next start finds them here and says how to end
them.
"""

import os
from pathlib import Path

GONE = "gone"


class PartsFile:
    """A line for each part: its name, its process id, and when that process began."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "run.parts"

    def add(self, name: str, pid: int) -> None:
        with self._file.open("a") as lines:
            lines.write(f"{name} {pid} {os.getpid()} {began(pid)} {began(os.getpid())}\n")

    def clear(self) -> None:
        self._file.unlink(missing_ok=True)

    def left_behind(self) -> str | None:
        """What to do about parts whose `make run` has gone; None where there are none."""
        alive: dict[str, str] = {}
        try:
            lines = self._file.read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            try:
                name, pid, owner, part_began, owner_began = line.split()
                if began(int(owner)) == owner_began != GONE:
                    return None  # it watches its parts
                if began(int(pid)) == part_began != GONE:
                    alive[name] = pid
            except ValueError:
                continue  # its writer was killed within the line
        if not alive:
            return None
        groups = " ".join(f"-{pid}" for pid in alive.values())
        return (
            f"An earlier `make run` was killed, and left running: {', '.join(alive)}."
            f" End them with `kill -- {groups}`, then start again."
        )


def began(pid: int) -> str:
    """When this process began, in the kernel's ticks; `gone` where there is none or a zombie.

    A process id is given again: together with the start it names one process alone.
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
