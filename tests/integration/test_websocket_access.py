"""Who may open a WebSocket and send frames, where it resumes, and how many may be open."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from tests.integration.support.api_client import (
    ApiClient,
    begin_conversation,
    client_with_token,
)
from tests.integration.support.open_socket import opened
from tests.integration.support.signed_tokens import sign

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
KEY = "k" * 32
OWN, FOREIGN = "http://testserver", "https://evil.example"


async def begun() -> tuple[ApiClient, dict[str, Any]]:
    """A visitor, and the visitor's conversation."""
    browser = await sync_to_async(ApiClient)()
    return browser, await sync_to_async(browser.begin)()


async def conversation_of(token: str) -> str:
    """A conversation of the token's owner."""
    answer = await sync_to_async(lambda: begin_conversation(client_with_token(token)))()
    id: str = answer.json()["conversation"]  # type: ignore[attr-defined]
    return id


async def test_a_session_needs_an_origin_of_this_site() -> None:
    browser, made = await begun()
    for headers in ({"origin": FOREIGN}, {"origin": "null"}, {}):
        async with opened(browser, made["conversation"], **headers) as socket:
            frame = await socket.first()
            assert frame["type"] == "refused", headers
            assert frame["data"]["problem"]["code"] == "csrf_failed"
            assert await socket.close_code() == 4403


async def test_a_session_of_this_site_may_ask() -> None:
    browser, made = await begun()
    async with opened(browser, made["conversation"], origin=OWN) as socket:
        assert (await socket.first())["type"] == "conversation.snapshot"
        assert (await socket.ask("cancel", {"run": made["run"]}))["type"] == "accepted"


async def test_a_token_that_is_not_valid_closes_with_4401() -> None:
    browser, made = await begun()
    async with opened(browser, made["conversation"], authorization="Bearer no") as socket:
        assert (await socket.first())["data"]["problem"]["code"] == "unauthorized"
        assert await socket.close_code() == 4401


async def test_a_page_with_its_own_token_cannot_use_its_visitors_session(settings: Any) -> None:
    settings.STREAM_SIGNING_KEY = KEY
    victim, made = await begun()
    token = sign("external:9", scope="read write")
    own = await conversation_of(token)
    # The browser sends the victim's cookies with the page's handshake.
    async with opened(victim, own, f"token={token}", origin=FOREIGN) as socket:
        assert (await socket.first())["type"] == "conversation.snapshot"
        refused = await socket.ask("cancel", {"run": made["run"]})
        assert refused["type"] == "refused"
        assert refused["data"]["problem"]["code"] == "not_found"


async def test_each_frame_needs_the_scope_to_write(settings: Any) -> None:
    settings.STREAM_SIGNING_KEY = KEY
    id = await conversation_of(sign("external:9", scope="read write"))
    token = sign("external:9", scope="read")
    async with opened(None, id, f"token={token}") as socket:
        assert (await socket.first())["type"] == "conversation.snapshot"
        for type, data in (("message", {"message": "?"}), ("cancel", {"run": id})):
            refused = await socket.ask(type, data)
            assert refused["data"].get("problem", {}).get("code") == "scope_missing"


async def test_an_owner_may_open_so_many_sockets(settings: Any) -> None:
    settings.MAX_STREAMS = 1
    browser, made = await begun()
    for _ in range(2):  # the second time, after the first one has left
        async with opened(browser, made["conversation"], origin=OWN) as one:
            assert (await one.first())["type"] == "conversation.snapshot"
            async with opened(browser, made["conversation"], origin=OWN) as other:
                assert (await other.first())["type"] == "refused"
                assert await other.close_code() == 4429


async def test_a_socket_resumes_after_the_last_id() -> None:
    browser, made = await begun()
    id, cursor = made["conversation"], made["cursor"]
    async with opened(browser, id, f"lastEventId={cursor}", origin=OWN) as socket:
        frame = await socket.first()
        assert (frame["type"], frame["id"]) == ("message.created", cursor + 1)
    header = {"last_event_id": str(cursor)}
    async with opened(browser, id, "lastEventId=1", origin=OWN, **header) as socket:
        assert await socket.first() == frame
