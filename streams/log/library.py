"""The library of Redis Functions that holds the event log's operations (scripts/*.lua).

A library belongs to its server process, so it can keep the process's run_id in a variable. A script
of EVAL would have to query it in each call. The library's name has a digest of its text, so no
library is ever replaced. During a deploy, the processes of each version call their own library.
"""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).with_name("scripts")


class Operation(StrEnum):
    """An operation on one channel's log; its file has the same name."""

    APPEND_ONCE = auto()
    APPEND_START = auto()
    RESTORE_FENCE = auto()
    APPEND = auto()
    VERIFY = auto()
    SEAL = auto()
    APPEND_FINAL = auto()
    STATE = auto()
    REPAIR = auto()
    READ_AFTER = auto()
    RELEASE_RUN = auto()
    DELETE = auto()


@dataclass(frozen=True, slots=True)
class Library:
    """A library: the Lua text of its operations, and its name."""

    operations: str
    name: str = field(init=False)

    def __post_init__(self) -> None:
        digest = sha256(self.operations.encode()).hexdigest()[:16]
        object.__setattr__(self, "name", f"unspool_{digest}")

    @property
    def text(self) -> str:
        """The argument of FUNCTION LOAD. Each function is named `<name>_<operation>`."""
        return f"#!lua name={self.name}\nlocal LIBRARY = '{self.name}'\n{self.operations}"


LIBRARY = Library("".join((FOLDER / f"{file}.lua").read_text() for file in ("prelude", *Operation)))
