"""The voice of a model on any OpenAI-compatible server, by way of LangChain.

LangChain builds the request and the SDK sends it; `workers.generators.reply_stream` reads the
answer. The SDK's own reading makes half a dozen pydantic objects of each token, and costs three
to four times as much processor time as all of it (docs/performance.md).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from functools import lru_cache
from time import monotonic
from typing import Any

import httpx2
import openai
from django.conf import settings
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from workers.generators.chunks import Chunk
from workers.generators.errors import ModelError
from workers.generators.parameters import Parameters, parameters_for
from workers.generators.reply_stream import ReplyStream
from workers.generators.sse_lines import LineReader

OPENAI = "https://api.openai.com/v1"
CONNECTIONS = 1024  # to the model, per process: more than a worker ever has replies

# At DEBUG these write prompts, and the headers with the key.
for _talkative in ("openai", "httpx2", "httpcore2", "langchain_openai", "langchain_core"):
    logging.getLogger(_talkative).setLevel(logging.WARNING)


class FastChatOpenAI(ChatOpenAI):
    """LangChain's model, with a reader of its own for the stream."""

    parameters: Parameters

    def _get_request_payload(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(*args, **kwargs)
        payload[self.parameters.token_limit] = payload.pop("max_completion_tokens")
        if not self.parameters.stream_usage:
            payload.pop("stream_options", None)
        # The SDK looks at each part of each message, which takes a worker 50 ms for 200 turns, and
        # changes none. What is in `extra_body` it sends as it is.
        also = {**(payload.get("extra_body") or {}), "messages": payload["messages"]}
        return {**payload, "messages": [], "extra_body": also}

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        request = self.async_client.with_streaming_response.create(
            **self._get_request_payload(messages, **asked, **kwargs)
        )
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(settings.MODEL_READ_TIMEOUT):
                    answer = await stack.enter_async_context(request)
            except TimeoutError:
                raise ModelError("model_silent") from None
            lines = LineReader(answer.http_response, patience=settings.MODEL_READ_TIMEOUT)
            reply = await stack.enter_async_context(aclosing(ReplyStream(lines).read()))
            async for chunk in reply:
                yield _message_chunk(chunk)


def _message_chunk(chunk: Chunk) -> ChatGenerationChunk:
    """The chunk as LangChain's value. What is not set costs no validation."""
    fields: dict[str, Any] = {}
    if chunk.reasoning:
        fields["additional_kwargs"] = {"reasoning_content": chunk.reasoning}
    if usage := chunk.usage:
        fields["usage_metadata"] = UsageMetadata(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
        )
    message = AIMessageChunk(content=chunk.text, **fields)
    if chunk.finish_reason is None:
        return ChatGenerationChunk(message=message)
    return ChatGenerationChunk(
        message=message, generation_info={"finish_reason": chunk.finish_reason}
    )


async def _base_url() -> str:
    if not settings.EMBEDDED_MODEL:
        return settings.OPENAI_BASE_URL or OPENAI
    given_up = monotonic() + settings.MODEL_CONNECT_TIMEOUT
    while monotonic() < given_up:  # it may be loading yet, where all was started at once
        try:
            # Read each time: a restarted model listens on another port.
            return str(settings.MODEL_URL_FILE.read_text().strip())
        except FileNotFoundError:
            await asyncio.sleep(0.1)
    raise ModelError("model_unreachable")


_clients: dict[asyncio.AbstractEventLoop, httpx2.AsyncClient] = {}


async def chat_model(model: str, parameters: Parameters | None = None) -> FastChatOpenAI:
    """The model's voice in this loop. Raises ModelFault where the embedded one is not there.

    It asks with these parameters, or with those that are known to be taken.
    """
    base_url = await _base_url()
    asked_with = parameters or parameters_for(base_url, model)
    return _voice(asyncio.get_running_loop(), base_url, model, asked_with)


async def close_client() -> None:
    """Close this loop's connections to the model, which are kept for the next request."""
    _voice.cache_clear()
    if client := _clients.pop(asyncio.get_running_loop(), None):
        await client.aclose()


@lru_cache(maxsize=32)
def _voice(
    loop: asyncio.AbstractEventLoop, base_url: str, model: str, parameters: Parameters
) -> FastChatOpenAI:
    """One for each model that may be asked for; all share the loop's connections."""
    # Read without a limit: what is silence is decided line by line.
    timeout = httpx2.Timeout(None, connect=settings.MODEL_CONNECT_TIMEOUT)
    if loop not in _clients:
        # aiohttp under the SDK takes half the time of httpx to hand over a token.
        limits = httpx2.Limits(max_connections=CONNECTIONS, keepalive_expiry=30)
        # A redirect would take the conversation to a server that the operator did not name.
        _clients[loop] = openai.DefaultAioHttpClient(
            timeout=timeout, limits=limits, follow_redirects=False
        )
    headers = {"Accept-Encoding": "identity"}
    if base_url.startswith("http:"):
        # Near by, a new connection costs less than to find the kept one dead: llama.cpp
        # promises to keep it, and closes it after each reply.
        headers["Connection"] = "close"
    small = settings.EMBEDDED_MODEL  # it repeats itself without a penalty, and never stops
    return FastChatOpenAI(
        parameters=parameters,
        model=model,
        base_url=base_url,
        api_key=SecretStr(settings.OPENAI_API_KEY or "unused"),
        http_async_client=_clients[loop],
        timeout=timeout,
        max_retries=0,  # `speak` tries again, and only before the first piece
        use_responses_api=False,
        openai_proxy=None,
        default_headers=headers,
        temperature=0.3 if small else settings.MODEL_TEMPERATURE,
        max_completion_tokens=512 if small else settings.MAX_OUTPUT_TOKENS,
        extra_body={"repeat_penalty": 1.05} if small else None,
    )
