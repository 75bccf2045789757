"""Writing into the log: the pieces of all replies of a process, one trip after another.

What gathers while one trip is under way shares the next; each piece stays its own event. While
Redis is away, the same pieces are offered again until it is back: a repeated one adds nothing. A
server that may be another by then is told first what the rows know of.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import sleep

from django.db import InterfaceError, OperationalError, connection

from streams.passages import Piece, Reach
from streams.publish import confirm, publish
from streams.verdicts import Away, Doubtful

logger = logging.getLogger(__name__)
TRIP = 256  # pieces at most
PAUSE = 0.2  # seconds between two tries while Redis is away

Heard = Callable[[int | Exception], None]


class Writer(threading.Thread):
    """The one thread of a worker process that adds to the log on one Redis server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="writer", daemon=True)
        self._loop = loop
        self._queue: SimpleQueue[tuple[Piece, Heard] | None] = SimpleQueue()

    def write(self, piece: Piece, heard: Heard) -> None:
        """Have the piece written. `heard` gets its id, or why it was refused, on the loop."""
        self._queue.put((piece, heard))

    def stop(self) -> None:
        """End once everything before is written."""
        self._queue.put(None)

    def run(self) -> None:
        while batch := self._gathered():
            answers = say([piece for piece, _ in batch])
            connection.close()  # which a doubt has opened: no pool's is kept for the next
            self._loop.call_soon_threadsafe(_tell, [heard for _, heard in batch], answers)

    def _gathered(self) -> list[tuple[Piece, Heard]]:
        batch: list[tuple[Piece, Heard]] = []
        try:
            while len(batch) < TRIP:
                word = self._queue.get(block=not batch)
                if word is None:
                    if batch:
                        self._queue.put(None)  # the end is next
                    break
                batch.append(word)
        except Empty:
            pass
        return batch


def say(pieces: list[Piece]) -> list[int | Exception]:
    """Say the pieces, however long Redis is away. For each its id, or why it was refused."""
    pause = 0.0
    while True:
        try:
            answers = publish(pieces)
            doubted = [
                _reach(piece)
                for piece, answer in zip(pieces, answers, strict=True)
                if isinstance(answer, Doubtful)
            ]
            if not doubted:
                return answers
            confirm(doubted)
            sleep(pause)
            pause = PAUSE  # where it is doubted again, Redis takes no writes
        except (Away, OperationalError, InterfaceError):
            connection.close()  # it may be a dead one
            sleep(PAUSE)
        except Exception as error:
            logger.exception("writing %s pieces", len(pieces))
            return [error] * len(pieces)


def _reach(piece: Piece) -> Reach:
    event = piece.event
    return Reach(channel=piece.channel, run=event.run, attempt=event.attempt, known=piece.known)


def _tell(hearers: list[Heard], answers: list[int | Exception]) -> None:
    for heard, answer in zip(hearers, answers, strict=True):
        heard(answer)
