"""The event log of one channel: an ordered, expiring list of events in Redis.

A channel has one Redis stream for its events and one hash for its state. Checking the fence,
assigning the id, appending, trimming and publishing are one function in Redis (scripts/*.lua). So
no reader can receive an event that the log does not hold. The events of a run are appended once,
even if the call is repeated.
"""

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.conf import settings

from streams.log.errors import LogCorrupted, Superseded
from streams.log.library import Operation
from streams.log.servers import Answer, Arguments, Servers
from streams.log.sharding import server_of
from streams.log.slots import parts_in, slot_arguments
from streams.log.values import (
    CursorGap,
    LogState,
    OnUnverified,
    Page,
    RunProgress,
    SealedReply,
)
from streams.log.verdicts import Verdict
from streams.protocol.events import (
    ConversationUpdated,
    Ending,
    MessageCreated,
    PartAdded,
    RunQueued,
    RunStarted,
    TextSnapshot,
)
from streams.protocol.parts import Part
from streams.protocol.sse import encode

PAGE_BYTES = 1024 * 1024  # bytes in one page of events, unless a single event is longer
# The events that are appended once for a run, and the name under which the state stores their id.
ONCE_PER_RUN = {MessageCreated.type: "message", RunQueued.type: "queued"}


def state_key(channel: str) -> str:
    """The key of the channel's state. The braces keep a channel in one slot of a Redis Cluster."""
    return f"{{{channel}}}:state"


def log_limits() -> str:
    """The limits in each call: events to keep, seconds until they expire, until the state does."""
    return f"{settings.LOG_EVENTS} {settings.LOG_TTL} {settings.LOG_STATE_TTL}"


class ChannelLog:
    """The log of one channel.

    `min_head` is the highest event id that the caller knows to be appended. If the log's head is
    lower, the log has lost events. `read_after` and `state` only report the loss; most other
    operations begin a new epoch. Methods raise `LogUnavailable` if Redis does not answer within
    REDIS_TIMEOUT, and `Superseded` if the conversation is deleted.
    """

    def __init__(self, servers: Servers, channel: str, min_head: int = 0) -> None:
        self._servers = servers
        self._channel = channel
        self._min_head = min_head

    def append_once(
        self, *events: ConversationUpdated | MessageCreated | RunQueued, run: UUID | None = None
    ) -> list[int]:
        """Append events that need no fence, in one round trip. Returns their ids.

        `message.created` and `run.queued` are appended once for each run; a repeated call returns
        the first id. Raises `LogUnverified` if the newest events may be missing.
        """
        calls = [
            self.call(run, event.type, encode(event), ONCE_PER_RUN.get(event.type, ""))
            for event in events
        ]
        answers = self._servers.run(self._channel, Operation.APPEND_ONCE, calls)
        return [int(_raise_error(answer)[1]) for answer in answers]

    def append_other(self, type: str, data: str) -> int:
        """Append an event of another application, which belongs to no run. Returns its id."""
        return int(self._run(Operation.APPEND_ONCE, None, type, data, "")[1])

    def append_start(self, event: RunStarted, *, abandoned: bool) -> int:
        """Append run.started and raise the fence, in one step. Returns the event's id.

        `abandoned`: the previous attempt did not record how far it came. Raises `Superseded` if a
        newer attempt has started, or the run has ended.
        """
        rest = (event.type, encode(event), event.attempt, "abandoned" if abandoned else "")
        return int(self._run(Operation.APPEND_START, event.run, *rest)[1])

    def restore_fence(self, run: UUID, attempt: int, *, index: int, parts: tuple[Part, ...]) -> int:
        """Restore a lost fence. Returns the log's last id.

        The caller must then append all parts as a `TextSnapshot`. Raises `Superseded` if a newer
        attempt has started, or the run has ended.
        """
        rest = (attempt, index, *slot_arguments(parts))
        return int(self._run(Operation.RESTORE_FENCE, run, *rest)[1])

    def seal(
        self,
        run: UUID,
        attempt: int,
        *,
        ended: bool = False,
        on_unverified: OnUnverified = OnUnverified.IGNORE,
    ) -> SealedReply:
        """Seal the run's reply, so that no attempt can append to it. Returns the reply.

        The call can be repeated. `ended`: the run's row says that the run ended in this attempt.
        Raises `Superseded` if a newer attempt has started, unless `ended`. `on_unverified` decides
        whether it raises `LogUnverified`.
        """
        rest = (attempt, on_unverified, "ended" if ended else "")
        answer = self._run(Operation.SEAL, run, *rest)
        _, known, slots_of, unpublished, index, slots, open_slot, payload, head, token = answer
        return SealedReply(
            known=bool(known),
            attempt=int(slots_of) if slots_of else None,
            parts=_parts_in(slots, open_slot, payload),
            published=not unpublished,
            index=int(index),
            head=int(head),
            token=token,
        )

    def append_final(
        self, event: Ending, *before: RunStarted | PartAdded | TextSnapshot, token: str
    ) -> int:
        """Append the events in `before`, then the final event. Returns the final event's id.

        A repeated call appends nothing. The caller has prepared the events for the `SealedReply`
        with this token. Raises `ReplyChanged` if the log no longer holds that reply, and
        `LogUnverified` if the newest events of another run may be missing.
        """
        encoded = [item for each in (*before, event) for item in (each.type, encode(each))]
        rest = (event.attempt, token, *encoded)
        return int(self._run(Operation.APPEND_FINAL, event.run, *rest)[1])

    def release_run(self, run: UUID) -> None:
        """Drop the log's data of a settled run, whose row has the final event's id."""
        self._run(Operation.RELEASE_RUN, run)

    def delete(self) -> None:
        """Delete the log for good. Every later call raises `Superseded`."""
        with suppress(Superseded):  # the log is deleted already
            self._run(Operation.DELETE, None)

    def state(self) -> LogState | None:
        """The channel's state now, read in one step.

        None if the log holds no epoch, or has lost events. The caller may then call `repair`.
        """
        verdict, *rest = self._run(Operation.STATE, None)
        if verdict == Verdict.LOST:
            return None
        fields, replies = rest
        state = dict(zip(fields[::2], fields[1::2], strict=True))
        recorded = {}
        for name, value in state.items():
            run, _, kind = name.partition(":")
            if kind in (*ONCE_PER_RUN.values(), "final"):
                recorded[UUID(run), kind] = int(value)
        runs = {
            UUID(run): RunProgress(
                attempt=int(state[f"{run}:attempt"]),
                parts=_parts_in(slots, state.get(f"{run}:open_slot", ""), payload),
            )
            for run, slots, payload in replies
        }
        return LogState(head=int(state["head"]), runs=runs, recorded=recorded)

    def repair(self) -> int:
        """Begin a new epoch if the log holds none, or has lost events. Returns the last id."""
        return int(self._run(Operation.REPAIR, None)[1])

    def read_after(self, cursor: int, *, count: int = 500) -> Page | CursorGap:
        """The events after the cursor: at most `count`, and at most PAGE_BYTES if more than one.

        Returns a `CursorGap` if the log cannot resume from the cursor.
        """
        verdict, *rest = self._run(Operation.READ_AFTER, None, cursor, count, PAGE_BYTES)
        if verdict != Verdict.OK:
            return CursorGap(reason=verdict)
        head, found = rest
        entries = [(int(id.partition("-")[0]), fields[1], fields[3]) for id, fields in found]
        return Page(head=int(head), entries=entries)

    def last(self) -> tuple[int, str, str] | None:
        """The last event that the log holds: its id, type and data. None if it holds none."""
        key = f"{{{self._channel}}}:events"
        server = server_of(self._channel)
        for id, event in self._servers.command(server, "XREVRANGE", key, "+", "-", "COUNT", 1):
            return int(id.partition("-")[0]), event["type"], event["data"]
        return None

    def call(self, run: UUID | None, *rest: Any) -> Arguments:
        """The key and the arguments of one call, in the order that prelude.lua gives."""
        now, run_id = self._servers.clock(), str(run or "")
        return [1, state_key(self._channel), self._min_head, now, log_limits(), run_id, *rest]

    def _run(self, operation: Operation, run: UUID | None, *rest: Any) -> Answer:
        (answer,) = self._servers.run(self._channel, operation, [self.call(run, *rest)])
        return _raise_error(answer)


def _parts_in(slots: list[str], open_slot: str, payload: str) -> tuple[Part, ...]:
    try:
        return parts_in(slots, open_slot, payload)
    except ValueError as error:
        raise LogCorrupted from error


def _raise_error(answer: Answer | Exception) -> Answer:
    if isinstance(answer, Exception):
        raise answer
    return answer
