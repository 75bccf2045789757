"""What all replies of one worker process share: an event loop, a writer, a keeper of leases.

A reply is waiting, not computing: its model's stream is read on the one loop, while the Celery
thread that took the task waits for it.
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

import uvloop

from streams.servers import urls
from streams.sweep import Sweeper
from workers.lease import Keeper
from workers.voice import hang_up
from workers.writer import Writer

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Process:
    """This worker process. Its threads end with it."""

    def __init__(self) -> None:
        self.draining = False
        self.loop = uvloop.new_event_loop()
        # One for each Redis server: where one is away, the others are written to.
        self.writers = [Writer(self.loop) for _ in urls()]
        self.keeper = Keeper()
        self.sweeper = Sweeper()
        self._turning = threading.Thread(target=self._turn, name="loop", daemon=True)
        for thread in (self._turning, *self.writers, self.keeper, self.sweeper):
            thread.start()

    def end(self) -> None:
        """Let go of everything: no thread of it goes on."""
        self.carry_out(hang_up())
        self.sweeper.stop()
        self.keeper.stop()
        for writer in self.writers:
            writer.stop()
        for thread in (self.sweeper, self.keeper, *self.writers):
            thread.join()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._turning.join()
        self.loop.close()

    def carry_out(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it on the loop; this thread waits."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def _turn(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


@cache
def this_process() -> Process:
    return Process()
