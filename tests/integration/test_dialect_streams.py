"""A run's stream in another wire: HEAD, the owner's limit, comments, a client that reads slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.test import Client

from streams.chat import ask
from streams.chat.reply_state import reply_state
from streams.delivery.open_streams import OpenStreams, open_streams
from streams.dialects import run_stream
from streams.dialects.ai_sdk import UiMessageWire
from streams.dialects.run_stream import KEEP_ALIVE, open_run
from streams.models import Run
from tests.integration.support.published_run import VISITOR, published_run
from tests.integration.support.writable_client import WITHIN, waiting

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
PATHS = (
    "/api/chat/{run}/stream",
    "/v1/responses/resp_{run}?stream=true",
    "/threads/{conversation}/runs/{run}/stream?cancel_on_disconnect=true",
)


def run_of(client: Client) -> Run:
    body = {"message": "Why?"}
    accepted = client.post("/api/conversations/", body, content_type="application/json")
    return Run.objects.get(pk=accepted.json()["run"])


def address(path: str, run: Run) -> str:
    return path.format(run=run.id, conversation=run.conversation_id)


@pytest.mark.parametrize("path", [*PATHS, "/api/conversations/{conversation}/events/"])
def test_head_opens_no_stream(client: Client, path: str) -> None:
    run = run_of(client)
    response = client.head(address(path, run))
    assert response.status_code == 200
    assert response["Content-Type"] == "text/event-stream"
    assert "Content-Length" not in response
    assert open_streams()._counts == {}
    assert Run.objects.get(pk=run.pk).reader is None  # and no client whose leaving ends the run


@pytest.mark.parametrize("path", PATHS)
def test_the_stream_of_a_run_that_has_ended_counts_too(
    client: Client, settings: Any, path: str
) -> None:
    run = run_of(client)
    client.post(f"/api/runs/{run.id}/cancel/", {}, content_type="application/json")
    settings.MAX_STREAMS = 1
    open_one = cast("HttpResponse", client.get(address(path, run)))
    assert open_one.status_code == 200
    assert client.get(address(path, run)).status_code == 429
    open_one.close()
    again = cast("HttpResponse", client.get(address(path, run)))
    assert again.status_code == 200
    again.close()


async def test_a_run_that_waits_is_not_silent_while_another_one_writes(
    crowd: OpenStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_stream, "open_streams", lambda: crowd)
    monkeypatch.setattr(run_stream, "SILENCE", 0.4)
    story = await published_run()
    queued = await sync_to_async(ask.ask)(story.conversation, "And?", when_busy="queue")
    state = await sync_to_async(reply_state)(queued.run)
    stream = open_run(UiMessageWire(resets=True), VISITOR, state)
    body = list[bytes]()
    stream.write_with(lambda frames: body.append(frames) is None)
    reading = asyncio.create_task(collect(stream, body))
    await waiting(crowd)
    async with asyncio.timeout(WITHIN):
        while body.count(KEEP_ALIVE) < 3:
            await sync_to_async(story.publish_deltas)(1)
    reading.cancel()


async def collect(stream: AsyncIterator[bytes], body: list[bytes]) -> None:
    async for frames in stream:
        body += [frames]


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_that_reads_slowly_is_no_client_that_does_not_read(
    crowd: OpenStreams, settings: Any, reads: bool
) -> None:
    settings.STREAM_WRITE_TIMEOUT, settings.ACCESS_CHECK_INTERVAL = 0.5, 0.1
    story = await published_run()
    stream = crowd.admit(VISITOR, story.conversation, story.first, until_idle=False)

    async def send() -> None:
        """The server sends one piece for long, part by part."""
        await anext(stream)
        for _ in range(30):
            await asyncio.sleep(0.05)
            if reads:
                stream.note_progress()

    sending = asyncio.create_task(send())
    done, _ = await asyncio.wait({sending}, timeout=WITHIN)
    assert done
    assert sending.cancelled() is not reads
    await stream.aclose()
