"""Hostile frames of a WebSocket's client: each is refused as a problem, and the socket goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from hypothesis import HealthCheck, given, settings

from streams.dialects.websocket_frames import FrameRefused, read_frame
from tests.integration.support.api_client import ApiClient
from tests.integration.support.open_socket import OpenSocket, opened
from tests.support.hostile_values import BAD_JSON, mutated, variants

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
OWN = "http://testserver"
RUN = "00000000-0000-4000-8000-00000000000a"
MESSAGE = {
    "name": "n",
    "type": "message",
    "data": {"message": "Why?", "when_busy": "queue", "metadata": {"page": "7"}},
    "idempotency_key": "k",
}
CANCEL = {"name": "n", "type": "cancel", "data": {"run": RUN}}


@pytest.fixture(autouse=True)
def _unlimited(settings: Any) -> None:
    settings.MAX_LIVE_RUNS = settings.MAX_RUNS_PER_MINUTE = 100_000
    settings.MAX_MESSAGE_CHARS = 10_000


async def respond(socket: OpenSocket, text: str | bytes) -> None:
    """Send the frame, and check its response."""
    answer = await socket.send(text)
    if answer["type"] == "refused":
        problem = answer["data"]["problem"]
        assert 400 <= problem["status"] < 500, (text[:200], problem)
        assert problem["detail"]
        assert problem["code"]


@pytest.mark.parametrize("frame", [MESSAGE, CANCEL], ids=["message", "cancel"])
async def test_a_hostile_frame_is_refused_or_understood(frame: dict[str, Any]) -> None:
    browser = await sync_to_async(ApiClient)()
    made = await sync_to_async(browser.begin)()
    async with opened(browser, made["conversation"], origin=OWN) as socket:
        await socket.first()
        for changed in variants(frame):
            await respond(socket, json.dumps(changed))
        for raw in BAD_JSON:
            await respond(socket, raw)
            await respond(socket, raw.decode(errors="replace"))
        assert (await socket.ask("cancel", {"run": made["run"]}))["type"] == "accepted"


async def test_the_run_of_another_owner_cannot_be_cancelled() -> None:
    browser, other = await sync_to_async(ApiClient)(), await sync_to_async(ApiClient)()
    made = await sync_to_async(browser.begin)()
    hers = await sync_to_async(other.begin)()
    async with opened(browser, made["conversation"], origin=OWN) as socket:
        await socket.first()
        for id in (hers["run"], hers["conversation"], RUN):
            answer = await socket.ask("cancel", {"run": id})
            assert answer["data"]["problem"]["code"] == "not_found"


@settings(suppress_health_check=list(HealthCheck))
@given(frame=mutated([MESSAGE, CANCEL]))
def test_a_generated_frame_is_a_request_to_one_address_or_refused(frame: Any) -> None:
    refused: FrameRefused | None = None
    try:
        asked = read_frame(json.dumps(frame), RUN)
    except FrameRefused as error:
        refused = error
    if refused:
        assert 400 <= refused.problem.status < 500
        return
    addresses = {"message": f"/api/conversations/{RUN}/messages/"}
    assert asked.path == addresses.get(frame["type"], f"/api/runs/{asked.path[10:46]}/cancel/")
    assert [name for name, _ in asked.fields][:2] == [b"content-type", b"content-length"]
    assert json.loads(asked.body) is not None
