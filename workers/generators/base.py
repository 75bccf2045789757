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

from streams.protocol.events import Usage
from streams.protocol.sse import clean
from workers.generators.errors import ModelError as ModelError
from workers.generators.errors import model_error_of
from workers.generators.openai import FastChatOpenAI, chat_model
from workers.generators.parameters import Parameters, remember
from workers.prompt.budget import Turn as Turn

FIRST_PAUSE = 1.0  # seconds before the second try; each later pause is twice as long
LONGEST_PAUSE = 20.0  # seconds; a provider that asks for more gets no second try

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TextChunk:
    """What one chunk of the provider's brought."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """The model has said all. `usage` is None where the provider gave none."""

    finish_reason: str
    usage: Usage | None


async def generate(
    turns: Sequence[Turn], *, model: str
) -> AsyncGenerator[TextChunk | Completion, None]:
    """The model's reply: each piece as it was sent, then one Finish. Raises ModelFault.

    A transient fault before the first piece is tried again, and a server that refuses a parameter
    is asked once more without it. Cancelling the task, or `aclose`, closes the HTTP request at
    once; so use `contextlib.aclosing`.
    """
    messages = convert_to_messages([(turn.role, turn.content) for turn in turns])
    voice: FastChatOpenAI | None = None
    parameters: Parameters | None = None  # those that are known to be taken
    refused: frozenset[str] = frozenset()
    begun, tried = False, 0
    while True:
        tried += 1
        try:
            voice = await chat_model(model, parameters)
            async with aclosing(_listen(voice, messages)) as said:
                async for piece in said:
                    if parameters and not begun:
                        remember(voice.openai_api_base or "", model, parameters)
                    begun = True
                    yield piece
            return
        except (ModelError, openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError) as error:
            fault = error if isinstance(error, ModelError) else model_error_of(error)
            status = getattr(error, "status_code", None)
            kind = type(error.__cause__ or error).__name__
            logger.warning("%s at %s, try %d: %s, %s", fault.code, model, tried, kind, status)
        if fault.refuses and voice and not begun:
            refused |= fault.refuses & voice.parameters.names
            if instead := voice.parameters.without(refused):
                parameters, tried = instead, tried - 1  # that request is not counted
                continue
        jitter = random.uniform(0.5, 1)  # so that all replies do not come back in one second
        pause = (fault.retry_after or 0) + FIRST_PAUSE * 2 ** (tried - 1) * jitter
        if (
            begun
            or not fault.transient
            or tried >= settings.MODEL_MAX_TRIES
            or pause > LONGEST_PAUSE
        ):
            raise fault  # outside of `except`: the error's own text may hold the prompt
        await asyncio.sleep(pause)


async def _listen(
    voice: FastChatOpenAI, messages: list[BaseMessage]
) -> AsyncGenerator[TextChunk | Completion, None]:
    finish_reason, usage = "stop", None
    # `astream` around it would bring LangChain's callbacks, and tracing that sends prompts away.
    async with aclosing(voice._astream(messages)) as chunks:
        async for chunk in chunks:
            message = cast(AIMessageChunk, chunk.message)
            thought = message.additional_kwargs.get("reasoning_content", "")
            if message.content or thought:
                yield TextChunk(clean(str(message.content)), clean(thought))
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
    yield Completion(finish_reason, usage)
