"""A WebSocket as a server passes it to the ASGI application, but without a server."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from config.asgi import application
from streams.delivery.open_streams import open_streams
from tests.integration.support.api_client import ApiClient, conversation

WITHIN = 20.0  # seconds for one frame


class OpenSocket:
    """The two directions of one socket."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self._from_client = asyncio.Queue[Mapping[str, Any]]()
        self._to_client = asyncio.Queue[Mapping[str, Any]]()
        self._from_client.put_nowait({"type": "websocket.connect"})
        receive, send = self._from_client.get, self._to_client.put
        self.task = asyncio.create_task(application(scope, receive, send))

    async def _next(self) -> Mapping[str, Any]:
        async with asyncio.timeout(WITHIN):
            return await self._to_client.get()

    async def first(self) -> dict[str, Any]:
        """The first frame after `retry`."""
        assert (await self._next())["type"] == "websocket.accept"
        frame: dict[str, Any] = {"type": "retry"}
        while frame["type"] == "retry":
            frame = json.loads((await self._next())["text"])
        return frame

    async def ask(self, type: str, data: Mapping[str, object]) -> dict[str, Any]:
        """Send a frame of this type. Returns the frame of its response."""
        return await self.send(json.dumps({"name": "a", "type": type, "data": data}))

    async def send(self, frame: str | bytes) -> dict[str, Any]:
        """Send this frame. Returns the frame of its response."""
        kind = "text" if isinstance(frame, str) else "bytes"
        self._from_client.put_nowait({"type": "websocket.receive", kind: frame})
        response: dict[str, Any] = {"type": ""}
        while response["type"] not in ("accepted", "refused"):
            response = json.loads((await self._next())["text"])
        return response

    async def close_code(self) -> int:
        message = await self._next()
        assert message["type"] == "websocket.close"
        code: int = message["code"]
        return code

    async def leave(self) -> None:
        self._from_client.put_nowait({"type": "websocket.disconnect"})
        await asyncio.wait_for(self.task, WITHIN)


@asynccontextmanager
async def opened(
    browser: ApiClient | None, id: str, query: str = "", **headers: str
) -> AsyncIterator[OpenSocket]:
    """Open the conversation's socket, with the cookies of this browser."""
    cookies = browser.client.cookies.items() if browser else ()
    headers = {"host": "testserver", **headers}
    headers["cookie"] = "; ".join(f"{name}={one.value}" for name, one in cookies)
    open_streams()  # as a server does at its start; otherwise two threads could each make one
    socket = OpenSocket(
        {
            "type": "websocket",
            "scheme": "ws",
            "path": f"{conversation(id)}socket/",
            "query_string": query.encode(),
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
            ],
            "extensions": {},
        }
    )
    try:
        yield socket
    finally:
        await socket.leave()
