"""Runs an agent for one turn, in its own task, and yields its checked reply.

The task queues the agent's checked items, and the attempt takes them from this queue. So the
attempt can end the run even if the agent does not return. Later items of the agent are dropped.

If text follows other text within a tick of the delta window, the attempt takes it at the end of the
tick, as one piece. Otherwise the loop would switch between the tasks for each token of a fast
model.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings

from streams.log.errors import Superseded
from workers.agents.checks import Checks
from workers.agents.errors import AgentError
from workers.agents.parts import Part, ToolCall
from workers.agents.threads import DaemonThreads
from workers.agents.turn import CURRENT, Turn
from workers.delta_window import LONGEST, TICKS
from workers.generators.errors import ModelError
from workers.reply_items import Completion, ReplyItem

Agent = Callable[[Turn], AsyncIterator[str | Part]]

AHEAD = 32  # items that the agent may be ahead of the attempt
PATIENCE = 1.0  # seconds that an agent has to return once its reply is over
LOOK = 1.0  # seconds, at most, between two checks whether the agent is silent

logger = logging.getLogger(__name__)


async def reply_of(agent: Agent, turn: Turn) -> AsyncGenerator[ReplyItem, None]:
    """Yield the pieces and parts of the agent's reply, then one `Completion`.

    Use `contextlib.aclosing`, because closing stops the agent: its task is cancelled, and abandoned
    if it does not return within PATIENCE. `turn.control.returned` is set once the agent and all its
    threads have returned. Raises `AgentError`, `ModelError` (from the agent's chat model), and
    `Superseded` if `control.called` reports that another attempt has the run.
    """
    reply = _Reply(agent, turn)
    try:
        while not isinstance(item := await reply.next(), Completion):
            yield item
        yield item
    finally:
        await reply.stop()


class _Reply:
    """One running agent: its task, its timer, and the items that the attempt has not taken yet."""

    def __init__(self, agent: Agent, turn: Turn) -> None:
        self._agent, self._turn, self._control = agent, turn, turn.control
        self._checks = Checks(turn.run, turn.attempt)
        self._name = f"run {turn.run} attempt {turn.attempt}"
        # A future stands for a call that waits until the log has confirmed all items before it.
        self._items: deque[ReplyItem | asyncio.Future[None]] = deque()
        self._waiting: set[asyncio.Future[None]] = set()
        self._more, self._room = asyncio.Event(), asyncio.Event()
        self._tick: asyncio.TimerHandle | None = None  # while it runs, text waits for more text
        self._end: Completion | Exception | None = None
        self._asked_at: float | None = None  # when the agent was asked for its next item
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.call_later(LOOK, self._look_at_clock)
        self._control.superseded = self._supersede
        self._control.failed = lambda: self._end_with(AgentError("agent_error"))
        self._control.said = self._said
        self._control.begin_work()
        token = CURRENT.set(turn)  # for the task, and for the watchdog, which creates it
        self._task = self._loop.create_task(self._run(), name=f"run {turn.run}")
        CURRENT.reset(token)
        self._task.add_done_callback(lambda _: self._control.end_work())
        self._control.task = self._task  # the loop itself has only weak references to tasks

    async def next(self) -> ReplyItem:
        """Return the next item. After the last one, raises the error that ended the reply."""
        while isinstance(item := await self._next(), asyncio.Future):
            await self._control.confirm()
            if not item.done():
                item.set_result(None)
        return item

    async def _next(self) -> ReplyItem | asyncio.Future[None]:
        while not self._items:
            if isinstance(self._end, Exception):
                raise self._end
            if self._end:
                return self._end
            self._more.clear()
            await self._more.wait()
        item = self._items.popleft()
        if isinstance(item, str) and settings.DELTA_WINDOW:
            item = self._with_text_after(item)
            if not (self._items or self._tick):
                tick = settings.DELTA_WINDOW / TICKS
                self._tick = self._loop.call_later(tick, self._end_tick)
        if len(self._items) < AHEAD // 2:
            self._room.set()
        return item

    def _with_text_after(self, text: str) -> str:
        """Return the text joined with the text items right after it, up to LONGEST characters."""
        items = self._items
        while items and isinstance(more := items[0], str) and len(text) + len(more) <= LONGEST:
            text += more
            items.popleft()
        return text

    def _end_tick(self) -> None:
        self._tick = None
        if self._items:
            self._more.set()

    async def stop(self) -> None:
        """Cancel the agent, unless its reply is complete, and abandon it after PATIENCE."""
        self._control.over = True
        self._clock.cancel()
        if self._tick:
            self._tick.cancel()
        for said in self._waiting:
            if not said.done():
                said.set_exception(Superseded())
        if not isinstance(self._end, Completion):
            self._task.cancel()
        _, pending = await asyncio.wait([self._task], timeout=PATIENCE)
        if pending:
            logger.warning("%s: the agent does not return, its output is dropped", self._name)
            self._task.cancel()

    def _supersede(self) -> None:
        self._loop.call_soon_threadsafe(self._end_with, Superseded())

    def _end_with(self, end: Completion | Exception) -> None:
        self._end = self._end or end
        self._more.set()

    async def _run(self) -> None:
        try:
            # Gives this agent its own thread for Django's asynchronous queries. Otherwise they
            # would wait for the queries of other agents.
            async with ThreadSensitiveContext(executor=DaemonThreads(serial=True)):
                await self._read()
            self._end_with(self._checks.finish())
        except (AgentError, ModelError, Superseded) as error:
            self._end_with(error)
        except asyncio.CancelledError:
            if not self._control.over:
                logger.error("%s: the agent was cancelled by its own code", self._name)
                self._end_with(AgentError("agent_error"))
            raise
        except BaseException:  # `sys.exit()` in a tool ends the reply, not the process
            logger.exception("%s: the agent failed", self._name)
            self._end_with(AgentError("agent_error"))

    async def _read(self) -> None:
        time, checks = self._loop.time, self._checks
        items = self._agent(self._turn)
        async with AsyncExitStack() as stack:
            if aclose := getattr(items, "aclose", None):
                stack.push_async_callback(aclose)
            self._asked_at = time()
            async for item in items:
                self._asked_at = None
                if self._control.over:
                    return  # the agent ignored its cancellation
                for checked in checks.check(item):
                    await self._put(checked)
                if checks.completion:
                    return self._end_with(checks.completion)
                if isinstance(item, ToolCall) and not item.repeat:
                    await self._control.begin_call()
                self._asked_at = time()
            self._asked_at = None

    async def _put(self, item: ReplyItem) -> None:
        self._items.append(item)
        full = len(self._items) >= AHEAD
        if full or not (self._tick and isinstance(item, str)):
            self._more.set()
        if full:
            self._room.clear()
            await self._room.wait()

    async def _said(self) -> None:
        """Wait until the log has confirmed all items so far. Raises `Superseded` after a stop."""
        if self._control.over:
            raise Superseded
        said = self._loop.create_future()
        self._waiting.add(said)
        self._items.append(said)
        self._more.set()
        try:
            await said
        finally:
            self._waiting.discard(said)

    def _look_at_clock(self) -> None:
        """End the reply if the agent has been silent for too long; otherwise look again later."""
        in_tool = self._checks.calls.open or self._control.tools
        limit = settings.TOOL_TIMEOUT if in_tool else settings.MODEL_READ_TIMEOUT
        silent = 0.0
        if self._asked_at is not None and not self._control.storing and not self._waiting:
            silent = self._loop.time() - self._asked_at
        if silent >= limit:
            self._end_with(AgentError("tool_silent" if in_tool else "model_silent"))
        else:
            wait = min(LOOK, max(limit - silent, 0.01))
            self._clock = self._loop.call_later(wait, self._look_at_clock)
