"""The chat model on any OpenAI-compatible server, through LangChain.

LangChain builds the request, the SDK sends it, and `workers.generators.reply_stream` reads the
response. If the SDK and LangChain read the response, they would create several pydantic objects for
each token, and a token would cost three to four times the processor time (docs/performance.md).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import lru_cache
from time import monotonic
from typing import Any

import httpx2
import openai
from django.conf import settings
from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from workers.generators.chunks import Chunk
from workers.generators.errors import ModelError
from workers.generators.parameters import Parameters, parameters_for
from workers.generators.reply_stream import ReplyStream
from workers.generators.sse_lines import LineReader

OPENAI = "https://api.openai.com/v1"
CONNECTIONS = 1024  # to the model's server, per process; more than a worker has replies

# At DEBUG these loggers write prompts, and the headers with the API key.
for _verbose in ("openai", "httpx2", "httpcore2", "langchain_openai", "langchain_core"):
    logging.getLogger(_verbose).setLevel(logging.WARNING)


class FastChatOpenAI(ChatOpenAI):
    """LangChain's chat model, whose requests are read by `ReplyStream`."""

    parameters: Parameters

    def _get_request_payload(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(*args, **kwargs)
        payload[self.parameters.token_limit] = payload.pop("max_completion_tokens")
        if not self.parameters.stream_usage:
            payload.pop("stream_options", None)
        # Outside `extra_body`, the SDK would visit each field and each part of each message and
        # change none, which takes 50 ms for 200 turns. It sends `extra_body` as it is.
        more = payload.pop("extra_body", None) or {}
        read: dict[str, Any] = {k: payload[k] for k in ("model", "stream") if k in payload}
        return {**read, "messages": [], "extra_body": {**payload, **more}}

    @asynccontextmanager
    async def chunks(
        self, messages: list[BaseMessage]
    ) -> AsyncIterator[AsyncGenerator[Chunk, None]]:
        """Request a reply, and give its chunks. Reading them raises `ModelError`.

        The chunks are not LangChain's, because creating one of those costs ten times as much as
        parsing the data.
        """
        options = {"stream": True, "stream_options": {"include_usage": True}}
        request = self.async_client.with_streaming_response.create(
            **self._get_request_payload(messages, **options)
        )
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(settings.MODEL_READ_TIMEOUT):
                    response = await stack.enter_async_context(request)
            except TimeoutError:
                raise ModelError("model_silent") from None
            lines = LineReader(response.http_response, patience=settings.MODEL_READ_TIMEOUT)
            yield await stack.enter_async_context(aclosing(ReplyStream(lines).read()))


async def _base_url() -> str:
    if not settings.EMBEDDED_MODEL:
        return settings.OPENAI_BASE_URL or OPENAI
    deadline = monotonic() + settings.MODEL_CONNECT_TIMEOUT
    while monotonic() < deadline:  # the embedded model may still be starting
        try:
            # Read it each time, because a restarted model listens on another port.
            return str(settings.MODEL_URL_FILE.read_text().strip())
        except FileNotFoundError:
            await asyncio.sleep(0.1)
    raise ModelError("model_unreachable")


# By event loop, and by whether its requests use kept connections.
_clients: dict[tuple[asyncio.AbstractEventLoop, bool], httpx2.AsyncClient] = {}


async def chat_model(
    model: str, parameters: Parameters | None = None, *, connects_anew: bool = False
) -> FastChatOpenAI:
    """Return the chat model for this event loop.

    Its requests carry `parameters`, by default those that the server is known to accept. If it
    `connects_anew`, each request has a new connection. Raises `ModelError` if the embedded model
    does not start in time.
    """
    base_url = await _base_url()
    parameters = parameters or parameters_for(base_url, model)
    loop = asyncio.get_running_loop()
    return _cached_model(loop, base_url, model, parameters, connects_anew)


async def close_client() -> None:
    """Close this loop's connections to the model, which otherwise stay open for reuse."""
    _cached_model.cache_clear()
    for connects_anew in (False, True):
        if client := _clients.pop((asyncio.get_running_loop(), connects_anew), None):
            await client.aclose()


@lru_cache(maxsize=32)
def _cached_model(
    loop: asyncio.AbstractEventLoop,
    base_url: str,
    model: str,
    parameters: Parameters,
    connects_anew: bool,
) -> FastChatOpenAI:
    """The chat model, cached. All models of one loop share its connections."""
    # No read time-out here: `LineReader` limits the wait for each line.
    timeout = httpx2.Timeout(None, connect=settings.MODEL_CONNECT_TIMEOUT)
    if (loop, connects_anew) not in _clients:
        # With aiohttp under the SDK a token takes half the time that it takes with httpx.
        kept = 0 if connects_anew else 30  # seconds that an idle connection stays open
        limits = httpx2.Limits(max_connections=CONNECTIONS, keepalive_expiry=kept)
        # A redirect would send the conversation to a server that the operator did not configure.
        _clients[loop, connects_anew] = openai.DefaultAioHttpClient(
            timeout=timeout, limits=limits, follow_redirects=False
        )
    is_embedded = settings.EMBEDDED_MODEL  # it repeats itself for ever without a penalty
    return FastChatOpenAI(
        parameters=parameters,
        model=model,
        base_url=base_url,
        api_key=SecretStr(settings.OPENAI_API_KEY or "unused"),
        http_async_client=_clients[loop, connects_anew],
        timeout=timeout,
        max_retries=0,  # `base.generate` retries, and only before the first chunk
        use_responses_api=False,
        openai_proxy=None,
        default_headers={"Accept-Encoding": "identity"},
        temperature=0.3 if is_embedded else settings.MODEL_TEMPERATURE,
        max_completion_tokens=512 if is_embedded else settings.MAX_OUTPUT_TOKENS,
        extra_body={"repeat_penalty": 1.05} if is_embedded else None,
    )
