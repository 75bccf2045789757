"""What a request checks, an open stream checks as well, directly and behind Pushpin."""

import asyncio
from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from streams.access import authorization
from streams.access.authorization import Caller, Reader, Refusal, check_readers
from streams.access.eventstream_adapter import ChannelManager
from streams.delivery.open_streams import OpenStreams
from streams.delivery.stream_end import StreamEnd, closing_frames, revoked
from streams.log.channels import channel_of
from streams.models import Conversation
from streams.pushpin.hold import Hold
from streams.pushpin.views import HoldResponse, next_page
from tests.integration.support.api_client import begin_conversation, conversation
from tests.integration.support.revoked_access import (
    DIRECTORY,
    WAYS,
    Directory,
    change_password,
    holding,
    of_directory,
    passing,
    signed_in,
    visiting,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def ada(settings: Any, monkeypatch: pytest.MonkeyPatch) -> User:
    settings.STREAM_SIGNING_KEY = "k" * 32
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", DIRECTORY]
    monkeypatch.setattr(Directory, "shut_out", False)
    return User.objects.create_user("ada", password="before")


def refusals(readers: set[Reader]) -> dict[Reader, Refusal]:
    checked = check_readers(readers)
    return {reader: found for reader, found in checked.items() if isinstance(found, Refusal)}


def opened(client: Client) -> tuple[Caller, UUID]:
    """The API's caller for this client, and a conversation of that owner."""
    id = UUID(begin_conversation(client).json()["conversation"])
    caller = client.get("/api/conversations/").wsgi_request.auth
    assert isinstance(caller, Caller)
    return caller, id


@pytest.mark.parametrize("way", WAYS)
def test_an_open_stream_ends_where_a_request_would_be_refused(ada: User, way: str) -> None:
    coming, end = WAYS[way]
    client = coming(ada)
    reader = opened(client)
    events = f"{conversation(reader[1])}events/"
    assert client.head(events).status_code == 200
    assert refusals({reader}) == {}
    end()
    assert refusals({reader}) == {reader: Refusal.FORBIDDEN}
    assert client.head(events).status_code in (401, 403, 404)


def test_streams_of_visitors_end_when_anonymous_access_is_turned_off(
    ada: User, settings: Any
) -> None:
    reader = opened(visiting(ada))
    settings.ALLOW_ANONYMOUS = False
    assert refusals({reader}) == {reader: Refusal.FORBIDDEN}


def test_a_session_that_changed_its_user_reads_nothing_more(ada: User) -> None:
    client = signed_in(ada)
    reader = opened(client)
    session = client.session
    client.force_login(User.objects.create_user("bob"))
    Session.objects.filter(pk=client.session.session_key).update(session_key=session.session_key)
    assert refusals({reader}) == {reader: Refusal.FORBIDDEN}


def test_a_session_of_a_removed_backend_is_not_signed_in(ada: User, settings: Any) -> None:
    client = of_directory(ada)
    reader = opened(client)
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    assert refusals({reader}) == {reader: Refusal.FORBIDDEN}
    assert client.head(f"{conversation(reader[1])}events/").status_code == 404
    visitor = opened(client)  # what the session is without its user
    assert visitor[0].owner.startswith("visitor:")
    assert refusals({visitor}) == {}


def test_a_rotated_secret_key_with_a_fallback_ends_no_stream(ada: User, settings: Any) -> None:
    client = signed_in(ada)
    reader = opened(client)
    data = client.session
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another" * 8
    row = Session.objects.get()
    row.session_data = data.encode(dict(data.items()))  # as Django stores it after the change
    row.save()
    assert refusals({reader}) == {}


async def test_an_open_stream_ends_when_the_password_is_changed(ada: User, settings: Any) -> None:
    settings.ACCESS_CHECK_INTERVAL = 0.1
    caller, id = await sync_to_async(lambda: opened(signed_in(ada)))()
    found = await Conversation.objects.aget(pk=id)
    crowd = OpenStreams()
    stream = crowd.admit(caller, found, None, until_idle=False)
    async with asyncio.timeout(60), aclosing(stream):
        await anext(stream)
        await sync_to_async(change_password)()
        pieces = [piece async for piece in stream]
    await crowd.close()
    assert pieces[-1] == closing_frames(StreamEnd.FORBIDDEN)


async def test_behind_pushpin_the_stream_ends_as_well(ada: User) -> None:
    reader = caller, id = await sync_to_async(lambda: opened(signed_in(ada)))()
    hold = Hold(conversation=id, caller=caller, until_idle=False, ends_at=2**31, begun=True)
    assert (await sync_to_async(next_page)(hold, None)).end is None
    assert await revoked({reader}) == {}
    await sync_to_async(change_password)()
    answer = await sync_to_async(next_page)(hold, None)
    assert answer == HoldResponse(end=StreamEnd.FORBIDDEN)
    assert await revoked({reader}) == {reader: StreamEnd.FORBIDDEN}  # as the bridge asks


def test_the_access_check_of_many_readers_takes_as_many_queries_as_of_a_few(ada: User) -> None:
    def asked(readers: set[tuple[Caller, UUID]]) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert refusals(readers) == {}
        return len(queries)

    few = {opened(client) for client in (signed_in(ada), visiting(ada), holding(ada), passing(ada))}
    many = set(few)
    for number in range(5):
        other = get_user_model().objects.create_user(f"user{number}")
        many |= {opened(signed_in(other)), opened(visiting(other)), opened(holding(other))}
    assert asked(many) == asked(few)


def test_a_deleted_conversation_ends_its_readers_streams(ada: User) -> None:
    caller, _ = opened(signed_in(ada))
    reader = caller, uuid4()
    assert refusals({reader}) == {reader: Refusal.GONE}


def ways_to_read(client: Client, caller: Caller, id: UUID, run: str) -> dict[str, bool]:
    """Which ways to read the conversation are open to the client."""
    hold = Hold(conversation=id, caller=caller, until_idle=False, ends_at=2**31, begun=True)
    paths = ["", "messages/", "events/?lastEventId=0"]
    requests = {path: f"{conversation(id)}{path}" for path in paths} | {"run": f"/api/runs/{run}/"}
    answers = {name: client.head(path).status_code == 200 for name, path in requests.items()}
    return answers | {
        "an open stream": refusals({(caller, id)}) == {},
        "Pushpin": next_page(hold, None).end is None,
        "django-eventstream": ChannelManager().can_read_channel(caller, channel_of(id)),
    }


@pytest.mark.parametrize("permitted", [True, False])
def test_one_function_decides_every_way_to_read(
    ada: User, monkeypatch: pytest.MonkeyPatch, permitted: bool
) -> None:
    started = begin_conversation(signed_in(ada)).json()
    other = signed_in(get_user_model().objects.create_user("bob"))
    client = other if permitted else signed_in(ada)
    caller = client.get("/api/conversations/").wsgi_request.auth
    reading = (client, caller, UUID(started["conversation"]), started["run"])
    assert set(ways_to_read(*reading).values()) == {not permitted}
    monkeypatch.setattr(authorization, "may_read", lambda *_: permitted)
    assert set(ways_to_read(*reading).values()) == {permitted}
