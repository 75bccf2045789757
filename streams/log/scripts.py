"""The Lua scripts of the event log, one for each operation (scripts/*.lua), with their SHA1."""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from hashlib import sha1
from pathlib import Path

FOLDER = Path(__file__).with_name("scripts")


class Operation(StrEnum):
    """An operation on one channel's log; its script has the same name."""

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
class Script:
    """The text of a script, and the SHA1 by which Redis knows it once it is loaded."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


PRELUDE = (FOLDER / "prelude.lua").read_text()
SCRIPTS = {
    operation: Script(PRELUDE + (FOLDER / f"{operation}.lua").read_text())
    for operation in Operation
}
