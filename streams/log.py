"""What each channel has said, in order, for readers who come late or come back.

One Redis stream a channel, beside a hash that knows its place, and one script (log.lua) in which
fencing, naming, adding, trimming and announcing an event are one atomic step: nobody can hear an
event that the log does not hold, and whatever is repeated adds nothing.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
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

from streams.events import (
    ConversationUpdated,
    Ending,
    MessageCreated,
    ReasoningDelta,
    RunQueued,
    RunStarted,
    TextSnapshot,
)
from streams.passages import Doubt, Look, Page, Piece, Reach, Said, Torn
from streams.servers import server_of, urls
from streams.verdicts import REFUSALS, Away, Full, Superseded
from streams.wire import encode

logger = logging.getLogger(__name__)
SCRIPT = Path(__file__).with_name("log.lua").read_text()
PAGE_BYTES = 1024 * 1024  # of the events that are read at once, unless one alone has more
DIGEST = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # as Redis names it


class Log(StorageBase):  # type: ignore[misc]  # the library has no types
    """The log of every channel. Raises `Away` wherever Redis does not answer in time."""

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
        self._servers = [client] if client else [redis.Redis.from_url(u, **wishes) for u in urls()]
        self._clock = clock

    def tell(
        self,
        channel: str,
        *events: ConversationUpdated | MessageCreated | RunQueued,
        known: int,
        run: UUID | None = None,
    ) -> list[int]:
        """Say what needs no fence, in one trip; what belongs to a run, once. Gives the ids."""
        told = [(event.type, encode(event), ONCE.get(event.type, "")) for event in events]
        calls = [self._call(channel, "tell", known, run, *words) for words in told]
        return [int(_raised(answer)[1]) for answer in self._many(channel, calls)]

    def start(self, channel: str, event: RunStarted, *, known: int, abandoned: bool) -> int:
        """Say run.started and raise the fence, in one step. Gives the event's id."""
        named = (event.type, encode(event), event.attempt, "abandoned" if abandoned else "")
        return self._one(channel, "start", known, event.run, *named)

    def fence(
        self, channel: str, run: UUID, attempt: int, *, index: int, text: str, known: int
    ) -> int:
        """Set a lost fence anew. The text so far is to be said whole, next. Gives the last id."""
        return self._one(channel, "fence", known, run, attempt, index, text)

    def speak(self, pieces: Sequence[Piece]) -> list[int | Exception]:
        """Say the pieces in one trip, in order. For each its id, or why it was refused.

        Their channels are all on one server.
        """
        calls = [self._piece(piece) for piece in pieces]
        return [
            answer if isinstance(answer, Exception) else int(answer[1])
            for answer in self._many(pieces[0].channel, calls)
        ]

    def confirm(self, reached: Sequence[Reach]) -> None:
        """Tell a log that may be another one by now what it must hold: each server that answers."""
        for server in {server_of(reach.channel) for reach in reached}:
            its = [reach for reach in reached if server_of(reach.channel) == server]
            calls = [self._call(r.channel, "confirm", r.known, r.run, r.attempt) for r in its]
            with suppress(Away):
                self._many(its[0].channel, calls)

    def close(
        self, channel: str, run: UUID, attempt: int, *, known: int, doubt: Doubt = "none"
    ) -> Said | None:
        """Let nobody add to the run's reply. Gives what it holds; None where nothing is known.

        A tail that may be lost is left to its attempt, or settled: a new life begins.
        """
        _, kept, text, mind, head = self._answer(channel, "close", known, run, attempt, doubt)
        return Said(attempt=attempt, text=text, reasoning=mind, head=int(head)) if kept else None

    def end(self, channel: str, event: Ending, text: str, *, model: str, known: int) -> int:
        """Say the ending, once, after the text that is stored. Gives the ending's id."""
        start = RunStarted(run=event.run, attempt=event.attempt, model=model)
        whole = TextSnapshot(run=event.run, attempt=event.attempt, index=0, text=text)
        before, after = encode(whole).split('"index":0', 1)
        named = (event.type, encode(event), event.attempt)
        again = (text, whole.type, before + '"index":', after, start.type, encode(start))
        return self._one(channel, "end", known, event.run, *named, *again)

    def forget(self, channel: str, run: UUID) -> None:
        """The run's ending stands in the database: what was kept for it here may go."""
        self._answer(channel, "forget", 0, run)

    def delete(self, channel: str) -> None:
        """End the log for good: whoever tries to add to it is `Superseded`."""
        with suppress(Superseded):  # it is gone already
            self._answer(channel, "delete", 0, None)

    def look(self, channel: str, *, known: int) -> Look:
        """What the channel is now, in one step. Where the log is lost, a new life begins."""
        _, fields, texts = self._answer(channel, "look", known, None)
        state = dict(zip(fields[::2], fields[1::2], strict=True))
        once = {}
        for name, value in state.items():
            run, _, kind = name.partition(":")
            if kind in (*ONCE.values(), "ending"):
                once[UUID(run), kind] = int(value)
        runs = {
            UUID(run): Said(attempt=int(state[f"{run}:attempt"]), text=text, reasoning=reasoning)
            for run, text, reasoning in texts
        }
        return Look(head=int(state["head"]), runs=runs, once=once)

    def read(self, channel: str, cursor: int, *, known: int = 0, count: int = 500) -> Page | Torn:
        """Up to `count` events, and PAGE_BYTES, after the cursor; or why there can be none."""
        verdict, head, *rest = self._answer(channel, "read", known, None, cursor, count, PAGE_BYTES)
        if verdict != "ok":
            return Torn(reason=verdict)
        entries = [(int(id.partition("-")[0]), fields[1], fields[3]) for id, fields in rest[0]]
        return Page(head=int(head), entries=entries)

    def tail(self, channel: str) -> tuple[int, str, str] | None:
        """The last event that the log holds: its id, type and data."""
        try:
            last: Any = self._on(channel).xrevrange(f"{{{channel}}}:events", count=1)
        except redis.RedisError as error:
            raise Away from error
        for id, event in last:
            return int(id.partition("-")[0]), event["type"], event["data"]
        return None

    def ask(self, server: int, *words: str) -> Any:
        """What the server says of itself, for whoever looks after it."""
        try:
            return self._servers[server].execute_command(*words)
        except redis.RedisError as error:
            raise Away from error

    # What django-eventstream's own code asks of a storage.

    def append_event(self, channel: str, event_type: str, data: str) -> LibraryEvent:
        verdict = self._answer(channel, "tell", 0, None, event_type, data, "")
        return LibraryEvent(channel, event_type, data, id=int(verdict[1]))

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[LibraryEvent]:
        page = self.read(channel, last_id, count=limit)
        if isinstance(page, Torn):
            raise EventDoesNotExist(f"No such event: {page.reason}", self.get_current_id(channel))
        return [LibraryEvent(channel, type, data, id=id) for id, type, data in page.entries]

    def get_current_id(self, channel: str) -> int:
        return self.look(channel, known=0).head

    def _piece(self, piece: Piece) -> list[Any]:
        event, data = piece.event, encode(piece.event)
        named = (event.type, data, event.attempt)
        where = {ReasoningDelta: "thought", TextSnapshot: "whole"}.get(type(event), "text")
        spoken = (event.index, event.text, where, data[: data.index(',"text":') + 1])
        return self._call(piece.channel, "speak", piece.known, event.run, *named, *spoken)

    def _call(self, channel: str, verb: str, known: int, run: UUID | None, *rest: Any) -> list[Any]:
        # Braces make all of a channel's keys one slot of a Redis Cluster.
        keys = [f"{{{channel}}}:{part}" for part in ("state", "events")]
        keys += [f"{{{channel}}}:text:{run}", f"{{{channel}}}:thought:{run}"]
        bounds = (settings.LOG_EVENTS, settings.LOG_LIFE, settings.LOG_MEMORY)
        return [4, *keys, verb, known, self._clock(), *bounds, channel, str(run or ""), *rest]

    def _one(self, channel: str, verb: str, known: int, run: UUID | None, *rest: Any) -> int:
        return int(self._answer(channel, verb, known, run, *rest)[1])

    def _answer(self, channel: str, verb: str, known: int, run: UUID | None, *rest: Any) -> Any:
        return _raised(self._many(channel, [self._call(channel, verb, known, run, *rest)])[0])

    def _on(self, channel: str) -> "redis.Redis":
        return self._servers[server_of(channel)]

    def _many(self, channel: str, calls: Sequence[list[Any]]) -> list[Any]:
        """Each call's answer, or the exception that it means. Raises `Away`."""
        server = self._on(channel)
        try:
            answers = _trip(server, calls)
            if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
                # Redis was emptied or is another one. A repeated call adds nothing.
                server.script_load(SCRIPT)
                answers = _trip(server, calls)
            answers = [["spoilt"] if _is_spoilt(answer) else answer for answer in answers]
            faults = [answer for answer in answers if isinstance(answer, Exception)]
        except redis.RedisError as error:
            faults = [error]
        if faults:
            logger.warning("log away: %s: %s", type(faults[0]).__name__, faults[0])
            full = isinstance(faults[0], redis.exceptions.OutOfMemoryError)
            raise (Full if full else Away) from faults[0]
        return [REFUSALS[answer[0]]() if answer[0] in REFUSALS else answer for answer in answers]


ONCE = {MessageCreated.type: "message", RunQueued.type: "queued"}  # what a run says once


def _trip(server: "redis.Redis", calls: Sequence[list[Any]]) -> list[Any]:
    pipeline = server.pipeline(transaction=False)
    for call in calls:
        pipeline.execute_command("EVALSHA", DIGEST, *call)
    return pipeline.execute(raise_on_error=False)


def _is_spoilt(answer: Any) -> bool:
    error = isinstance(answer, redis.ResponseError)
    spoilt = error and str(answer).startswith(("user_script", "WRONGTYPE"))
    if spoilt:
        logger.error("log spoilt: %s", answer)
    return spoilt


def _raised(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer
