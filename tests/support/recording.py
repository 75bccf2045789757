"""The record of one follower: every block of all its connections, as received."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from tests.support.sse_blocks import Block


class Ended(StrEnum):
    """How a connection ended, as its reader saw it."""

    OPEN = "open"
    CLOSED = "closed"  # by the server, with its last chunk
    BROKEN = "broken"  # in the middle of a response, by a fault
    DROPPED = "dropped"  # by the reader
    UNANSWERED = "unanswered"  # refused, or lost before a status line


@dataclass(frozen=True, slots=True)
class Received:
    """One complete block, and when it arrived (monotonic seconds)."""

    block: Block
    at: float


@dataclass(slots=True)
class Connection:
    """One request for the stream. `status` is 0 while there was no answer."""

    requested_at: float
    cursor: str | None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    rest: bytes = b""  # an incomplete last block: never dispatched
    ended: Ended = Ended.OPEN
    ended_at: float = 0.0


@dataclass(slots=True)
class Recording:
    """The connections of one follower. `whole`: it read until 204."""

    conversation: str
    connections: list[Connection] = field(default_factory=list)
    whole: bool = False

    def received(self) -> Iterator[Received]:
        for connection in self.connections:
            yield from connection.received

    def cursor(self) -> int | None:
        """The last id received, as an EventSource would remember it. None if there is none."""
        for connection in reversed(self.connections):
            for heard in reversed(connection.received):
                if heard.block.id is not None:
                    return heard.block.id
        return None
