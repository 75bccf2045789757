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

from streams.sweep import Sweeper
from workers.lease import Keeper
from workers.writer import Writer

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Process:
    """This worker process. Its threads end with it."""

    def __init__(self) -> None:
        self.draining = False
        self.loop = uvloop.new_event_loop()
        self.writer = Writer(self.loop)
        self.keeper = Keeper()
        self.sweeper = Sweeper()
        threading.Thread(target=self._turn, name="loop", daemon=True).start()
        for thread in (self.writer, self.keeper, self.sweeper):
            thread.start()

    def carry_out(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it on the loop; this thread waits."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def _turn(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


@cache
def this_process() -> Process:
    return Process()
