"""An agent whose question is its script, for tests of the process that runs it.

The question is a JSON list of steps, each an object with one of these keys:

    say      text
    think    reasoning
    source   the title of a source
    data     a value that replaces the last value
    call     the name of a tool: yields the call, runs the tool, yields its result
    recall   yields the roles of the messages in its history
    wait     seconds of silence
    hold     in attempt 1, yields nothing more
    yield    yields this JSON value as it is
    swallow  seconds for which it ignores its cancellation
    block    seconds for which it blocks the event loop
    fail     raises an exception with this text, reversed, because readers see the question itself

A call may have `repeat` (it is safe to repeat), `seconds` (that the tool takes), `thread` (the
tool blocks a thread, not the agent), `hold` (the tool does not return in attempt 1), `bytes` (the
size of its output), `fail` (it raises, as above) and `times` (the number of calls). `swallow`,
`block` and a call with `thread` may have `until`: they end earlier when this file exists. Before
anything else, each tool appends its call to the file `record` of the metadata. So a test can count
calls whatever happens to this process.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers.agents import Data, Part, Reasoning, Source, ToolCall, ToolResult, Turn


async def scripted(turn: Turn) -> AsyncIterator[str | Part]:
    """Follow the script in the question."""
    for step in json.loads(turn.question):
        match step:
            case {"say": text}:
                yield str(text)
            case {"call": name}:
                for _ in range(step.get("times", 1)):
                    call = ToolCall(name, {"step": 1}, repeat=step.get("repeat", False))
                    yield call
                    yield ToolResult(call.call, await _tool(turn, step))
            case {"think": text}:
                yield Reasoning(text)
            case {"source": title}:
                yield Source(title, f"https://example.org/{title}")
            case {"data": value}:
                yield Data("data", value, "1")
            case {"recall": _}:
                yield " ".join(message["role"] for message in turn.messages())
            case {"wait": seconds}:
                await asyncio.sleep(seconds)
            case {"hold": _}:
                await _hold(turn)
            case {"yield": value}:
                yield value
            case {"swallow": seconds}:
                for _ in _moments(seconds, step):
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(0.01)
            case {"block": seconds}:
                _block(seconds, step)
            case {"fail": text}:
                raise RuntimeError(text[::-1])


async def _tool(turn: Turn, step: dict[str, Any]) -> str:
    _note(turn, step["call"])
    if "fail" in step:
        raise RuntimeError(step["fail"][::-1])
    if "hold" in step:
        await _hold(turn)
    if step.get("thread"):
        await asyncio.to_thread(_block, step["seconds"], step)
    else:
        await asyncio.sleep(step.get("seconds", 0))
    return "x" * step["bytes"] if "bytes" in step else f"{step['call']} is done"


async def _hold(turn: Turn) -> None:
    if turn.attempt == 1:
        await asyncio.Event().wait()


def _note(turn: Turn, name: str) -> None:
    """Append a line to the record, in one write that survives this process."""
    if path := turn.metadata.get("record"):
        line = f"{turn.run} {turn.attempt} {name}\n".encode()
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line)
        os.close(file)


def _block(seconds: float, step: dict[str, Any]) -> None:
    for _ in _moments(seconds, step):
        time.sleep(0.01)


def _moments(seconds: float, step: dict[str, Any]) -> Iterator[None]:
    """Yield until the seconds are over, or until the step's file `until` exists."""
    end, released = time.monotonic() + seconds, Path(step.get("until", "/nowhere"))
    while time.monotonic() < end and not released.exists():
        yield


def no_generator(turn: Turn) -> str:
    """Not an agent, because it returns a text."""
    return turn.question


async def no_turn() -> AsyncIterator[str]:
    """Not an agent, because it has no parameter for the turn."""
    yield "?"
