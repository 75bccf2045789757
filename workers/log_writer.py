"""The log writer: a thread that appends the pieces of all replies of a process, in batches.

A batch is one round trip to Redis ("trip"). It takes one piece from each reply in turn, so a fast
reply delays no other. Each piece stays an event of its own, and a reply's pieces stay in order.

A trip costs as much as several pieces. So two trips begin at least one tick of the delta window
apart, and a trip takes all pieces that have arrived since the last one. A piece that arrives after
a pause is sent at once.

While Redis is away, the writer repeats the batch. That is safe, because the log does not append a
piece twice. After a failover the writer first verifies the log against the recorded heads.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic, sleep

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from streams.chat.publisher import append, verify
from streams.log.errors import LogUnavailable, LogUnverified
from streams.log.slots import payload_of
from streams.log.values import Append, Watermark
from streams.protocol.events import TextSnapshot
from workers.delta_window import TICKS

logger = logging.getLogger(__name__)
BATCH = 256  # pieces at most
TRIP_BYTES = 1024 * 1024  # of payloads at most, unless one piece alone has more
PAUSE = 0.2  # seconds between two tries while Redis is away

OnResult = Callable[[int | Exception], None]
Write = tuple[Append, OnResult]


class LogWriter(threading.Thread):
    """The only thread of a worker process that appends pieces to the logs on one Redis server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="writer", daemon=True)
        self._loop = loop
        self._queued: SimpleQueue[Write | None] = SimpleQueue()
        self._turns = Turns()
        self._stopped = False
        self._tick_ends_at = 0.0
        self.away = threading.Event()  # set while Redis accepts no batch

    def write(self, piece: Append, on_result: OnResult) -> None:
        """Queue the piece. `on_result` gets its event id or the refusal, on the event loop."""
        self._queued.put((piece, on_result))

    def stop(self) -> None:
        """End the thread once every piece queued before is written."""
        self._queued.put(None)

    def run(self) -> None:
        while batch := self._next_batch():
            results = append_all([piece for piece, _ in batch], self.away)
            connection.close()  # `verify` may have opened it; none stays open between batches
            self._loop.call_soon_threadsafe(_deliver, [callback for _, callback in batch], results)

    def _next_batch(self) -> list[Write]:
        """Wait for the next batch and return it. It is empty once the writer must end."""
        if not self._turns:
            batch = self._take_queued()
            if batch and (rest := self._tick_ends_at - monotonic()) > 0:
                sleep(rest)
                batch += self._take_queued(block=False, most=BATCH - len(batch))
            self._tick_ends_at = monotonic() + settings.DELTA_WINDOW / TICKS
            if len(batch) < BATCH and sum([size(piece) for piece, _ in batch]) <= TRIP_BYTES:
                return batch  # it holds all waiting pieces, so no reply waits for another
            self._turns.add(batch)
        while more := self._take_queued(block=False):
            self._turns.add(more)
        return self._turns.trip()

    def _take_queued(self, *, block: bool = True, most: int = BATCH) -> list[Write]:
        """The pieces that `write` has queued, at most `most`."""
        batch: list[Write] = []
        get = self._queued.get
        try:
            while len(batch) < most and not self._stopped:
                write = get(block=block and not batch)
                if write is None:
                    self._stopped = True
                else:
                    batch.append(write)
        except Empty:
            pass
        return batch


class Turns:
    """The waiting pieces, in one queue for each channel. A batch takes from all queues in turn.

    A channel has one reply at a time, so each queue holds the pieces of one reply.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Write]] = {}
        self._turns: deque[deque[Write]] = deque()  # the same queues, in the order of their turns

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, writes: list[Write]) -> None:
        for write in writes:
            channel = write[0].channel
            queue = self._waiting.get(channel)
            if queue is None:
                queue = self._waiting[channel] = deque()
                self._turns.append(queue)
            queue.append(write)

    def trip(self) -> list[Write]:
        """The next batch: one piece of each reply in turn. The turns continue in the next batch."""
        batch: list[Write] = []
        turns, room = self._turns, TRIP_BYTES
        while turns and len(batch) < BATCH:
            queue = turns[0]
            piece = queue[0][0]
            room -= size(piece)
            if room < 0 and batch:
                break
            batch.append(queue.popleft())
            turns.popleft()
            if queue:
                turns.append(queue)
            else:
                del self._waiting[piece.channel]
        return batch


def size(piece: Append) -> int:
    """An upper bound of the bytes in UTF-8 that the piece adds to the log's slots."""
    if piece.write:
        return _max_bytes(piece.write.payload)
    assert isinstance(piece.event, TextSnapshot)
    return sum(_max_bytes(payload_of(part)) for part in piece.event.parts)


def _max_bytes(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)


def append_all(pieces: list[Append], away: threading.Event | None = None) -> list[int | Exception]:
    """Append the pieces, and retry for as long as Redis is away.

    Returns the event id of each piece, or the exception with which it was refused. `away` is set
    while Redis does not answer.
    """
    away = away or threading.Event()
    pause = 0.0
    while True:
        try:
            results = append(pieces)
            away.clear()
            unverified = [
                _watermark_of(piece)
                for piece, result in zip(pieces, results, strict=True)
                if isinstance(result, LogUnverified)
            ]
            if not unverified:
                return results
            verify(unverified)
            sleep(pause)
            pause = PAUSE  # unverified twice in a row means that Redis accepts no writes
        except (LogUnavailable, OperationalError, InterfaceError):
            away.set()
            connection.close()  # it may be broken
            sleep(PAUSE)
        except Exception as error:
            logger.exception("appending %s pieces", len(pieces))
            return [error] * len(pieces)


def _watermark_of(piece: Append) -> Watermark:
    event = piece.event
    return Watermark(
        channel=piece.channel, run=event.run, attempt=event.attempt, head=piece.min_head
    )


def _deliver(callbacks: list[OnResult], results: list[int | Exception]) -> None:
    for on_result, result in zip(callbacks, results, strict=True):
        on_result(result)
