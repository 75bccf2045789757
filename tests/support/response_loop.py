"""The code that a developer writes to follow a response with OpenAI's client for Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import openai
from openai import AsyncOpenAI

from tests.support.openai_client import User
from tests.support.script import expected

CUT = openai.APIConnectionError
ENDINGS = ("response.completed", "response.failed", "response.incomplete")


@dataclass
class ResponseLoop:
    """A developer's plain loop: it adds up deltas, and keeps the last `sequence_number`."""

    texts: dict[str, str] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    id: str = ""
    final: Any = None

    async def read(self, stream: Any) -> None:
        async for event in stream:
            self.numbers.append(event.sequence_number)
            if event.type == "response.created":
                self.id = event.response.id
            elif event.type == "response.output_text.delta":
                self.texts[event.item_id] = self.texts.get(event.item_id, "") + event.delta
            elif event.type == "response.output_item.done" and event.item.status == "incomplete":
                if not event.item.content:
                    self.texts.pop(event.item.id, None)
            elif event.type in ENDINGS:
                self.final = event.response

    async def read_again(self, client: AsyncOpenAI) -> None:
        """Read the events after the last number, over as many connections as needed."""
        while self.final is None:
            after: Any = {"starting_after": self.numbers[-1]} if self.numbers else {}
            try:
                await self.read(await client.responses.retrieve(self.id, stream=True, **after))
            except CUT:
                continue

    def text(self) -> str:
        return "".join(self.texts.values())


async def check(user: User, loop: ResponseLoop, asked: str) -> None:
    """Check that the loop has the stored text, and received each frame once and in order."""
    assert loop.text() == loop.final.output_text == expected(asked)
    assert (await user.stored(loop.id))["text"] == expected(asked)
    assert loop.numbers == sorted(set(loop.numbers))


async def in_background(client: AsyncOpenAI, asked: str, **also: Any) -> Any:
    return await client.responses.create(
        model="scripted", input=asked, background=True, stream=True, **also
    )
