"""Turns any LangChain chat model into an agent. Repeats requests that fail before the reply."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from langchain_core.runnables import Runnable

from workers.agents.callbacks import Repeat
from workers.agents.parts import Part
from workers.agents.runnable import Generator, runnable
from workers.agents.turn import Turn
from workers.generators.errors import provider_error_of
from workers.generators.retry import pause_before_retry

logger = logging.getLogger(__name__)


def chat(model: Runnable[Any, Any], *, repeat: Repeat = False) -> Generator:
    """Turn a chat model, such as `init_chat_model("anthropic:…")`, into an agent.

    The model gets the texts of the conversation. If a request fails with a transient error before
    the first piece of the reply, it is repeated, up to MODEL_MAX_TRIES requests in all. So create
    the model with `max_retries=0`. `repeat` says which tools of the provider may be called twice
    for one question.
    """
    once = runnable(model, repeat=repeat)

    async def agent(turn: Turn) -> AsyncGenerator[str | Part, None]:
        begun, tried = False, 0
        while True:
            tried += 1
            try:
                async with aclosing(once(turn)) as items:
                    async for item in items:
                        begun = True
                        yield item
                return
            except Exception as cause:
                error = provider_error_of(cause, begun=begun)
                if error is None:
                    raise
                kind = type(cause.__cause__ or cause).__name__
                logger.warning("%s at %s, try %d: %s", error.code, turn.model, tried, kind)
            pause = None if begun else pause_before_retry(error, tried)
            if pause is None:
                raise error  # outside of `except`, because a chained `cause` may hold the prompt
            await asyncio.sleep(pause)

    return agent
