"""A model server that answers each request as the test says, and counts them."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from workers.generators.base import ModelError, generate
from workers.prompt.messages import PromptMessage


@dataclass(frozen=True)
class Answer:
    """A response: status, body and further headers."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class AnsweringServer:
    """A server that listens at `url`. `requests` has the bodies of the requests so far."""

    answer: Callable[[dict[str, Any]], Answer]
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        said = self.answer(self.requests[-1])
        return web.Response(status=said.status, body=said.body, headers=said.headers)


def refusal(status: int, body: object, headers: dict[str, str] | None = None) -> Answer:
    """An error response. A string is sent as it is, any other body as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(status, text.encode(), {"Content-Type": "application/json", **(headers or {})})


def stream(*events: object) -> Answer:
    """A stream with these events and `[DONE]`."""
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    return Answer(200, lines.encode(), {"Content-Type": "text/event-stream"})


def reply(text: str = "Hello") -> Answer:
    """A whole reply."""
    return stream({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]})


@asynccontextmanager
async def answering(answer: Callable[[dict[str, Any]], Answer]) -> AsyncIterator[AnsweringServer]:
    """Run a server that gives these answers, on the test's own loop."""
    server = AnsweringServer(answer)
    application = web.Application()
    application.router.add_post("/{path:.*}", server.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield server
    finally:
        await runner.cleanup()


async def hear(server: AnsweringServer, settings: Any, *, name: str = "m") -> Any:
    """The items that `generate` yields, or the code of its error, and the number of requests."""
    settings.OPENAI_BASE_URL = server.url
    before, said = len(server.requests), []
    try:
        async for one in generate([PromptMessage("user", "hello")], model=name):
            said.append(one)  # noqa: PERF401 - the items before an error are kept
    except ModelError as fault:
        return fault.code, len(server.requests) - before
    return said, len(server.requests) - before


def error(message: str, **also: Any) -> dict[str, Any]:
    return {"error": {"message": message, **also}}
