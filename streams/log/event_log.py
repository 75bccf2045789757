"""The event log of each channel: an ordered, expiring list of events in Redis.

A channel has one Redis stream for its events and one hash for its state. Checking the fence,
assigning the id, appending, trimming and publishing are one script (log.lua). So no reader can
receive an event that the log does not hold, and a repeated call appends nothing.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django_eventstream.event import Event as LibraryEvent
from django_eventstream.storage import EventDoesNotExist, StorageBase
from redis.backoff import NoBackoff
from redis.retry import Retry

from streams.log.errors import REFUSALS, LogFull, LogUnavailable, Superseded
from streams.log.sharding import server_of, server_urls
from streams.log.values import (
    Append,
    CursorGap,
    LogState,
    OnUnverified,
    Page,
    RunProgress,
    Watermark,
)
from streams.protocol.events import (
    ConversationUpdated,
    Ending,
    MessageCreated,
    ReasoningDelta,
    RunQueued,
    RunStarted,
    TextSnapshot,
)
from streams.protocol.parts import text_parts
from streams.protocol.sse import encode

logger = logging.getLogger(__name__)
SCRIPT = Path(__file__).with_name("log.lua").read_text()
PAGE_BYTES = 1024 * 1024  # bytes in one page of events, unless a single event is longer
DIGEST = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # the script's name in Redis


class EventLog(StorageBase):  # type: ignore[misc]  # the library has no types
    """The logs of all channels.

    Methods raise `LogUnavailable` if Redis does not answer within REDIS_TIMEOUT, and `Superseded`
    if the conversation is deleted. `min_head` is the highest event id that the caller knows to be
    appended. If the log's head is below it, `read_after` returns a gap; the other methods begin a
    new epoch.
    """

    def __init__(
        self,
        client: "redis.Redis | None" = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        # A pooled connection may be dead because Redis has restarted: retry once, at once. There is
        # no retry after a time-out, because a request has to be answered within seconds.
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        timeout = settings.REDIS_TIMEOUT
        options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        options |= {"decode_responses": True, "protocol": 2, "retry": retry}
        self._servers = (
            [client] if client else [redis.Redis.from_url(u, **options) for u in server_urls()]
        )
        self._clock = clock

    def append_once(
        self,
        channel: str,
        *events: ConversationUpdated | MessageCreated | RunQueued,
        min_head: int,
        run: UUID | None = None,
    ) -> list[int]:
        """Append events that need no fence, in one round trip. Returns their ids.

        `message.created` and `run.queued` are appended once for the run: a repeat returns the
        first id. Raises `LogUnverified` if the newest events may be missing.
        """
        encoded = [
            (event.type, encode(event), ONCE_PER_RUN.get(event.type, "")) for event in events
        ]
        calls = [self._script_call(channel, "tell", min_head, run, *rest) for rest in encoded]
        return [int(_raise_error(answer)[1]) for answer in self._run_scripts(channel, calls)]

    def append_start(
        self, channel: str, event: RunStarted, *, min_head: int, abandoned: bool
    ) -> int:
        """Append run.started and raise the fence, in one step. Returns the event's id.

        `abandoned`: how far the previous attempt came is unknown. Raises `Superseded` if a newer
        attempt has started, or the run has ended.
        """
        rest = (event.type, encode(event), event.attempt, "abandoned" if abandoned else "")
        return self._event_id(channel, "start", min_head, event.run, *rest)

    def restore_fence(
        self, channel: str, run: UUID, attempt: int, *, index: int, text: str, min_head: int
    ) -> int:
        """Restore a lost fence. Returns the log's last id.

        The caller appends the whole text as a `TextSnapshot` next. Raises `Superseded` if a newer
        attempt has started, or the run has ended.
        """
        return self._event_id(channel, "fence", min_head, run, attempt, index, text)

    def append(self, pieces: Sequence[Append]) -> list[int | Exception]:
        """Append the pieces in one round trip, in order. Returns each one's id or exception.

        All their channels must be on one server. The exceptions are `Superseded`, `FenceMissing`,
        `LogUnverified` and `LogCorrupted`.
        """
        calls = [self._append_call(piece) for piece in pieces]
        return [
            answer if isinstance(answer, Exception) else int(answer[1])
            for answer in self._run_scripts(pieces[0].channel, calls)
        ]

    def verify(self, reached: Sequence[Watermark]) -> None:
        """Check that each log still holds what its attempt knows, after a restart of Redis.

        If a log does not, it begins a new epoch. Servers that do not answer are passed over.
        """
        for server in {server_of(reach.channel) for reach in reached}:
            marks = [reach for reach in reached if server_of(reach.channel) == server]
            calls = [
                self._script_call(r.channel, "confirm", r.head, r.run, r.attempt) for r in marks
            ]
            with suppress(LogUnavailable):
                self._run_scripts(marks[0].channel, calls)

    def seal(
        self, channel: str, run: UUID, attempt: int, *, min_head: int, doubt: OnUnverified = "none"
    ) -> RunProgress | None:
        """Seal the run's reply, so that no attempt can append to it. Returns what it holds.

        None: the log knows nothing of the run. `doubt` decides about a log that is not verified:
        `none` ignores that, `leave` raises `LogUnverified`, `settle` begins a new epoch with the
        text that is left. Raises `Superseded` if a newer attempt has started.
        """
        _, has_reply, text, reasoning, head = self._run_script(
            channel, "close", min_head, run, attempt, doubt
        )
        return (
            RunProgress(attempt=attempt, text=text, reasoning=reasoning, head=int(head))
            if has_reply
            else None
        )

    def append_final(
        self, channel: str, event: Ending, text: str, *, model: str, min_head: int
    ) -> int:
        """Append the final event, once, after the stored text. Returns the final event's id.

        Raises `LogUnverified` if the newest events of another run may be missing.
        """
        start = RunStarted(run=event.run, attempt=event.attempt, model=model)
        snapshot = TextSnapshot(
            run=event.run, attempt=event.attempt, index=0, text=text, parts=text_parts(text)
        )
        before, after = encode(snapshot).split('"index":0', 1)
        final = (event.type, encode(event), event.attempt)
        repair = (text, snapshot.type, before + '"index":', after, start.type, encode(start))
        return self._event_id(channel, "end", min_head, event.run, *final, *repair)

    def release_run(self, channel: str, run: UUID) -> None:
        """Drop what the log keeps for a settled run: the database has its final event's id."""
        self._run_script(channel, "forget", 0, run)

    def delete(self, channel: str) -> None:
        """Delete the log for good: every later call raises `Superseded`."""
        with suppress(Superseded):  # the log is deleted already
            self._run_script(channel, "delete", 0, None)

    def state(self, channel: str, *, min_head: int) -> LogState:
        """The channel's state now, read in one step. If the log lost events, a new epoch begins."""
        _, fields, texts = self._run_script(channel, "look", min_head, None)
        state = dict(zip(fields[::2], fields[1::2], strict=True))
        once = {}
        for name, value in state.items():
            run, _, kind = name.partition(":")
            if kind in (*ONCE_PER_RUN.values(), "ending"):
                once[UUID(run), kind] = int(value)
        runs = {
            UUID(run): RunProgress(
                attempt=int(state[f"{run}:attempt"]), text=text, reasoning=reasoning
            )
            for run, text, reasoning in texts
        }
        return LogState(head=int(state["head"]), runs=runs, recorded=once)

    def read_after(
        self, channel: str, cursor: int, *, min_head: int = 0, count: int = 500
    ) -> Page | CursorGap:
        """The events after the cursor: at most `count`, and at most PAGE_BYTES if more than one.

        Returns a `CursorGap` if the log cannot resume from the cursor.
        """
        verdict, head, *rest = self._run_script(
            channel, "read", min_head, None, cursor, count, PAGE_BYTES
        )
        if verdict != "ok":
            return CursorGap(reason=verdict)
        entries = [(int(id.partition("-")[0]), fields[1], fields[3]) for id, fields in rest[0]]
        return Page(head=int(head), entries=entries)

    def last(self, channel: str) -> tuple[int, str, str] | None:
        """The last event that the log holds: its id, type and data. None if it holds none."""
        try:
            last: Any = self._client(channel).xrevrange(f"{{{channel}}}:events", count=1)
        except redis.RedisError as error:
            raise LogUnavailable from error
        for id, event in last:
            return int(id.partition("-")[0]), event["type"], event["data"]
        return None

    def ask_server(self, server: int, *words: str) -> Any:
        """The server's answer to an administrative command, such as INFO."""
        try:
            return self._servers[server].execute_command(*words)
        except redis.RedisError as error:
            raise LogUnavailable from error

    # The interface of django-eventstream's `StorageBase`.

    def append_event(self, channel: str, event_type: str, data: str) -> LibraryEvent:
        """Append an event that belongs to no run. Returns it with its id."""
        verdict = self._run_script(channel, "tell", 0, None, event_type, data, "")
        return LibraryEvent(channel, event_type, data, id=int(verdict[1]))

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[LibraryEvent]:
        """At most `limit` events after `last_id`. Raises `EventDoesNotExist` on a gap."""
        page = self.read_after(channel, last_id, count=limit)
        if isinstance(page, CursorGap):
            raise EventDoesNotExist(f"No such event: {page.reason}", self.get_current_id(channel))
        return [LibraryEvent(channel, type, data, id=id) for id, type, data in page.entries]

    def get_current_id(self, channel: str) -> int:
        """The log's last id."""
        return self.state(channel, min_head=0).head

    def _append_call(self, piece: Append) -> list[Any]:
        event, data = piece.event, encode(piece.event)
        header = (event.type, data, event.attempt)
        where = {ReasoningDelta: "thought", TextSnapshot: "whole"}.get(type(event), "text")
        delta = (event.index, event.text, where, data[: data.index(',"text":') + 1])
        return self._script_call(piece.channel, "speak", piece.min_head, event.run, *header, *delta)

    def _script_call(
        self, channel: str, operation: str, min_head: int, run: UUID | None, *rest: Any
    ) -> list[Any]:
        # The braces put all keys of a channel into one slot of a Redis Cluster.
        keys = [f"{{{channel}}}:{part}" for part in ("state", "events")]
        keys += [f"{{{channel}}}:text:{run}", f"{{{channel}}}:thought:{run}"]
        bounds = (settings.LOG_EVENTS, settings.LOG_TTL, settings.LOG_STATE_TTL)
        return [
            4,
            *keys,
            operation,
            min_head,
            self._clock(),
            *bounds,
            channel,
            str(run or ""),
            *rest,
        ]

    def _event_id(
        self, channel: str, operation: str, min_head: int, run: UUID | None, *rest: Any
    ) -> int:
        return int(self._run_script(channel, operation, min_head, run, *rest)[1])

    def _run_script(
        self, channel: str, operation: str, min_head: int, run: UUID | None, *rest: Any
    ) -> Any:
        return _raise_error(
            self._run_scripts(
                channel, [self._script_call(channel, operation, min_head, run, *rest)]
            )[0]
        )

    def _client(self, channel: str) -> "redis.Redis":
        return self._servers[server_of(channel)]

    def _run_scripts(self, channel: str, calls: Sequence[list[Any]]) -> list[Any]:
        """Each call's answer, or the exception that it stands for. Raises `LogUnavailable`."""
        server = self._client(channel)
        try:
            answers = _pipeline(server, calls)
            if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
                # Redis was emptied or restarted. A repeated call appends nothing.
                server.script_load(SCRIPT)
                answers = _pipeline(server, calls)
            answers = [["spoilt"] if _is_corrupted(answer) else answer for answer in answers]
            faults = [answer for answer in answers if isinstance(answer, Exception)]
        except redis.RedisError as error:
            faults = [error]
        if faults:
            logger.warning("log away: %s: %s", type(faults[0]).__name__, faults[0])
            full = isinstance(faults[0], redis.exceptions.OutOfMemoryError)
            raise (LogFull if full else LogUnavailable) from faults[0]
        return [REFUSALS[answer[0]]() if answer[0] in REFUSALS else answer for answer in answers]


# The events that are appended once for a run, and the name under which the state keeps their id.
ONCE_PER_RUN = {MessageCreated.type: "message", RunQueued.type: "queued"}


def _pipeline(server: "redis.Redis", calls: Sequence[list[Any]]) -> list[Any]:
    pipeline = server.pipeline(transaction=False)
    for call in calls:
        pipeline.execute_command("EVALSHA", DIGEST, *call)
    return pipeline.execute(raise_on_error=False)


def _is_corrupted(answer: Any) -> bool:
    """Whether the script failed on data that the service did not write."""
    error = isinstance(answer, redis.ResponseError)
    corrupted = error and str(answer).startswith(("user_script", "WRONGTYPE"))
    if corrupted:
        logger.error("log corrupted: %s", answer)
    return corrupted


def _raise_error(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


@cache
def the_log() -> EventLog:
    """The one `EventLog` of this process: all threads share its connections."""
    return EventLog()
