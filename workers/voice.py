"""The voice of a model on any OpenAI-compatible server, by way of LangChain.

LangChain builds the request and the SDK sends it; the answer is read here, line by line. The
SDK's own reading makes half a dozen pydantic objects of each token, and costs three to four
times as much processor time as all of this (docs/performance.md).
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from functools import lru_cache
from time import monotonic
from typing import Any

import aiohttp
import httpx2
import openai
import orjson
from django.conf import settings
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from workers.fault import ModelFault, fault_of_body
from workers.lines import Lines, LineTooLong
from workers.parameters import Parameters, parameters_for

OPENAI = "https://api.openai.com/v1"
CONNECTIONS = 1024  # to the model, per process: more than a worker ever has replies
LAST_WORDS = 2.0  # seconds after the finish reason for the token counts and the end
LAST_BYTES = 0.2  # seconds after [DONE] for the body's end, without which no connection is reused

# At DEBUG these write prompts, and the headers with the key.
for _talkative in ("openai", "httpx2", "httpcore2", "langchain_openai", "langchain_core"):
    logging.getLogger(_talkative).setLevel(logging.WARNING)


class Voice(ChatOpenAI):
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
                async with asyncio.timeout(settings.MODEL_SILENCE):
                    answer = await stack.enter_async_context(request)
            except TimeoutError:
                raise ModelFault("model_silent") from None
            lines = Lines(answer.http_response, patience=settings.MODEL_SILENCE)
            said = await stack.enter_async_context(aclosing(_chunks(lines)))
            async for chunk in said:
                yield chunk


async def _chunks(lines: Lines) -> AsyncGenerator[ChatGenerationChunk, None]:
    """What the lines say. Raises ModelFault unless they come to an end that is one."""
    over = False
    try:
        async with aclosing(lines.read()) as arriving:
            async for line in arriving:
                if not line.startswith(b"data:"):
                    continue  # a comment, by which some providers keep the connection open
                if line == b"data: [DONE]":
                    over, lines.patience = True, LAST_BYTES
                    continue
                chunk = _chunk(line[5:])
                if chunk.generation_info:
                    over, lines.patience = True, LAST_WORDS
                yield chunk
    except TimeoutError:
        if not over:
            raise ModelFault("model_silent") from None
    except (httpx2.HTTPError, aiohttp.ClientError, LineTooLong) as error:
        if not over:
            raise ModelFault("model_interrupted") from error
    if not over:
        raise ModelFault("model_interrupted")


def _chunk(line: bytes) -> ChatGenerationChunk:
    try:
        try:
            body = orjson.loads(line)
        except orjson.JSONDecodeError:
            # Not so strict: it takes half a surrogate pair, and bytes that are no UTF-8.
            body = json.loads(line.decode("utf-8", "replace"))
        if body.get("error"):
            raise fault_of_body(body)
        choice = body["choices"][0] if body.get("choices") else {}
        delta = choice.get("delta") or {}
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        message = AIMessageChunk(
            content=delta.get("content") or delta.get("refusal") or "",
            additional_kwargs={"reasoning_content": thought} if thought else {},
            usage_metadata=_usage(body["usage"]) if body.get("usage") else None,
        )
    except (ValueError, AttributeError, TypeError, LookupError):
        raise ModelFault("model_interrupted") from None  # half a line, or nobody's format
    reason = choice.get("finish_reason")
    return ChatGenerationChunk(
        message=message, generation_info={"finish_reason": str(reason)} if reason else None
    )


def _usage(counts: dict[str, int]) -> UsageMetadata:
    told, wrote = counts.get("prompt_tokens") or 0, counts.get("completion_tokens") or 0
    total = counts.get("total_tokens") or told + wrote
    return UsageMetadata(input_tokens=told, output_tokens=wrote, total_tokens=total)


async def _base_url() -> str:
    if not settings.EMBEDDED_MODEL:
        return settings.OPENAI_BASE_URL or OPENAI
    given_up = monotonic() + settings.MODEL_CONNECT
    while monotonic() < given_up:  # it may be loading yet, where all was started at once
        try:
            # Read each time: a restarted model listens on another port.
            return str(settings.MODEL_URL_FILE.read_text().strip())
        except FileNotFoundError:
            await asyncio.sleep(0.1)
    raise ModelFault("model_unreachable")


_clients: dict[asyncio.AbstractEventLoop, httpx2.AsyncClient] = {}


async def voice_of(model: str, parameters: Parameters | None = None) -> Voice:
    """The model's voice in this loop. Raises ModelFault where the embedded one is not there.

    It asks with these parameters, or with those that are known to be taken.
    """
    base_url = await _base_url()
    asked_with = parameters or parameters_for(base_url, model)
    return _voice(asyncio.get_running_loop(), base_url, model, asked_with)


async def hang_up() -> None:
    """Close this loop's connections to the model, which are kept for the next request."""
    _voice.cache_clear()
    if client := _clients.pop(asyncio.get_running_loop(), None):
        await client.aclose()


@lru_cache(maxsize=32)
def _voice(
    loop: asyncio.AbstractEventLoop, base_url: str, model: str, parameters: Parameters
) -> Voice:
    """One for each model that may be asked for; all share the loop's connections."""
    # Read without a limit: what is silence is decided line by line.
    timeout = httpx2.Timeout(None, connect=settings.MODEL_CONNECT)
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
    return Voice(
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
