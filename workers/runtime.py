"""The worker process's shared parts: event loop, log writers, lease keeper and sweeper.

A reply waits for its model most of the time. So one event loop reads the streams of all replies.
The Celery thread of each task waits until its reply is finished.
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

import uvloop
from celery import current_app

from streams.chat.model_names import Kind, queue_of
from streams.chat.sweep import Sweeper
from streams.log.sharding import server_urls
from workers.generators.openai import close_client
from workers.lease import LeaseKeeper
from workers.log_writer import LogWriter

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Runtime:
    """The shared threads of this process. They are daemons, so they end with it."""

    def __init__(self, kind: Kind = Kind.MODEL) -> None:
        self.kind = kind  # it claims runs of this kind alone
        self.draining = False
        self.loop = uvloop.new_event_loop()
        # One for each Redis server, so that one that is away does not delay the others.
        self.writers = [LogWriter(self.loop) for _ in server_urls()]
        self.keeper = LeaseKeeper()
        self.sweeper = Sweeper()
        self._loop_thread = threading.Thread(target=self._run_loop, name="loop", daemon=True)
        for thread in (self._loop_thread, *self.writers, self.keeper, self.sweeper):
            thread.start()

    def close(self) -> None:
        """Close the model's connections, end the threads and close the loop. Waits for all."""
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
        """Run the coroutine on the loop, wait for it, and return its result or raise its error."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


@cache
def this_runtime() -> Runtime:
    """The runtime of this process; the first call starts its threads.

    The queue that the process consumes decides which kind of runs it claims.
    """
    agents = queue_of(Kind.AGENT) in current_app.amqp.queues.consume_from
    return Runtime(Kind.AGENT if agents else Kind.MODEL)
