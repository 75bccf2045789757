"""Streams a model's reply, and retries requests that fail before its first piece."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import aiohttp
import httpx2
import openai
from langchain_core.messages import BaseMessage, convert_to_messages

from streams.protocol.parts import ReasoningPart
from streams.protocol.sse import clean
from workers.generators.errors import ModelError as ModelError
from workers.generators.errors import model_error_of
from workers.generators.openai import FastChatOpenAI, chat_model
from workers.generators.parameters import Parameters, remember
from workers.generators.retry import pause_before_retry
from workers.prompt.messages import PromptMessage
from workers.reply_items import Completion, ReplyItem

logger = logging.getLogger(__name__)


async def generate(
    turns: Sequence[PromptMessage], *, model: str
) -> AsyncGenerator[ReplyItem, None]:
    """Yield the pieces of the model's reply as they arrive, then one `Completion`.

    A transient error before the first chunk is retried. If the server refuses a parameter, the
    request is repeated without it. If the connection breaks before any response, the request is
    repeated at once, one time, because the server may have closed a kept connection. From then on
    each request has a new connection, because more of the kept ones may be closed. Cancelling the
    task, or `aclose`, closes the HTTP request at once, so use `contextlib.aclosing`. Raises
    `ModelError`.
    """
    messages = convert_to_messages([(turn.role, turn.content) for turn in turns])
    llm: FastChatOpenAI | None = None
    parameters: Parameters | None = None  # None means those that the server is known to accept
    refused: frozenset[str] = frozenset()
    begun, tried, reconnected = False, 0, False
    while True:
        tried += 1
        try:
            llm = await chat_model(model, parameters, connects_anew=reconnected)
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
            reconnected, tried = True, tried - 1  # this request does not count either
            continue
        pause = None if begun else pause_before_retry(error, tried)
        if pause is None:
            raise error  # outside of `except`, because a chained `cause` may hold the prompt
        await asyncio.sleep(pause)


def _is_connection_lost(error: BaseException) -> bool:
    """Whether the server closed the connection before it sent any byte of a response."""
    cause = error.__cause__ and error.__cause__.__cause__  # openai's error, httpx2's, aiohttp's
    if isinstance(cause, aiohttp.ClientConnectorError):
        return False  # no connection could be made
    return isinstance(cause, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)


async def _stream_once(
    llm: FastChatOpenAI, messages: list[BaseMessage]
) -> AsyncGenerator[ReplyItem, None]:
    finish_reason, usage = "stop", None
    # `astream` is not used, because its callbacks and tracing may send prompts to other services.
    async with llm.chunks(messages) as chunks:
        async for chunk in chunks:
            if chunk.reasoning:
                yield ReasoningPart(text=clean(chunk.reasoning))
            if chunk.text:
                yield clean(chunk.text)
            if chunk.finish_reason is not None:
                finish_reason = clean(chunk.finish_reason)
            usage = chunk.usage or usage
    yield Completion(finish_reason, usage)
