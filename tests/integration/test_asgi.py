"""The ASGI application: what it answers itself, what it passes on, and its end at a signal."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import pytest

from streams import asgi
from streams.delivery.open_streams import open_streams
from streams.http.request import Receive, Scope, Send

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def server_signals() -> Iterator[list[int]]:
    """The signals that the server's own handler has got, as uvicorn installs one."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = signal.signal(signal.SIGTERM, handle)
    yield received
    assert signal.signal(signal.SIGTERM, before) is handle  # the application has put it back


async def status_of(application: asgi.Application, scope: Scope) -> int:
    """The status of the application's response to this request, which has no body."""
    statuses: list[int] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: Mapping[str, Any]) -> None:
        statuses.append(message.get("status", 0))

    await asyncio.wait_for(application(scope, receive, send), 20)
    return statuses[0]


@pytest.mark.usefixtures("close_connections")
async def test_a_wrapped_project_answers_its_own_urls_and_protocols() -> None:
    async def project(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "answer", "status": 299})

    application = asgi.wrap(project)
    common = {"method": "GET", "query_string": b"", "headers": [(b"host", b"testserver")]}
    answers = {
        path: await status_of(application, {"type": "http", "path": path, **common})
        for path in ("/api/models/", "/health/live", "/metrics", "/", "/shop/api/", "/apis")
    }
    assert answers.pop("/metrics") != 299
    assert answers == {
        "/api/models/": 200,
        "/health/live": 200,
        "/": 299,
        "/shop/api/": 299,
        "/apis": 299,
    }
    assert await status_of(application, {"type": "websocket", "path": "/api/models/"}) == 299


async def test_the_streams_drain_at_a_signal_after_the_servers_own_handler(
    server_signals: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server waits for the streams before it sends the application its shutdown event."""
    order: list[tuple[str, int]] = []
    drained, stopped = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(asgi.Sweeper, "start", lambda sweeper: None)

    def drain() -> None:
        order.append(("drained after", len(server_signals)))
        drained.set()

    monkeypatch.setattr(open_streams(), "drain", drain)
    started = asyncio.Event()
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Mapping[str, Any]:
        if started.is_set():
            await stopped.wait()
        return {"type": next(messages)}

    async def send(message: Mapping[str, Any]) -> None:
        started.set()

    running = asyncio.create_task(asgi.lifespan(receive, send))
    await asyncio.wait_for(started.wait(), 5)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(drained.wait(), 5)
    assert (server_signals, order) == ([signal.SIGTERM], [("drained after", 1)])
    stopped.set()
    await asyncio.wait_for(running, 5)
