"""The worker process's shared parts: event loop, log writers, lease keeper and sweeper.

A reply waits for its model most of the time. So one event loop reads the streams of all replies.
The Celery thread of each task waits until its reply is finished.
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop

from streams.chat.model_names import Kind
from streams.chat.sweep import Sweeper
from streams.log.sharding import server_urls
from workers.agents.threads import DaemonThreads
from workers.agents.watchdog import Watchdog
from workers.delta_window import DeltaWindow
from workers.generators.openai import close_client
from workers.lease_keeper import LeaseKeeper
from workers.log_writer import LogWriter
from workers.reply_source import ReplySource, model_reply
from workers.tool_calls import ToolNames

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Runtime:
    """The shared threads of this process. They are daemons, so they end with it."""

    def __init__(self, kind: Kind = Kind.MODEL, source: ReplySource = model_reply) -> None:
        self.kind = kind  # it claims runs of this kind alone
        self.source = source
        self.draining = False
        self.loop = uvloop.new_event_loop()
        # One for each Redis server, so that one that is away does not delay the others.
        self.writers = [LogWriter(self.loop) for _ in server_urls()]
        self.window = DeltaWindow(self.loop)
        self.keeper = LeaseKeeper(kind)
        self.sweeper = Sweeper()
        self.tool_names = ToolNames()
        self._watchdog: Watchdog | None = None
        if kind is Kind.AGENT:
            self.loop.set_default_executor(DaemonThreads())  # for the synchronous code of agents
            self._watchdog = Watchdog(self.loop)
            self._watchdog.start()
        self._loop_thread = threading.Thread(target=self._run_loop, name="loop", daemon=True)
        for thread in (self._loop_thread, *self.writers, self.keeper, self.sweeper):
            thread.start()

    def close(self) -> None:
        """Close the model's connections, end the threads and close the loop. Waits for all."""
        self.start(close_client()).result()
        if self._watchdog:
            self._watchdog.stop()
        self.sweeper.stop()
        self.keeper.stop()
        for writer in self.writers:
            writer.stop()
        for thread in (self.sweeper, self.keeper, *self.writers):
            thread.join()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._loop_thread.join()
        self.loop.close()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run the coroutine on the loop. The future gets its result, or raises its error."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                return self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # of a callback: it would end all replies
                logger.exception("code on the event loop has exited; the loop continues")
