"""The agents of this process, loaded by the setting AGENTS, and the replies that they write."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from streams.models import Run
from workers.agents import Agent, Turn
from workers.agents.errors import AgentMisconfigured
from workers.agents.reply import reply_of
from workers.agents.turn import Control
from workers.prompt.messages import PromptMessage
from workers.reply_source import Reply


def load_agents() -> dict[str, Agent]:
    """Import the agents that AGENTS names. Raises `AgentMisconfigured`."""
    return {name: _load(name, path) for name, path in settings.AGENTS.items()}


def _load(name: str, path: str) -> Agent:
    try:
        agent = import_string(path)
    except Exception as error:  # the agent's own module may raise anything
        raise AgentMisconfigured(
            f"AGENTS: the agent {name} cannot be imported from {path}: {error!r}"
        ) from error
    if not _is_agent(agent):
        raise AgentMisconfigured(
            f"AGENTS: {path} is not an agent. {name} must be an asynchronous generator function "
            "with one parameter, the turn, or made by runnable(), graph() or chat()."
        )
    return agent  # type: ignore[no-any-return]


def _is_agent(agent: Any) -> bool:
    function = agent if inspect.isroutine(agent) else getattr(agent, "__call__", None)  # noqa: B004
    if not (inspect.isasyncgenfunction(agent) or inspect.isasyncgenfunction(function)):
        return False
    try:
        inspect.signature(agent).bind(None)
    except TypeError:
        return False
    return True


class AgentReplies:
    """The `ReplySource` of the agents process."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self._agents = agents

    def __call__(
        self,
        run: Run,
        prompt: list[PromptMessage],
        *,
        confirm: Callable[[], Awaitable[None]],
        called: Callable[[], bool],
        draining: Callable[[], bool],
    ) -> Reply:
        """Begin the reply of the run's agent."""
        control = Control(called=called, confirm=confirm, draining=draining)
        turn = Turn(
            run=run.id,
            attempt=run.attempt,
            conversation=run.conversation_id,
            owner=run.owner,
            model=run.model,
            question=run.message.content,
            history=tuple(prompt[:-1]),
            metadata=run.metadata or {},
            control=control,
        )

        def has_returned(seconds: float) -> bool:
            return control.task is None or control.returned.wait(seconds)

        return Reply(items=reply_of(self._agents[run.model], turn), has_returned=has_returned)
