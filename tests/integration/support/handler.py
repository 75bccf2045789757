"""Requests to the ASGI application as a server passes them, but without a server."""

import asyncio
from collections.abc import Mapping
from typing import Any

from config.asgi import application
from streams.delivery.open_streams import open_streams
from tests.integration.support.api_client import ApiClient

PORTION = 65_536  # bytes that arrive at once


class Connection:
    """One request as a server passes it, and its response; the client can disconnect."""

    def __init__(
        self,
        browser: ApiClient,
        path: str,
        query: str = "",
        *,
        method: str = "",
        body: bytes = b"",
        incomplete: bool = False,  # the rest of the body does not arrive
        **headers: str,
    ) -> None:
        cookies = "; ".join(f"{name}={one.value}" for name, one in browser.client.cookies.items())
        self._scope = {
            "type": "http",
            "method": method or ("POST" if body else "GET"),
            "path": path,
            "query_string": query.encode(),
            "headers": [
                (b"host", b"testserver"),
                (b"cookie", cookies.encode()),
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
        }
        self._sent = memoryview(body)
        self._incomplete = incomplete
        self._left = asyncio.Event()
        self._begun = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        open_streams()  # as a server does at its start; otherwise two threads could each make one
        self.task = asyncio.create_task(application(self._scope, self._receive, self._send))

    async def disconnect(self) -> None:
        self._left.set()
        await asyncio.wait_for(self.task, 5)

    async def wait_for(self, text: bytes) -> None:
        async with asyncio.timeout(20):
            while text not in self.body:
                await asyncio.sleep(0.01)

    async def _receive(self) -> Mapping[str, Any]:
        if self._begun and not self._sent:
            await self._left.wait()
            return {"type": "http.disconnect"}
        self._begun = True
        portion, self._sent = self._sent[:PORTION], self._sent[PORTION:]
        await asyncio.sleep(0)  # lets portions of other requests come in between
        more = self._incomplete or bool(self._sent)
        return {"type": "http.request", "body": bytes(portion), "more_body": more}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
