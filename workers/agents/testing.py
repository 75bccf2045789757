"""Runs an agent in a test, with a turn that the test makes, without database, queue or log.

    reply = await run(support, "Where is my parcel?")
    assert reply.text == "It is on its way."

The agent runs as it does in the agents process, with the same checks and limits. Django's settings
must be configured. A database is needed only if the agent's own code uses one.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from streams.log.errors import Superseded
from streams.protocol.events import Usage
from streams.protocol.parts import (
    AnyPart,
    DataPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    add_part,
    reasoning_of,
    text_of,
)
from workers.agents.errors import AgentError
from workers.agents.reply import Agent, reply_of
from workers.agents.turn import Control, Turn
from workers.agents.watchdog import create_task
from workers.generators.errors import ModelError
from workers.prompt.messages import PromptMessage
from workers.reply_items import Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The agent's reply: the parts as the database would store them, and how it ended.

    `code` is the error code that the run would have, such as `agent_error`, or None if the reply is
    complete. `called` says whether the agent called a tool that must not be called twice. After
    such a call, a run that loses its worker ends as `tools_called`.
    """

    parts: tuple[AnyPart, ...]
    finish_reason: str | None
    usage: Usage | None
    code: str | None
    called: bool

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return text_of(self.parts)

    @property
    def reasoning(self) -> str:
        return reasoning_of(self.parts)

    @property
    def calls(self) -> list[ToolCallPart]:
        return [part for part in self.parts if isinstance(part, ToolCallPart)]

    @property
    def results(self) -> list[ToolResultPart]:
        return [part for part in self.parts if isinstance(part, ToolResultPart)]

    @property
    def sources(self) -> list[SourcePart]:
        return [part for part in self.parts if isinstance(part, SourcePart)]

    @property
    def data(self) -> dict[str, Any]:
        """The data by name: for each name the last data part."""
        return {part.name: part.data for part in self.parts if isinstance(part, DataPart)}


def turn_of(
    question: str,
    *,
    history: Iterable[PromptMessage] = (),
    owner: str = "visitor:00000000-0000-4000-8000-000000000000",
    model: str = "agent",
    metadata: Mapping[str, Any] | None = None,
    attempt: int = 1,
    control: Control | None = None,
) -> Turn:
    """A turn as the engine would give it to the agent."""
    return Turn(
        run=uuid4(),
        attempt=attempt,
        conversation=uuid4(),
        owner=owner,
        model=model,
        question=question,
        history=tuple(history),
        metadata=metadata or {},
        control=control or Control(),
    )


async def run(agent: Agent, turn: Turn | str) -> Reply:
    """Run the agent to its end and return its reply. A string is the question of a new turn."""
    turn = turn_of(turn) if isinstance(turn, str) else turn
    stored = turn.control.called
    called: list[UUID] = []

    def note() -> bool:
        called.append(turn.run)
        return stored()

    turn.control.called = note
    parts: tuple[AnyPart, ...] = ()
    completion: Completion | None = None
    code: str | None = None
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is None:  # other tasks are created as before
        loop.set_task_factory(create_task)  # type: ignore[arg-type]  # the stubs' type is narrower
    try:
        async with aclosing(reply_of(agent, turn)) as items:
            async for item in items:
                if isinstance(item, Completion):
                    completion = item
                else:
                    part = TextPart(text=item) if isinstance(item, str) else item
                    parts = add_part(parts, part)
    except (AgentError, ModelError) as error:
        code = error.code
    except Superseded:
        code = "superseded"
    return Reply(
        parts=parts,
        finish_reason=completion.finish_reason if completion else None,
        usage=completion.usage if completion else None,
        code=code,
        called=bool(called),
    )
