"""The public module for agents: import all that an agent needs from here (docs/agents.md).

An agent is an asynchronous generator that gets a `Turn` and yields text and parts:

    async def support(turn: Turn) -> AsyncIterator[str | Part]:
        yield f"You asked: {turn.question}"

`runnable`, `graph` and `chat` turn a LangChain Runnable, a LangGraph graph or a LangChain chat
model into an agent. The setting AGENTS names each agent by its dotted path.
"""

from workers.agents.chat_model import chat
from workers.agents.graph import graph
from workers.agents.parts import *  # noqa: F403  # the types are listed once, in their module
from workers.agents.parts import __all__ as _parts
from workers.agents.reply import Agent
from workers.agents.runnable import runnable
from workers.agents.turn import Turn, current_turn
from workers.prompt.messages import PromptMessage

__all__ = [
    "Agent",
    "PromptMessage",
    "Turn",
    "chat",
    "current_turn",
    "graph",
    "runnable",
    *_parts,
]
