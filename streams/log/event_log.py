"""The event logs of all channels, and the one instance of this process."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any
from uuid import UUID

from streams.log.channel_log import ChannelLog, log_limits, state_key
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable
from streams.log.library import Operation
from streams.log.servers import Arguments, Servers
from streams.log.sharding import server_of
from streams.log.slots import slot_arguments
from streams.log.values import Append, Watermark
from streams.protocol.events import TextSnapshot
from streams.protocol.sse import encode


class EventLog:
    """The logs of all channels.

    `append` and `ask_server` raise `LogUnavailable` if Redis does not answer.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    def channel(self, channel: str, min_head: int = 0) -> ChannelLog:
        """The log of one channel, for a caller that knows events up to `min_head`."""
        return ChannelLog(self._servers, channel, min_head)

    def append(self, pieces: Sequence[Append]) -> list[int | Exception]:
        """Append the pieces in one round trip, in order. Returns the id or exception of each.

        All their channels must be on one server. The exceptions are `Superseded`, `FenceMissing`,
        `LogUnverified` and `LogCorrupted`.
        """
        now, limits = self._servers.clock(), log_limits()  # the same for all pieces of a trip
        calls = [_append_call(piece, now, limits) for piece in pieces]
        return [
            answer if isinstance(answer, Exception) else int(answer[1])
            for answer in self._servers.run(pieces[0].channel, Operation.APPEND, calls)
        ]

    def verify(self, reached: Sequence[Watermark]) -> None:
        """After a restart of Redis, check that each log still holds all that its attempt knows.

        A log that has lost events begins a new epoch. Servers that do not answer are skipped.
        """
        for server in {server_of(reach.channel) for reach in reached}:
            marks = [reach for reach in reached if server_of(reach.channel) == server]
            calls = [self.channel(r.channel, r.head).call(r.run, r.attempt) for r in marks]
            with suppress(LogUnavailable):
                self._servers.run(marks[0].channel, Operation.VERIFY, calls)

    def ask_server(self, server: int, *words: str) -> Any:
        """The server's answer to an administrative command, such as INFO."""
        return self._servers.command(server, *words)


def _append_call(piece: Append, now: int, limits: str) -> Arguments:
    """The arguments that `ChannelLog.call` would return for one piece, built at less cost."""
    event, write = piece.event, piece.write
    call = [1, state_key(piece.channel), piece.min_head, now, limits, str(event.run)]
    call += event.type, encode(event), event.attempt, event.index
    if write:
        call += "append" if write.append else "set", write.slot, write.payload
        return call
    assert isinstance(event, TextSnapshot)
    return [*call, "replace", *slot_arguments(event.parts)]


@cache
def the_log() -> EventLog:
    """The one `EventLog` of this process: all threads share its connections."""
    return EventLog(Servers())


def log_of(conversation: UUID, min_head: int = 0) -> ChannelLog:
    """The log of one conversation, for a caller that knows events up to `min_head`."""
    return the_log().channel(channel_of(conversation), min_head)
