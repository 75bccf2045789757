"""The simplest event stream: an ASGI application that forwards all that Redis publishes.

It has no log, no ids of its own, no permissions and no heartbeat, and a missed event is lost. So it
shows the cost of the server, the interpreter and the load itself.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import redis.asyncio

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

queues: dict[bytes, set[asyncio.Queue[bytes]]] = {}
client = redis.asyncio.Redis(port=int(os.environ["REDIS_PORT"]))
pubsub = client.pubsub()
hearing: list[asyncio.Task[None]] = []
subscribing = asyncio.Lock()


async def hear() -> None:
    async for said in pubsub.listen():
        if said["type"] == "message":
            for queue in queues.get(said["channel"], ()):
                queue.put_nowait(said["data"])


async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    channel = scope["path"].split("/")[2].encode()
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    async with subscribing:
        if channel not in queues:
            await pubsub.subscribe(channel)
            queues[channel] = set()
        if not hearing:
            hearing.append(asyncio.create_task(hear()))
    queues[channel].add(queue)
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
    gone = asyncio.ensure_future(receive_until_gone(receive))
    try:
        while not gone.done():
            frame = await queue.get()
            while not queue.empty():
                frame += queue.get_nowait()
            await send({"type": "http.response.body", "body": frame, "more_body": True})
    finally:
        gone.cancel()
        queues[channel].discard(queue)


async def receive_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
