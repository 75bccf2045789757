"""Writing into the log: the pieces of all replies of a process, one trip after another.

A trip takes one piece from each reply in turn, so a reply that floods delays no other. Each piece
stays its own event, and the order within a reply stays. While Redis is away, the same pieces are
offered again until it is back: a repeated one adds nothing. A server that may be another by then
is told first what the rows know of.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import sleep

from django.db import InterfaceError, OperationalError, connection

from streams.chat.publisher import append, verify
from streams.log.errors import LogUnavailable, LogUnverified
from streams.log.values import Append, Watermark

logger = logging.getLogger(__name__)
BATCH = 256  # pieces at most
TRIP_BYTES = 1024 * 1024  # of text at most, unless one piece alone has more
PAUSE = 0.2  # seconds between two tries while Redis is away

OnResult = Callable[[int | Exception], None]
Word = tuple[Append, OnResult]


class LogWriter(threading.Thread):
    """The one thread of a worker process that adds to the log on one Redis server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="writer", daemon=True)
        self._loop = loop
        self._arrived: SimpleQueue[Word | None] = SimpleQueue()
        self._turns = Turns()
        self._stopped = False
        self.away = threading.Event()  # set while Redis does not take what is offered

    def write(self, piece: Append, heard: OnResult) -> None:
        """Have the piece written. `heard` gets its id, or why it was refused, on the loop."""
        self._arrived.put((piece, heard))

    def stop(self) -> None:
        """End once everything before is written."""
        self._arrived.put(None)

    def run(self) -> None:
        while batch := self._gathered():
            answers = append_all([piece for piece, _ in batch], self.away)
            connection.close()  # which a doubt has opened: no pool's is kept for the next
            self._loop.call_soon_threadsafe(_tell, [heard for _, heard in batch], answers)

    def _gathered(self) -> list[Word]:
        """The next trip. Waits until there is one; empty where the writer is to end."""
        if not self._turns:
            batch = self._arrivals()
            if len(batch) < BATCH and sum([size(piece) for piece, _ in batch]) <= TRIP_BYTES:
                return batch  # all that waits: no reply has to wait for another
            self._turns.add(batch)
        while more := self._arrivals(block=False):
            self._turns.add(more)
        return self._turns.trip()

    def _arrivals(self, *, block: bool = True) -> list[Word]:
        """What has arrived, at most a trip of it."""
        batch: list[Word] = []
        get = self._arrived.get
        try:
            while len(batch) < BATCH and not self._stopped:
                word = get(block=block and not batch)
                if word is None:
                    self._stopped = True
                else:
                    batch.append(word)
        except Empty:
            pass
        return batch


class Turns:
    """What waits to be written: a queue for each channel, of which one reply is being written."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Word]] = {}
        self._turns: deque[deque[Word]] = deque()  # the same queues, in the order of their turns

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, words: list[Word]) -> None:
        for word in words:
            channel = word[0].channel
            queue = self._waiting.get(channel)
            if queue is None:
                queue = self._waiting[channel] = deque()
                self._turns.append(queue)
            queue.append(word)

    def trip(self) -> list[Word]:
        """The next pieces, one of each reply in turn. The next trip goes on where this one ends."""
        batch: list[Word] = []
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
    """How many bytes of text the piece has, at most."""
    text = piece.event.text
    return len(text) if text.isascii() else 4 * len(text)


def append_all(pieces: list[Append], away: threading.Event | None = None) -> list[int | Exception]:
    """Say the pieces, however long Redis is away. For each its id, or why it was refused."""
    away = away or threading.Event()
    pause = 0.0
    while True:
        try:
            answers = append(pieces)
            away.clear()
            doubted = [
                _reach(piece)
                for piece, answer in zip(pieces, answers, strict=True)
                if isinstance(answer, LogUnverified)
            ]
            if not doubted:
                return answers
            verify(doubted)
            sleep(pause)
            pause = PAUSE  # where it is doubted again, Redis takes no writes
        except (LogUnavailable, OperationalError, InterfaceError):
            away.set()
            connection.close()  # it may be a dead one
            sleep(PAUSE)
        except Exception as error:
            logger.exception("writing %s pieces", len(pieces))
            return [error] * len(pieces)


def _reach(piece: Append) -> Watermark:
    event = piece.event
    return Watermark(
        channel=piece.channel, run=event.run, attempt=event.attempt, head=piece.min_head
    )


def _tell(hearers: list[OnResult], answers: list[int | Exception]) -> None:
    for heard, answer in zip(hearers, answers, strict=True):
        heard(answer)
