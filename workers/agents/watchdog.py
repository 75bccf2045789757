"""Writes to the process log which run's code blocks the event loop of the agents.

An agent that computes for long, or waits without `await`, blocks all other agents of its process.
It cannot be stopped before it returns to the loop.
"""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from workers.agents.turn import CURRENT, Turn

HELD = 5.0  # seconds that the loop may be blocked before a warning names the run
LOOK = 1.0  # seconds between two checks of the loop

logger = logging.getLogger(__name__)
T = TypeVar("T")


class AgentExited(Exception):
    """The agent's code called `sys.exit()` in a task. Its reply has ended as `agent_error`."""


async def _contained(work: Coroutine[Any, Any, T], turn: Turn) -> T:
    """Await the work of an agent's task. Otherwise a `SystemExit` in it would stop the loop."""
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        logger.exception("run %s attempt %s: its code has exited", turn.run, turn.attempt)
        turn.control.failed()
        raise AgentExited from error


def create_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """The task factory of a loop that runs agents: no agent's task can end the process."""
    turn = CURRENT.get()
    if turn is None:
        return asyncio.Task(work, loop=loop, **options)
    task = asyncio.Task(_contained(work, turn), loop=loop, **options)
    task.add_done_callback(lambda _: work.close())  # in case it was cancelled before it began
    return task


class Watchdog(threading.Thread):
    """Watches one event loop. Create it before the loop runs, as it creates the loop's tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, held: float = HELD) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._loop, self._held = loop, held
        self._turns: WeakKeyDictionary[asyncio.Task[Any], Turn] = WeakKeyDictionary()
        self._loop_thread: int | None = None
        self._alive = threading.Event()
        self._stopped = threading.Event()
        loop.set_task_factory(self._task)  # type: ignore[arg-type]  # the stubs' type is narrower

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        """Write one warning each time the loop is blocked."""
        while not self._stopped.wait(min(LOOK, self._held)):
            self._alive.clear()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:
                return  # the loop is closed
            if not self._alive.wait(self._held) and not self._stopped.is_set():
                self._warn()
                self._alive.wait()

    def _task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        self._loop_thread = threading.get_ident()
        task = create_task(loop, work, **options)
        if turn := CURRENT.get():
            self._turns[task] = turn
        return task

    def _warn(self) -> None:
        task = asyncio.current_task(self._loop)
        turn = self._turns.get(task) if task else None
        name = f"run {turn.run} attempt {turn.attempt}" if turn else "no agent's code"
        frame = sys._current_frames().get(self._loop_thread or 0)
        stack = "".join(traceback.format_stack(frame)[-12:]) if frame else ""
        logger.warning("%s holds the event loop for %s s:\n%s", name, self._held, stack)
