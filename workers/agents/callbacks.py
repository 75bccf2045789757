"""LangChain callbacks that count tokens, and hold each tool back until its call is stored.

If a tool is started with `ainvoke`, LangChain awaits asynchronous handlers. If it is started with
`invoke`, in a thread or on the loop, LangChain ignores the errors of asynchronous handlers. So a
synchronous handler stores the calls of such tools.
"""

import asyncio
import threading
from collections.abc import Collection
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from workers.agents.parts import Usage
from workers.agents.threads import DaemonThreads
from workers.agents.turn import Control

HELD = 2.0  # seconds that a tool waits for a blocked event loop; then it begins unconfirmed

Repeat = bool | Collection[str]  # tools that may be called twice: all, none, or the named ones


def may_repeat(repeat: Repeat, tool: str | None) -> bool:
    """Whether the tool of this name may be called twice."""
    return repeat if isinstance(repeat, bool) else tool in repeat


def callbacks_of(control: Control, repeat: Repeat) -> tuple["TokenCounter", list[Any]]:
    """The counter of tokens, and all callbacks for the configuration of a Runnable."""
    counter, calls = TokenCounter(), _Calls(control, repeat)
    return counter, [counter, _ToolsAwaited(calls), _ToolsInvoked(calls)]


class TokenCounter(BaseCallbackHandler):
    """Adds up the tokens of all models in the agent, also of those whose text is hidden."""

    run_inline = True
    ignore_chain = True

    def __init__(self) -> None:
        self.usage: Usage | None = None

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        for choices in response.generations:
            self._count(choices[0] if choices else None)

    def _count(self, choice: object) -> None:
        if not isinstance(choice, ChatGeneration) or not isinstance(choice.message, AIMessage):
            return
        if counts := choice.message.usage_metadata:
            before = self.usage or Usage(0, 0)
            self.usage = Usage(
                before.input_tokens + counts["input_tokens"],
                before.output_tokens + counts["output_tokens"],
            )


class _Calls:
    """The tools that run now, and which of them must not be called twice."""

    def __init__(self, control: Control, repeat: Repeat) -> None:
        self.control = control
        self.loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._repeat = repeat
        self._running: set[UUID] = set()

    def __contains__(self, run: UUID) -> bool:
        return run in self._running

    def is_safe(self, serialized: dict[str, Any] | None) -> bool:
        """Whether the tool may be called twice."""
        return may_repeat(self._repeat, (serialized or {}).get("name"))

    def begin(self, run: UUID) -> None:
        """The tool begins: from now on the reply may be silent for TOOL_TIMEOUT."""
        self._running.add(run)
        self.control.tools = len(self._running)

    def confirm(self) -> None:
        """Wait until the log has confirmed the call, unless the event loop waits for this tool.

        The log's confirmation arrives on the event loop. So a tool that runs on the loop, or in a
        thread for which the loop waits, begins without it. If such a run is interrupted, its stored
        reply may lack the call. Raises `Superseded`.
        """
        running = threading.Event()

        async def said() -> None:
            running.set()
            await self.control.said()

        if threading.get_ident() == self._loop_thread:
            return
        waiting = asyncio.run_coroutine_threadsafe(said(), self.loop)
        if running.wait(HELD):
            waiting.result()
        else:
            waiting.cancel()

    def end(self, run: UUID) -> None:
        self._running.discard(run)
        self.control.tools = len(self._running)


class _ToolsAwaited(AsyncCallbackHandler):
    """Stores the calls of tools that are started with `ainvoke`."""

    raise_error = True  # a tool whose call was not stored does not begin
    run_inline = True
    ignore_llm = True  # handling each token would cost some µs
    ignore_chain = True

    def __init__(self, calls: _Calls) -> None:
        self._calls = calls

    async def on_tool_start(
        self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **_: Any
    ) -> None:
        """Store the call. Raises `Superseded`."""
        if asyncio.get_running_loop() is not self._calls.loop:
            return  # the tool was started with `invoke`; `_ToolsInvoked` has stored the call
        if not self._calls.is_safe(serialized):
            await self._calls.control.begin_call()
        self._calls.begin(run_id)


class _ToolsInvoked(BaseCallbackHandler):
    """Stores the calls of tools that are started with `invoke`. Records the end of every tool."""

    raise_error = True
    run_inline = True
    ignore_llm = True
    ignore_chain = True

    def __init__(self, calls: _Calls) -> None:
        self._calls = calls

    def on_tool_start(
        self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **_: Any
    ) -> None:
        """Store the call. Raises `Superseded`."""
        if run_id in self._calls:
            return  # the tool was started with `ainvoke`; `_ToolsAwaited` has stored the call
        if not self._calls.is_safe(serialized):
            self._calls.confirm()
            # In another thread, because Django refuses queries in the thread of a running loop.
            DaemonThreads().submit(self._calls.control.store_call).result()
        self._calls.begin(run_id)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        self._calls.end(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._calls.end(run_id)
