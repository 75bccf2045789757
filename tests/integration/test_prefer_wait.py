"""`Prefer: wait`: how a POST waits for its run, and what ends the wait."""

import asyncio
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async

from streams.api import prefer_wait
from streams.chat import conversations, finish
from streams.delivery.open_streams import open_streams
from streams.models import Conversation, Run
from tests.integration.support.api_client import ApiClient
from tests.integration.support.handler import Connection

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
async def browser() -> ApiClient:
    return await sync_to_async(ApiClient)()


def waiting(browser: ApiClient, **also: str) -> Connection:
    """A POST whose sender would wait for a minute."""
    headers = {"x-csrftoken": browser.csrf["X-CSRFToken"], "prefer": "wait=60", **also}
    return Connection(browser, "/api/conversations/", body=b'{"message": "Why?"}', **headers)


async def accepted() -> Run:
    async with asyncio.timeout(10):
        while (run := await Run.objects.afirst()) is None:
            await asyncio.sleep(0.01)
    return run


async def test_prefer_wait_ends_when_the_client_disconnects(browser: ApiClient) -> None:
    asker = waiting(browser)
    await accepted()
    await asker.disconnect()


async def test_all_waiting_requests_share_one_query(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look, begun = prefer_wait._ended, monotonic()

    def counted(runs: list[UUID]) -> Any:
        looks.append(len(runs))
        return look(runs)

    monkeypatch.setattr(prefer_wait, "_ended", counted)
    again = {"idempotency-key": "one"}
    askers = [waiting(browser), *(waiting(browser, **again) for _ in range(60))]
    shared = prefer_wait.endings(asyncio.get_running_loop())
    async with asyncio.timeout(60):
        while sum(shared._callers.values()) < len(askers):
            await asyncio.sleep(0.01)
        while looks[-1:] != [2]:  # both runs, in one look
            await asyncio.sleep(0.01)
    assert len(looks) <= 2 + (monotonic() - begun) / prefer_wait.LOOK
    await askers[1].disconnect()  # the others go on waiting
    async for one in Run.objects.all():
        await sync_to_async(finish.cancel)(one.pk)
    await asyncio.wait_for(asyncio.gather(*(asker.task for asker in askers[2:])), 30)
    await asyncio.wait_for(askers[0].task, 30)
    assert {asker.status for asker in (askers[0], *askers[2:])} == {200}
    assert len({asker.body for asker in askers[2:]}) == 1
    assert not shared._callers
    assert shared._looking is None


async def test_a_waiting_request_is_answered_at_shutdown(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = waiting(browser)
    await accepted()
    monkeypatch.setattr(open_streams(), "draining", True)
    await asyncio.wait_for(asker.task, 5)
    assert (asker.status, b"queued" in asker.body) == (202, True)


async def test_a_waiting_request_is_answered_when_the_conversation_is_deleted(
    browser: ApiClient,
) -> None:
    asker = waiting(browser)
    await accepted()
    await sync_to_async(conversations.delete)(await Conversation.objects.aget())
    await asyncio.wait_for(asker.task, 5)
    assert asker.status == 202


async def test_an_accepted_post_that_waits_at_shutdown_gets_202(
    browser: ApiClient,
) -> None:
    asker = waiting(browser)
    run = await accepted()
    await asyncio.sleep(0.5)  # it looks for the run's end
    asker.task.cancel()  # as uvicorn does when its patience ends
    await asyncio.wait_for(asker.task, 5)
    assert (asker.status, str(run.pk).encode() in asker.body) == (202, True)
