"""Requests and streams in the thread pools of streams/asgi.py, without a server around it."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async

from config.asgi import application
from streams import asgi
from streams.web.health_checks import probes
from tests.integration.support.api_client import ApiClient, conversation, run
from tests.integration.support.handler import Connection

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


# How a refusal begins by which no view has answered, as the clients of these paths read it.
OTHER_WIRES = {
    "/v1/models": b'{"error":{"message":"The ',
    "/v1/responses": b'{"error":{"message":"The ',
    "/api/chat/c1/messages": b"The ",
    "/api/chat": b"The ",
    "/ag-ui/connect": b"The ",
    "/threads": b'{"detail":"The ',
}


@pytest.fixture
async def browser() -> ApiClient:
    return await sync_to_async(ApiClient)()


async def test_open_streams_hold_no_threads(browser: ApiClient) -> None:
    made = await sync_to_async(browser.begin)()
    streams = [
        Connection(browser, f"{conversation(made['conversation'])}events/") for _ in range(30)
    ]
    await asyncio.gather(*(stream.wait_for(b"conversation.snapshot") for stream in streams))
    # By name, because an application of another test may still have threads of the same names.
    lane = {one.name for one in threading.enumerate() if one.name.startswith("stream_")}
    assert 0 < len(lane) <= 4
    assert {stream.status for stream in streams} == {200}
    await asyncio.gather(*(stream.disconnect() for stream in streams))


@pytest.mark.parametrize(
    "unread", [{"transfer-encoding": "chunked"}, {"content-length": "99999999"}]
)
async def test_an_unread_body_does_not_count_as_a_disconnect(
    browser: ApiClient, unread: dict[str, str]
) -> None:
    made = await sync_to_async(browser.begin)()
    stream = Connection(browser, f"{conversation(made['conversation'])}events/", **unread)
    await stream.wait_for(b"conversation.snapshot")
    await stream.disconnect()


async def test_the_stream_registry_exists_before_the_server_accepts_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Mock()
    monkeypatch.setattr(asgi, "Sweeper", Mock())
    monkeypatch.setattr(asgi, "open_streams", made)
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    made_when_told: list[bool] = []

    async def receive() -> Mapping[str, Any]:
        return next(messages)

    async def send(message: Mapping[str, Any]) -> None:
        made_when_told.append(made.called)

    await application({"type": "lifespan"}, receive, send)
    assert made_when_told == [True, True]


async def test_a_stream_keeps_its_request_id_to_its_end(
    browser: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    made = await sync_to_async(browser.begin)()
    path, query = f"{conversation(made['conversation'])}events/", "lastEventId=7"
    with caplog.at_level("INFO", logger="streams"):
        stream = Connection(browser, path, query)
        await stream.wait_for(b"stream-reset")
        await stream.disconnect()
    said = {record.getMessage().split()[1]: record.request for record in caplog.records}
    assert said["stream"] == stream.headers["X-Request-ID"]


async def test_a_file_is_sent_whole(browser: ApiClient) -> None:
    page = Connection(browser, "/")
    await asyncio.wait_for(page.task, 5)
    style = page.body.split(b'rel="stylesheet" href="')[1].split(b'"')[0].decode()
    file = Connection(browser, style)
    await asyncio.wait_for(file.task, 5)
    assert (file.status, file.headers["Content-Length"]) == (200, str(len(file.body)))


async def test_a_response_without_a_body_has_no_content_headers(browser: ApiClient) -> None:
    made = await sync_to_async(browser.begin)()
    await sync_to_async(browser.post)(f"{run(made['run'])}cancel/")
    where = conversation(made["conversation"])
    heard = (await sync_to_async(browser.get)(where)).json()["cursor"]
    token = {"x-csrftoken": browser.csrf["X-CSRFToken"]}
    for method, path, query in (
        ("OPTIONS", f"{where}events/", ""),
        ("GET", f"{where}events/", f"until=idle&lastEventId={heard}"),
        ("DELETE", where, ""),
    ):
        answer = Connection(browser, path, query, method=method, **token)
        await asyncio.wait_for(answer.task, 5)
        assert (answer.status, answer.body) == (204, b"")
        assert not {"Content-Length", "Content-Type"} & set(answer.headers)


async def test_the_stream_limit_holds_for_concurrent_requests(
    browser: ApiClient, settings: Any
) -> None:
    settings.MAX_STREAMS = 5
    made = await sync_to_async(browser.begin)()
    path = f"{conversation(made['conversation'])}events/"
    for _ in range(3):
        streams = [Connection(browser, path) for _ in range(40)]
        async with asyncio.timeout(20):
            while not all(stream.status for stream in streams):
                await asyncio.sleep(0.01)
        open_ones = [stream for stream in streams if stream.status == 200]
        assert len(open_ones) == 5
        assert {stream.status for stream in streams} == {200, 429}
        await asyncio.gather(*(stream.disconnect() for stream in streams))


async def test_the_liveness_probe_waits_for_no_other_request(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on = threading.Event()
    monkeypatch.setattr("streams.web.health.probes", lambda: going_on.wait(20) and probes())
    try:
        others = [Connection(browser, "/health/ready") for _ in range(70)]
        live = Connection(browser, "/health/live")
        await asyncio.wait_for(live.task, 5)
        assert live.status == 200
    finally:
        going_on.set()
    await asyncio.gather(*(other.task for other in others))


async def test_an_unanswered_request_at_shutdown_gets_503_in_its_own_format(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[Any] = []

    async def never(self: object, request: Any) -> None:
        entered.append(request)
        try:
            await asyncio.Event().wait()
        finally:
            request.close()  # as its thread does

    monkeypatch.setattr("streams.asgi.ThreadedHandler.respond", never)
    reader = Connection(browser, f"{conversation(str(uuid4()))}events/")
    callers = {path: Connection(browser, path) for path in ("/api/models/", *OTHER_WIRES)}
    async with asyncio.timeout(5):
        while len(entered) <= len(callers):
            await asyncio.sleep(0.01)
    for one in (reader, *callers.values()):
        one.task.cancel()
        await asyncio.wait_for(one.task, 5)
    assert (reader.status, b'"head":null' in reader.body) == (200, True)
    assert {one.status for one in callers.values()} == {503}
    assert b'"unavailable"' in callers["/api/models/"].body
    for path, begins in OTHER_WIRES.items():
        assert callers[path].body.startswith(begins)


@pytest.mark.parametrize("path", OTHER_WIRES)
async def test_a_body_that_does_not_arrive_is_refused_in_the_wires_form(
    browser: ApiClient, settings: Any, path: str
) -> None:
    settings.CONNECTION_TIMEOUT = 0.2
    caller = Connection(browser, path, body=b"{", incomplete=True)
    await asyncio.wait_for(caller.task, 5)
    assert caller.status == 408
    assert caller.body.startswith(OTHER_WIRES[path])
