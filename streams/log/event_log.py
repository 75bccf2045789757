"""What each channel has said, in order, for readers who come late or come back.

One Redis stream a channel, beside a hash that knows its place, and one script (log.lua) in which
fencing, naming, adding, trimming and announcing an event are one atomic step: nobody can hear an
event that the log does not hold, and whatever is repeated adds nothing.
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
from streams.protocol.sse import encode

logger = logging.getLogger(__name__)
SCRIPT = Path(__file__).with_name("log.lua").read_text()
PAGE_BYTES = 1024 * 1024  # of the events that are read at once, unless one alone has more
DIGEST = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # as Redis names it


class EventLog(StorageBase):  # type: ignore[misc]  # the library has no types
    """The log of every channel. Raises `LogUnavailable` wherever Redis does not answer in time."""

    def __init__(
        self,
        client: "redis.Redis | None" = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        # A pooled connection may be a dead one of a Redis that has restarted: try once more at
        # once. Never after a time-out: a request has promised to answer in seconds.
        again = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        wait = settings.REDIS_TIMEOUT
        wishes: dict[str, Any] = {"socket_timeout": wait, "socket_connect_timeout": wait}
        wishes |= {"decode_responses": True, "protocol": 2, "retry": again}
        self._servers = (
            [client] if client else [redis.Redis.from_url(u, **wishes) for u in server_urls()]
        )
        self._clock = clock

    def append_once(
        self,
        channel: str,
        *events: ConversationUpdated | MessageCreated | RunQueued,
        min_head: int,
        run: UUID | None = None,
    ) -> list[int]:
        """Say what needs no fence, in one trip; what belongs to a run, once. Gives the ids."""
        told = [(event.type, encode(event), ONCE_PER_RUN.get(event.type, "")) for event in events]
        calls = [self._script_call(channel, "tell", min_head, run, *words) for words in told]
        return [int(_raise_error(answer)[1]) for answer in self._run_scripts(channel, calls)]

    def append_start(
        self, channel: str, event: RunStarted, *, min_head: int, abandoned: bool
    ) -> int:
        """Say run.started and raise the fence, in one step. Gives the event's id."""
        named = (event.type, encode(event), event.attempt, "abandoned" if abandoned else "")
        return self._event_id(channel, "start", min_head, event.run, *named)

    def restore_fence(
        self, channel: str, run: UUID, attempt: int, *, index: int, text: str, min_head: int
    ) -> int:
        """Set a lost fence anew. The text so far is to be said whole, next. Gives the last id."""
        return self._event_id(channel, "fence", min_head, run, attempt, index, text)

    def append(self, pieces: Sequence[Append]) -> list[int | Exception]:
        """Say the pieces in one trip, in order. For each its id, or why it was refused.

        Their channels are all on one server.
        """
        calls = [self._append_call(piece) for piece in pieces]
        return [
            answer if isinstance(answer, Exception) else int(answer[1])
            for answer in self._run_scripts(pieces[0].channel, calls)
        ]

    def verify(self, reached: Sequence[Watermark]) -> None:
        """Tell a log that may be another one by now what it must hold: each server that answers."""
        for server in {server_of(reach.channel) for reach in reached}:
            its = [reach for reach in reached if server_of(reach.channel) == server]
            calls = [self._script_call(r.channel, "confirm", r.head, r.run, r.attempt) for r in its]
            with suppress(LogUnavailable):
                self._run_scripts(its[0].channel, calls)

    def seal(
        self, channel: str, run: UUID, attempt: int, *, min_head: int, doubt: OnUnverified = "none"
    ) -> RunProgress | None:
        """Let nobody add to the run's reply. Gives what it holds; None where nothing is known.

        A tail that may be lost is left to its attempt, or settled: a new life begins.
        """
        _, kept, text, mind, head = self._run_script(
            channel, "close", min_head, run, attempt, doubt
        )
        return (
            RunProgress(attempt=attempt, text=text, reasoning=mind, head=int(head))
            if kept
            else None
        )

    def append_final(
        self, channel: str, event: Ending, text: str, *, model: str, min_head: int
    ) -> int:
        """Say the ending, once, after the text that is stored. Gives the ending's id."""
        start = RunStarted(run=event.run, attempt=event.attempt, model=model)
        whole = TextSnapshot(run=event.run, attempt=event.attempt, index=0, text=text)
        before, after = encode(whole).split('"index":0', 1)
        named = (event.type, encode(event), event.attempt)
        again = (text, whole.type, before + '"index":', after, start.type, encode(start))
        return self._event_id(channel, "end", min_head, event.run, *named, *again)

    def release_run(self, channel: str, run: UUID) -> None:
        """The run's ending stands in the database: what was kept for it here may go."""
        self._run_script(channel, "forget", 0, run)

    def delete(self, channel: str) -> None:
        """End the log for good: whoever tries to add to it is `Superseded`."""
        with suppress(Superseded):  # it is gone already
            self._run_script(channel, "delete", 0, None)

    def state(self, channel: str, *, min_head: int) -> LogState:
        """What the channel is now, in one step. Where the log is lost, a new life begins."""
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
        """Up to `count` events, and PAGE_BYTES, after the cursor; or why there can be none."""
        verdict, head, *rest = self._run_script(
            channel, "read", min_head, None, cursor, count, PAGE_BYTES
        )
        if verdict != "ok":
            return CursorGap(reason=verdict)
        entries = [(int(id.partition("-")[0]), fields[1], fields[3]) for id, fields in rest[0]]
        return Page(head=int(head), entries=entries)

    def last(self, channel: str) -> tuple[int, str, str] | None:
        """The last event that the log holds: its id, type and data."""
        try:
            last: Any = self._client(channel).xrevrange(f"{{{channel}}}:events", count=1)
        except redis.RedisError as error:
            raise LogUnavailable from error
        for id, event in last:
            return int(id.partition("-")[0]), event["type"], event["data"]
        return None

    def ask_server(self, server: int, *words: str) -> Any:
        """What the server says of itself, for whoever looks after it."""
        try:
            return self._servers[server].execute_command(*words)
        except redis.RedisError as error:
            raise LogUnavailable from error

    # What django-eventstream's own code asks of a storage.

    def append_event(self, channel: str, event_type: str, data: str) -> LibraryEvent:
        verdict = self._run_script(channel, "tell", 0, None, event_type, data, "")
        return LibraryEvent(channel, event_type, data, id=int(verdict[1]))

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[LibraryEvent]:
        page = self.read_after(channel, last_id, count=limit)
        if isinstance(page, CursorGap):
            raise EventDoesNotExist(f"No such event: {page.reason}", self.get_current_id(channel))
        return [LibraryEvent(channel, type, data, id=id) for id, type, data in page.entries]

    def get_current_id(self, channel: str) -> int:
        return self.state(channel, min_head=0).head

    def _append_call(self, piece: Append) -> list[Any]:
        event, data = piece.event, encode(piece.event)
        named = (event.type, data, event.attempt)
        where = {ReasoningDelta: "thought", TextSnapshot: "whole"}.get(type(event), "text")
        spoken = (event.index, event.text, where, data[: data.index(',"text":') + 1])
        return self._script_call(piece.channel, "speak", piece.min_head, event.run, *named, *spoken)

    def _script_call(
        self, channel: str, operation: str, min_head: int, run: UUID | None, *rest: Any
    ) -> list[Any]:
        # Braces make all of a channel's keys one slot of a Redis Cluster.
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
        """Each call's answer, or the exception that it means. Raises `LogUnavailable`."""
        server = self._client(channel)
        try:
            answers = _pipeline(server, calls)
            if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
                # Redis was emptied or is another one. A repeated call adds nothing.
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


ONCE_PER_RUN = {MessageCreated.type: "message", RunQueued.type: "queued"}  # what a run says once


def _pipeline(server: "redis.Redis", calls: Sequence[list[Any]]) -> list[Any]:
    pipeline = server.pipeline(transaction=False)
    for call in calls:
        pipeline.execute_command("EVALSHA", DIGEST, *call)
    return pipeline.execute(raise_on_error=False)


def _is_corrupted(answer: Any) -> bool:
    error = isinstance(answer, redis.ResponseError)
    spoilt = error and str(answer).startswith(("user_script", "WRONGTYPE"))
    if spoilt:
        logger.error("log spoilt: %s", answer)
    return spoilt


def _raise_error(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


@cache
def the_log() -> EventLog:
    """This process's log: one client, its connections shared by all threads."""
    return EventLog()
