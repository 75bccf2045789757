"""A reply that a test writes piece by piece. The test also lets time pass and makes the trips."""

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self
from uuid import uuid4

from streams.chat import ask
from streams.chat.publisher import publish_start
from streams.log.values import Append
from streams.models import Run
from streams.protocol.parts import ReasoningPart, WholePart
from workers.attempt import Attempt
from workers.delta_window import DeltaWindow
from workers.lease import claim
from workers.log_writer import OnResult, Turns, append_all
from workers.tool_calls import ToolNames


class SteppedLoop:
    """The time and the timers of an event loop. Time passes only by `step`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers_set = 0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> object:
        self.timers_set += 1
        self._timers.append((self.now + seconds, callback))
        return object()

    def step(self, seconds: float) -> None:
        """Let this much time pass. Timers that become due meanwhile fire at their time."""
        end = self.now + seconds
        while due := [timer for timer in self._timers if timer[0] <= end]:
            timer = min(due, key=lambda timer: timer[0])
            self._timers.remove(timer)
            self.now = timer[0]
            timer[1]()
        self.now = end


def stepped_window() -> tuple[SteppedLoop, DeltaWindow]:
    """A delta window, and the loop whose time it uses."""
    time: Any = SteppedLoop()
    return time, DeltaWindow(time)


class SteppedReply:
    """An attempt at a run. Its pieces wait in the writer's turns until `trip`."""

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop, window: DeltaWindow) -> None:
        self.run = run
        self.loop = loop
        self.unsent = Turns()
        self.away = threading.Event()
        process: Any = SimpleNamespace(
            loop=loop, writers=[self], window=window, draining=False, tool_names=ToolNames()
        )
        self.attempt = Attempt(run, process)
        self.writer = self.attempt.writer

    def write(self, piece: Append, on_result: OnResult) -> None:
        """Queue a piece, in place of `LogWriter.write`."""
        self.unsent.add([(piece, on_result)])

    def append(self, item: str | ReasoningPart | WholePart) -> None:
        """Append one item of the reply. Raises as `ReplyWriter.append` does."""
        self.loop.run_until_complete(self.writer.append(item))

    def trip(self) -> None:
        """Send all waiting pieces to the log, and deliver the results."""
        while batch := self.unsent.trip():
            results = append_all([piece for piece, _ in batch], self.away)
            for (_, on_result), result in zip(batch, results, strict=True):
                on_result(result)

    def confirm(self) -> None:
        """Wait until the log has confirmed the whole reply, as an attempt does at its end."""

        async def confirm() -> None:
            confirming = asyncio.ensure_future(self.writer.confirm())
            while not confirming.done():
                await asyncio.sleep(0)
                self.trip()
            await confirming

        self.loop.run_until_complete(confirm())


class SteppedReplies:
    """Replies of one process. They share a delta window, whose time the test controls."""

    def __enter__(self) -> Self:
        self.time, self._window = stepped_window()
        self._loop = asyncio.new_event_loop()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.close()

    def reply(self) -> SteppedReply:
        """A new run, claimed and started."""
        run = claim(ask.begin(owner="visitor:a", text="?").run, uuid4())
        assert run
        reply = SteppedReply(run, self._loop, self._window)
        reply.writer.head = publish_start(run)
        return reply
