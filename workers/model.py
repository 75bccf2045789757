"""What a model replies, piece by piece, however often it takes to make it begin."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import aiohttp
import httpx2
import openai
from django.conf import settings
from langchain_core.messages import AIMessageChunk, BaseMessage, convert_to_messages

from streams.events import Usage
from streams.wire import clean
from workers.fault import ModelFault as ModelFault
from workers.fault import fault_of
from workers.prompt import Turn as Turn
from workers.voice import voice_of

FIRST_PAUSE = 1.0  # seconds before the second try; each later pause is twice as long
LONGEST_PAUSE = 20.0  # seconds; a provider that asks for more gets no second try

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one chunk of the provider's brought."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """The model has said all. `usage` is None where the provider gave none."""

    finish_reason: str
    usage: Usage | None


async def speak(turns: Sequence[Turn], *, model: str) -> AsyncGenerator[Piece | Finish, None]:
    """The model's reply: each piece as it was sent, then one Finish. Raises ModelFault.

    A transient fault before the first piece is tried again. Cancelling the task, or `aclose`,
    closes the HTTP request at once; so use `contextlib.aclosing`.
    """
    messages = convert_to_messages([(turn.role, turn.content) for turn in turns])
    begun = False
    for tried in range(1, settings.MODEL_TRIES + 1):
        try:
            async with aclosing(_listen(messages, model)) as said:
                async for piece in said:
                    begun = True
                    yield piece
            return
        except (ModelFault, openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError) as error:
            fault = error if isinstance(error, ModelFault) else fault_of(error)
            status = getattr(error, "status_code", None)
            kind = type(error.__cause__ or error).__name__
            logger.warning("%s at %s, try %d: %s, %s", fault.code, model, tried, kind, status)
        jitter = random.uniform(0.5, 1)  # so that all replies do not come back in one second
        pause = (fault.retry_after or 0) + FIRST_PAUSE * 2 ** (tried - 1) * jitter
        if begun or not fault.transient or tried == settings.MODEL_TRIES or pause > LONGEST_PAUSE:
            raise fault  # outside of `except`: the error's own text may hold the prompt
        await asyncio.sleep(pause)


async def _listen(messages: list[BaseMessage], model: str) -> AsyncGenerator[Piece | Finish, None]:
    finish_reason, usage = "stop", None
    # `astream` around it would bring LangChain's callbacks, and tracing that sends prompts away.
    voice = await voice_of(model)
    async with aclosing(voice._astream(messages)) as chunks:
        async for chunk in chunks:
            message = cast(AIMessageChunk, chunk.message)
            thought = message.additional_kwargs.get("reasoning_content", "")
            if message.content or thought:
                yield Piece(clean(str(message.content)), clean(thought))
            if chunk.generation_info:
                finish_reason = clean(chunk.generation_info["finish_reason"])
            if message.usage_metadata:
                counts = message.usage_metadata
                usage = Usage(
                    input_tokens=counts["input_tokens"],
                    output_tokens=counts["output_tokens"],
                    total_tokens=counts["total_tokens"],
                    estimated=False,
                )
    yield Finish(finish_reason, usage)
