"""Who ends a run of OpenAI's wires: a client that leaves does, a server that stops does not."""

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async

from streams.chat import finish
from streams.delivery.open_streams import open_streams
from streams.models import Run
from tests.integration.support.api_client import ApiClient
from tests.integration.support.handler import Connection

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
MODEL = "smollm2-135m-instruct"
WAYS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


async def waiting(*, stream: bool) -> tuple[Connection, Run]:
    """A client that waits for a reply, and the run that it waits for."""
    browser = await sync_to_async(ApiClient)()
    body = json.dumps({"model": MODEL, "input": "Why?", "stream": stream}).encode()
    connection = Connection(
        browser, "/v1/responses", body=body, **{"x-csrftoken": browser.csrf["X-CSRFToken"]}
    )
    async with asyncio.timeout(20):
        while not (run := await Run.objects.exclude(reader=None).afirst()):
            await asyncio.sleep(0.01)
        while stream and not connection.body:
            await asyncio.sleep(0.01)
    return connection, run


@WAYS
async def test_a_client_that_leaves_is_recorded(stream: bool) -> None:
    connection, run = await waiting(stream=stream)
    await connection.disconnect()
    async with asyncio.timeout(20):
        while (await Run.objects.aget(pk=run.pk)).reader_left_at is None:
            await asyncio.sleep(0.01)


@WAYS
async def test_a_server_that_stops_ends_no_run(stream: bool) -> None:
    connection, run = await waiting(stream=stream)
    open_streams().drain()
    await asyncio.wait_for(connection.task, 20)
    assert (await Run.objects.aget(pk=run.pk)).reader_left_at is None
    if not stream:
        assert connection.status == 503
        assert json.loads(connection.body)["error"]["code"] == "unavailable"


@WAYS
async def test_a_client_that_has_all_has_not_left(stream: bool) -> None:
    connection, run = await waiting(stream=stream)
    await sync_to_async(finish.cancel)(run.pk)
    await asyncio.wait_for(connection.task, 20)
    ended = await Run.objects.aget(pk=run.pk)
    assert (ended.status, ended.reader_left_at) == ("cancelled", None)
    assert connection.status == 200
    assert b'"cancelled"' in connection.body
