"""Watches the event loop of the agents process, and names the run whose code holds it.

An agent that blocks the loop delays the other agents of its process, but no model's reply.
"""

import asyncio
import logging
import threading
from time import monotonic

logger = logging.getLogger(__name__)
LOOK = 1.0  # seconds between two looks
HELD = 5.0  # seconds that one step of a task may take


class LoopWatch(threading.Thread):
    """Logs an error when the loop is held for HELD seconds, and a line when it is free again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="loop watch", daemon=True)
        self._loop = loop
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(LOOK):
            asked, answered = monotonic(), threading.Event()
            self._loop.call_soon_threadsafe(answered.set)
            if answered.wait(HELD):
                continue
            task = asyncio.current_task(self._loop)
            name = task.get_name() if task else "no task"
            logger.error("%s holds the event loop for over %.0f s: it blocks", name, HELD)
            while not (answered.wait(LOOK) or self._stopped.is_set()):
                pass
            logger.warning("the event loop was held for %.0f s", monotonic() - asked)

    def stop(self) -> None:
        """End the thread; returns at once."""
        self._stopped.set()
