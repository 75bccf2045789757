"""The conversations and runs that a chat at the terminal has created."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.ports import HOST
from tests.support.stack import Stack
from tests.support.terminal import visitor_of
from tests.support.visitor import Visitor
from tests.support.waiting import POLL_INTERVAL, until


@asynccontextmanager
async def same_person(stack: Stack, data: Path) -> AsyncIterator[Visitor]:
    visitor = visitor_of(stack, data)
    try:
        yield visitor
    finally:
        await visitor.close()


def words(text: str) -> list[str]:
    """The scripted model's words, without the line breaks."""
    return re.findall(r"w\d+-[0-9a-f]{3}", text)


def cookies(stack: Stack, data: Path) -> Path:
    """The file of this chat's session."""
    return data / f"chat-{HOST}-{stack.ports[stack.web.name]}.cookies"


async def being_written(stack: Stack, data: Path, pieces: int) -> dict[str, Any]:
    """The run that this chat has just started, once `pieces` pieces of text were published."""
    await until(cookies(stack, data).exists, within=30, what="a session")
    async with same_person(stack, data) as visitor, asyncio.timeout(30):
        while True:
            for newest in (await visitor.conversations())[:1]:
                for run in (await visitor.conversation(newest["id"]))["runs"]:
                    if len(words(run["text"])) >= pieces:
                        return dict(run)
            await asyncio.sleep(POLL_INTERVAL)


async def stored(stack: Stack, data: Path) -> list[tuple[str, str]]:
    """The role and text of each message in the conversation that this chat started last."""
    async with same_person(stack, data) as visitor:
        newest = (await visitor.conversations())[0]["id"]
        messages = (await visitor.conversation(newest))["messages"]
        return [(message["role"], message["content"]) for message in messages]
