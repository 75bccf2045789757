"""Streams a model's reply, and retries requests that fail before its first piece."""

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
    """The text and the reasoning of one chunk of the model's stream."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of the reply. `usage` is None if the model server sent no token counts."""

    finish_reason: str
    usage: Usage | None


async def generate(
    turns: Sequence[Turn], *, model: str
) -> AsyncGenerator[TextChunk | Completion, None]:
    """Yield each chunk of the model's reply as it arrives, then one `Completion`.

    A transient error before the first chunk is retried. If the server refuses a parameter, the
    request is repeated without it. If the connection breaks before any response, the request is
    repeated at once, one time, because the server may have closed a pooled connection. Cancelling
    the task, or `aclose`, closes the HTTP request at once, so use `contextlib.aclosing`. Raises
    `ModelError`.
    """
    messages = convert_to_messages([(turn.role, turn.content) for turn in turns])
    llm: FastChatOpenAI | None = None
    parameters: Parameters | None = None  # None: those that the server is known to accept
    refused: frozenset[str] = frozenset()
    begun, tried, reconnected = False, 0, False
    while True:
        tried += 1
        try:
            llm = await chat_model(model, parameters)
            async with aclosing(_stream_once(llm, messages)) as chunks:
                async for chunk in chunks:
                    if parameters and not begun:
                        remember(llm.openai_api_base or "", model, parameters)
                    begun = True
                    yield chunk
            return
        except (ModelError, openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError) as cause:
            error = cause if isinstance(cause, ModelError) else model_error_of(cause)
            is_connection_lost = _is_connection_lost(cause)
            status = getattr(cause, "status_code", None)
            kind = type(cause.__cause__ or cause).__name__
            logger.warning("%s at %s, try %d: %s, %s", error.code, model, tried, kind, status)
        if error.refuses and llm and not begun:
            refused |= error.refuses & llm.parameters.names
            if instead := llm.parameters.without(refused):
                parameters, tried = instead, tried - 1  # the refused request does not count
                continue
        if not begun and not reconnected and is_connection_lost:
            reconnected, tried = True, tried - 1  # it does not count either
            continue
        jitter = random.uniform(0.5, 1)  # otherwise all replies would retry in the same second
        pause = (error.retry_after or 0) + FIRST_PAUSE * 2 ** (tried - 1) * jitter
        if (
            begun
            or not error.transient
            or tried >= settings.MODEL_MAX_TRIES
            or pause > LONGEST_PAUSE
        ):
            raise error  # outside of `except`: the text of `cause` may hold the prompt
        await asyncio.sleep(pause)


def _is_connection_lost(error: BaseException) -> bool:
    """Whether the server closed the connection before it sent any byte of a response."""
    cause = error.__cause__ and error.__cause__.__cause__  # openai's error, httpx2's, aiohttp's
    if isinstance(cause, aiohttp.ClientConnectorError):
        return False  # no connection could be made
    return isinstance(cause, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)


async def _stream_once(
    llm: FastChatOpenAI, messages: list[BaseMessage]
) -> AsyncGenerator[TextChunk | Completion, None]:
    finish_reason, usage = "stop", None
    # Not `astream`: its callbacks and tracing may send prompts to other services.
    async with aclosing(llm._astream(messages)) as chunks:
        async for chunk in chunks:
            message = cast(AIMessageChunk, chunk.message)
            reasoning = message.additional_kwargs.get("reasoning_content", "")
            if message.content or reasoning:
                yield TextChunk(clean(str(message.content)), clean(reasoning))
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
