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

from streams.chat.sweep import Sweeper
from streams.log.sharding import server_urls
from workers.generators.openai import close_client
from workers.lease import LeaseKeeper
from workers.log_writer import LogWriter

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Runtime:
    """This worker process. Its threads end with it."""

    def __init__(self) -> None:
        self.draining = False
        self.loop = uvloop.new_event_loop()
        # One for each Redis server: where one is away, the others are written to.
        self.writers = [LogWriter(self.loop) for _ in server_urls()]
        self.keeper = LeaseKeeper()
        self.sweeper = Sweeper()
        self._loop_thread = threading.Thread(target=self._run_loop, name="loop", daemon=True)
        for thread in (self._loop_thread, *self.writers, self.keeper, self.sweeper):
            thread.start()

    def close(self) -> None:
        """Let go of everything: no thread of it goes on."""
        self.run(close_client())
        self.sweeper.stop()
        self.keeper.stop()
        for writer in self.writers:
            writer.stop()
        for thread in (self.sweeper, self.keeper, *self.writers):
            thread.join()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._loop_thread.join()
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it on the loop; this thread waits."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


@cache
def this_runtime() -> Runtime:
    return Runtime()
