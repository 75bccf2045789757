"""Access to foreign objects: no caller can read or change another owner's data."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core import serializers
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from streams.access.api_tokens import create_token
from streams.api import api
from streams.models import Conversation, Message, Run
from streams.service_models import ApiToken
from tests.integration.support.api_client import ApiClient
from tests.integration.support.signed_tokens import sign

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
SECRET = "a secret word"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PAGES = ("/c/{conversation}", "/admin/unspool/conversation/{conversation}/change/")
BODIES = {"POST": {"message": "Mine?"}, "PATCH": {"title": "Mine"}, "PUT": {"title": "Mine"}}
KEY = "k" * 32

Send = Callable[[str, str], HttpResponse]


@cache
def routes() -> list[str]:
    """Every URL in the OpenAPI document, and the pages."""
    return [*api.get_openapi_schema()["paths"], *PAGES]


def sending(client: Client) -> Send:
    """As a page of ours would: with the CSRF token of the session, if there is one."""
    if "sessionid" in client.cookies:
        client.get("/")
    token = client.cookies["csrftoken"].value if "csrftoken" in client.cookies else ""

    def send(method: str, path: str) -> HttpResponse:
        body = BODIES.get(method, {}) if not path.endswith(("cancel/", "retry/")) else {}
        if method == "POST" and path.startswith(("/threads", "/runs")):
            body = {"assistant_id": "agent", "input": {"messages": ["Mine?"]}}
        return client.generic(
            method,
            path,
            api.renderer.render(None, body, response_status=0) if method in BODIES else b"",
            content_type="application/json",
            headers={"X-CSRFToken": token},
        )

    return send


def bearing(shown: str) -> Send:
    return sending(Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {shown}"}))


def signed_in(user: User) -> Client:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


@pytest.fixture
def ada(settings: Any) -> User:
    settings.STREAM_SIGNING_KEY = KEY
    return User.objects.create_user("ada")


def strangers(ada: User) -> Iterator[tuple[str, Send]]:
    """All callers without access, among them the owner's earlier identities."""
    bob = User.objects.create_user("bob")
    yield "another user", sending(signed_in(bob))
    yield "another's token", bearing(create_token(bob, "job", scopes="read write"))
    yield "another's signed token", bearing(sign(f"user:{bob.pk}", scope="read write"))
    yield "another application's user", bearing(sign(f"external:{ada.pk}"))
    yield "anonymous", sending(Client(enforce_csrf_checks=True))
    yield "a visitor", sending(ApiClient().client)
    staff = User.objects.create_user("staff", is_staff=True)
    yield "staff", sending(signed_in(staff))
    revoked = create_token(ada, "revoked", scopes="read write")
    ApiToken.objects.filter(name="revoked").update(revoked_at=timezone.now())
    yield "a revoked token", bearing(revoked)
    late = timezone.now() - timedelta(seconds=1)
    yield (
        "an expired token",
        bearing(create_token(ada, "late", scopes="read write", expires_at=late)),
    )
    yield "an expired signed token", bearing(sign(f"user:{ada.pk}", seconds=0))
    yield "a token without a scope", bearing(create_token(ada, "none", scopes=""))
    ended = signed_in(ada)
    Session.objects.filter(pk=ended.session.session_key).delete()
    yield "an ended session", sending(ended)
    forged = Client(enforce_csrf_checks=True)
    forged.cookies["sessionid"] = "x" * 32
    yield "a forged session", sending(forged)


def address(route: str, conversation: str, run: str) -> str:
    """The route's address for these objects, by the names that each wire has for them."""
    other_wires = {"name": conversation, "id": f"resp_{run}", "model": "x"}
    other_wires["thread"] = conversation
    return route.format(conversation=conversation, run=run, **other_wires)


def looks(answer: HttpResponse, conversation: str, run: str) -> tuple[Any, ...]:
    """What can be seen of an answer, whichever of two addresses it is an answer to."""
    own = {"X-Request-ID", "Vary", "Set-Cookie", "Content-Length", "Expires"}
    headers = sorted((name, value) for name, value in answer.items() if name not in own)
    body = b"" if answer.streaming else answer.content

    def blurred(text: str) -> str:
        for id in (conversation, run):
            text = text.replace(id, "<id>")
        return text

    said = blurred(body.decode(errors="replace"))
    if "csrfmiddlewaretoken" in said:
        said = "a form"
    return answer.status_code, answer.streaming, said, blurred(str(headers))


def kept() -> str:
    rows = [*Conversation.objects.all(), *Message.objects.all(), *Run.objects.all()]
    return serializers.serialize("json", rows)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("welcome", [True, False], ids=["visitors welcome", "visitors shut out"])
def test_foreign_objects_are_not_found(
    ada: User, settings: Any, welcome: bool, method: str
) -> None:
    owner = create_token(ada, "job", scopes="read write")
    made = Client(headers={"Authorization": f"Bearer {owner}"}).post(
        "/api/conversations/", {"message": SECRET}, content_type="application/json"
    )
    there = {name: made.json()[name] for name in ("conversation", "run")}
    before, asked = kept(), 0
    settings.ALLOW_ANONYMOUS = True
    callers = list(strangers(ada))
    settings.ALLOW_ANONYMOUS = welcome
    for who, send in callers:
        for route in (route for route in routes() if "{" in route):
            absent = {name: str(uuid4()) for name in there}
            answers = [
                looks(send(method, address(route, **ids)), *ids.values()) for ids in (there, absent)
            ]
            assert answers[0] == answers[1], (who, route)
            status, streaming, said, _ = answers[0]
            assert status < 500, (who, route)
            assert not streaming, (who, route)
            assert SECRET not in said
            asked += 1
        for route in (route for route in routes() if "{" not in route and method == "GET"):
            answer = send(method, route)
            assert there["conversation"] not in answer.content.decode(), (who, route)
            assert SECRET not in answer.content.decode(), (who, route)
    assert kept() == before
    assert asked >= 13 * 8


def test_the_owner_can_read_in_every_permitted_way(ada: User) -> None:
    session = signed_in(ada)
    mine = sending(session)
    made = mine("POST", "/api/conversations/").json()
    ways = [
        mine,
        bearing(create_token(ada, "job", scopes="read")),
        bearing(sign(f"user:{ada.pk}")),
    ]
    for send in ways:
        assert send("GET", f"/api/conversations/{made['conversation']}/").status_code == 200
        assert send("GET", f"/api/runs/{made['run']}/").status_code == 200
        where = f"/api/conversations/{made['conversation']}/events/"
        assert send("HEAD", where).status_code == 200


HOSTILE: list[tuple[str, dict[str, str]]] = [
    ("?recover=true", {}),
    ("?recover=true", {"Grip-Last": "x; last-id=1"}),
    ("?es-meta=garbage", {}),
    ("?es-meta=eyJhbGciOiJub25lIn0.e30.", {}),
    ("?link=next", {}),
    ("?channel=conversation-{other}", {}),
    ("", {"Grip-Sig": "eyJhbGciOiJub25lIn0.eyJpc3MiOiJwdXNocGluIn0."}),
    ("", {"Grip-Sig": "garbage", "Grip-Last": "conversation-{other}; last-id=0"}),
    ("", {"Grip-Feature": "stream", "Grip-Channel": "conversation-{other}"}),
    ("", {"X-Forwarded-For": "127.0.0.1", "X-Original-URL": "/api/conversations/{other}/"}),
    ("", {"X-HTTP-Method-Override": "DELETE"}),
]


@pytest.mark.parametrize(("query", "headers"), HOSTILE)
def test_parameters_of_the_eventstream_library_are_refused_or_ignored(
    query: str, headers: dict[str, str]
) -> None:
    other = ApiClient().begin(SECRET)["conversation"]
    browser = ApiClient()
    mine = browser.begin()["conversation"]
    named = {name: value.format(other=other) for name, value in headers.items()}
    for id, allowed in ((mine, {200, 400, 403}), (other, {404, 400, 403})):
        where = f"/api/conversations/{id}/events/{query.format(other=other)}"
        answer = browser.client.head(where, headers=named)
        assert answer.status_code in allowed
    answer = browser.get(f"/api/conversations/{other}/events/{query}", **named)
    assert not answer.streaming
    assert SECRET.encode() not in answer.content
