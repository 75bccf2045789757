"""The whole service for a benchmark, with the stamping model and a client."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.cost import MEASURED, pin
from tests.benchmarks.peer_servers import UNBOUND
from tests.benchmarks.readers import SAID, Place, Reader
from tests.benchmarks.report import Wishes
from tests.support.databases import migrated
from tests.support.stack import Stack
from tests.support.visitor import script

MAKE_USER = """
from django.contrib.auth import get_user_model
from streams.access.api_tokens import create_token
user = get_user_model().objects.create(username="bench")
print(create_token(user, "bench", scopes="read write"))
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An accepted POST: its ids, the cursor, and its moments (monotonic seconds)."""

    conversation: str
    run: str
    cursor: int
    posted: float
    accepted: float


class Client:
    """One kept connection to the API. It has no HTTP library, to keep its own cost small."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.headers = {"Authorization": f"Bearer {token}"}
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, bytes, float]:
        """Send a request. Returns the status, the body, and the seconds that it took."""
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
        reader, writer = self._streams
        sent = b"" if body is None else json.dumps(body).encode()
        headers = {"Host": "127.0.0.1", "Content-Type": "application/json", **self.headers}
        lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(sent)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        begun = time.monotonic()
        writer.write("\r\n".join([*lines, "", ""]).encode() + sent)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        length = re.search(rb"(?i)content-length: (\d+)", head)
        answer = await reader.readexactly(int(length[1])) if length else b""
        took = time.monotonic() - begun
        if re.search(rb"(?i)connection: close", head):
            writer.close()
            self._streams = None
        return int(head[9:12]), answer, took

    async def ask(self, conversation: str | None = None, **script_wishes: object) -> Asked:
        """Ask the scripted model with this script, in a new conversation or in the given one."""
        path = f"/api/conversations/{conversation}/messages/" if conversation else None
        posted = time.monotonic()
        status, answer, took = await self.call(
            "POST", path or "/api/conversations/", {"message": script(**script_wishes)}
        )
        if status != 202:
            raise ConnectionError(f"POST gave {status}: {answer[:200]!r}")
        made = json.loads(answer)
        return Asked(
            conversation=made["conversation"],
            run=made["run"],
            cursor=made["cursor"],
            posted=posted,
            accepted=posted + took,
        )

    async def run(self, run: str) -> dict[str, Any]:
        _, answer, _ = await self.call("GET", f"/api/runs/{run}/")
        return dict(json.loads(answer))

    def reader(self, asked: Asked, *, cursor: bool = True, query: str = "") -> Reader:
        """A follower of the accepted run. Without `cursor` its stream begins with a snapshot."""
        path = f"/api/conversations/{asked.conversation}/events/{query}"
        known = str(asked.cursor) if cursor else None
        return Reader(self.port, Place(path=path, headers=self.headers, cursor=known), timing=True)

    def reads(self, path: str) -> Reader:
        """A reader of the response of this URL, on its own connection."""
        return Reader(self.port, Place(path=path, headers=self.headers))


@dataclass(eq=False)
class Service:
    """A stack of real processes, and a client whose token has no limits."""

    stack: Stack
    client: Client
    token: str

    def another_client(self) -> Client:
        return Client(self.client.port, self.token)

    async def over(self, asked: list[Asked], *, within: float) -> None:
        """Wait until each of these runs has ended."""
        async with asyncio.timeout(within):
            for one in asked:
                while (await self.client.run(one.run))["status"] in ("queued", "running"):
                    await asyncio.sleep(0.05)

    async def warm(self, replies: int) -> None:
        """Write replies, so that the worker has all its threads, connections and imports."""
        await self.over([await self.client.ask(tokens=20) for _ in range(replies)], within=60)


@asynccontextmanager
async def service(
    wishes: Wishes,
    *,
    workers: int = 1,
    stamped: bool = True,
    also: Mapping[str, str] | None = None,
) -> AsyncIterator[Service]:
    """Run web, worker, Valkey and model, warm, with the worker pinned to its own core."""
    place, name = wishes.place, f"house-{time.monotonic_ns()}"
    (place / name).mkdir()
    with migrated(place / name) as database:
        settings = UNBOUND | dict(also or {})
        stack = Stack(place / name / "stack", database, workers=workers, also=settings)
        if stamped:
            stack.model.command = [
                "tests.benchmarks.stamping_model" if word == "tests.support.openai_server" else word
                for word in stack.model.command
            ]
        async with stack:
            token = (await stack.manage("shell", "--no-imports", "-c", MAKE_USER)).split()[-1]
            built = Service(stack, Client(stack.ports["web0"], token), token)
            if workers:
                await built.warm(wishes.size(64, 4))
                pin(MEASURED, stack.worker.pid)
            yield built


class Ear:
    """Subscribes to every channel in Redis, and measures the delay after the model."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.late: list[float] = []
        self.heard = 0  # tokens
        self.events = 0
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Ear:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)
        self._writer.write(b"PSUBSCRIBE conversation-*\r\n")
        await reader.readuntil(b":1\r\n")
        self._task = asyncio.create_task(self._hear(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
        if self._writer:
            self._writer.close()

    def forget(self) -> None:
        self.late.clear()
        self.heard = self.events = 0

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while data := await reader.read(2**18):
            now = time.monotonic_ns() / 1000
            data = rest + data
            stamps = list(SAID.finditer(data))
            self.late.extend(now - int(stamp[1]) for stamp in stamps)
            self.heard += len(stamps)
            self.events += data.count(b"pmessage\r\n", len(rest))
            rest = data[max(stamps[-1].end() if stamps else 0, len(data) - 40) :]
