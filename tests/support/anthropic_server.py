"""A second provider: a scripted model over Anthropic's wire (`POST /v1/messages`).

It follows the same scripts as `openai_server` (tests/support/script.py): text, reasoning, rounds of
calls, and a status as the fault. Like Anthropic it refuses calls without results, results without
calls, and ids that occur twice.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.script import is_question, question_of, script_of


@dataclass
class Anthropic:
    """The server, and the requests that it received."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Stream the scripted reply."""
        body = await request.json()
        self.requests.append(body)
        if complaint := dangling(body["messages"]):
            return _error(400, "invalid_request_error", complaint)
        message = question_of(body["messages"])
        script = script_of(message)
        self.asked[message] += 1
        faulty = script.times is None or self.asked[message] <= script.times
        if faulty and str(script.fault or "").isdigit():
            return _error(int(str(script.fault)), "api_error", f"the prompt was {message}")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.force_close()  # because LangChain's client is never closed
        await response.prepare(request)
        async for event in _events(body, message):
            line = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            await response.write(line.encode())
        return response


def _error(status: int, type: str, message: str) -> web.Response:
    body = {"type": "error", "error": {"type": type, "message": message}}
    response = web.json_response(body, status=status)
    response.force_close()
    return response


async def _events(body: dict[str, Any], message: str) -> AsyncIterator[dict[str, Any]]:
    script = script_of(message)
    calls = script.round(body["messages"])
    usage = {"input_tokens": 7, "output_tokens": 1}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]}
    empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": {**head, **empty, "usage": usage}}
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if thoughts := script.thoughts():
        start: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
        blocks.append((start, [{"type": "thinking_delta", "thinking": text} for text in thoughts]))
    for call in calls:
        input = {"type": "input_json_delta", "partial_json": json.dumps(call.input)}
        start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        blocks.append((start, [input]))
    if not calls:
        texts = [{"type": "text_delta", "text": text} for text in script.pieces()]
        blocks.append(({"type": "text", "text": ""}, texts))
    for index, (start, deltas) in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            if script.rate:
                await asyncio.sleep(1 / script.rate)
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    said = sum(len(deltas) for _, deltas in blocks)
    stop = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": said}}
    yield {"type": "message_stop"}


def dangling(messages: list[dict[str, Any]]) -> str | None:
    """Anthropic's error for calls and results that are not pairs, or for a repeated id; or None."""
    open: set[str] = set()
    seen: set[str] = set()
    for message in messages:
        content = message["content"] if isinstance(message["content"], list) else []
        results = {block["tool_use_id"] for block in content if block["type"] == "tool_result"}
        if results != open:
            return "tool_use ids were found without tool_result blocks immediately after"
        made = [block["id"] for block in content if block["type"] == "tool_use"]
        if len({*made}) < len(made) or seen & {*made}:
            return "tool_use ids must be unique"
        open, seen = {*made}, seen | {*made}
    if not messages or not any(map(is_question, messages)):
        return "at least one message is required"
    return "tool_use ids were found without tool_result blocks" if open else None


@contextmanager
def serving() -> Iterator[Anthropic]:
    """A server in a thread of its own."""
    server = Anthropic()
    listening = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        application = web.Application(client_max_size=16 * 2**20)
        application.router.add_post("/v1/messages", server.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        listening.set()
        await over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()], name="anthropic")
    thread.start()
    try:
        assert listening.wait(5)
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
