"""Authentication: sessions with their CSRF token, API tokens and visitors."""

from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from streams.access.api_tokens import create_token
from streams.models import Conversation
from streams.service_models import ApiToken
from tests.integration.support.api_client import (
    ApiClient,
    begin_conversation,
    client_with_token,
    conversation,
    problem,
    run,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


def test_a_token_acts_for_its_user_without_any_csrf_token(ada: User) -> None:
    client = client_with_token(create_token(ada, "script", scopes="read write"))
    made = begin_conversation(client).json()
    assert Conversation.objects.get().owner == f"user:{ada.pk}"
    assert client.get(conversation(made["conversation"])).status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_any_other_method_on_a_stream_is_not_allowed(ada: User, method: str) -> None:
    client = client_with_token(create_token(ada, "script", scopes="read write"))
    events = conversation(begin_conversation(client).json()["conversation"]) + "events/"
    assert problem(getattr(client, method)(events)) == (405, "method_not_allowed")
    assert problem(getattr(Client(enforce_csrf_checks=True), method)(events))[0] == 405


def test_a_revoked_expired_or_unknown_token_is_refused(ada: User) -> None:
    shown = create_token(ada, "script", scopes="read write")
    ApiToken.objects.update(revoked_at=timezone.now())
    late = create_token(
        ada, "late", scopes="read", expires_at=timezone.now() - timedelta(seconds=1)
    )
    for wrong in (shown, late, "", "unspool_" + "x" * 43, "é\udcff", "a b"):
        answer = client_with_token(wrong).get("/api/conversations/")
        assert problem(answer) == (401, "unauthorized")
        assert answer["WWW-Authenticate"] == 'Bearer realm="unspool", error="invalid_token"'


def test_a_token_of_a_deactivated_user_is_refused(ada: User) -> None:
    client = client_with_token(create_token(ada, "script", scopes="read write"))
    User.objects.update(is_active=False)
    assert problem(client.get("/api/conversations/")) == (401, "unauthorized")


def test_a_wrong_token_is_refused_even_with_a_valid_session() -> None:
    browser = ApiClient()
    made = browser.begin()
    answer = browser.get(conversation(made["conversation"]), Authorization="Bearer wrong")
    assert problem(answer) == (401, "unauthorized")


def test_a_token_permits_only_its_scopes(ada: User) -> None:
    reader = client_with_token(create_token(ada, "reader", scopes="read"))
    assert reader.get("/api/conversations/").status_code == 200
    assert problem(begin_conversation(reader)) == (403, "scope_missing")
    writer = client_with_token(create_token(ada, "writer", scopes="write"))
    assert begin_conversation(writer).status_code == 202
    assert problem(writer.get("/api/conversations/")) == (403, "scope_missing")


def test_a_signed_in_user_owns_new_conversations(ada: User) -> None:
    browser = ApiClient()
    browser.client.force_login(ada)
    browser.client.get("/")
    browser.csrf = {"X-CSRFToken": browser.client.cookies["csrftoken"].value}
    browser.begin()
    assert Conversation.objects.get().owner == f"user:{ada.pk}"


@pytest.mark.parametrize("token", ["", "wrong", "x" * 32])
def test_a_session_needs_the_csrf_token_to_change_anything(token: str) -> None:
    browser = ApiClient()
    made = browser.begin()
    browser.csrf = {"X-CSRFToken": token} if token else {}
    for method, path in (
        ("POST", "/api/conversations/"),
        ("POST", f"{conversation(made['conversation'])}messages/"),
        ("PATCH", conversation(made["conversation"])),
        ("DELETE", conversation(made["conversation"])),
        ("POST", f"{run(made['run'])}cancel/"),
        ("POST", f"{run(made['run'])}retry/"),
    ):
        assert problem(browser.send(method, path, {})) == (403, "csrf_failed")
    assert browser.get(conversation(made["conversation"])).json()["runs"]


def test_a_reader_without_a_session_sees_nothing_and_stores_nothing() -> None:
    made = ApiClient().begin()
    sessions = Session.objects.count()
    stranger = Client()
    assert stranger.get("/api/conversations/").json() == {"items": [], "next": None}
    assert problem(stranger.get(conversation(made["conversation"]))) == (404, "not_found")
    assert not stranger.cookies
    assert Session.objects.count() == sessions


def test_a_visitor_is_the_same_owner_from_the_first_message() -> None:
    browser = ApiClient()
    browser.begin()
    browser.begin()
    assert Conversation.objects.values("owner").distinct().count() == 1
    assert len(browser.get("/api/conversations/").json()["items"]) == 2


def test_two_first_requests_of_one_session_have_the_same_owner() -> None:
    browser = ApiClient()
    twin = Client(enforce_csrf_checks=True)
    twin.cookies = browser.client.cookies.copy()
    browser.begin()
    answer = twin.post(
        "/api/conversations/",
        {"message": "?"},
        content_type="application/json",
        headers=browser.csrf,
    )
    assert answer.status_code == 202
    assert Conversation.objects.values("owner").distinct().count() == 1


def test_without_anonymous_access_visitors_must_sign_in(settings: Any) -> None:
    settings.ALLOW_ANONYMOUS = False
    for answer in (Client().get("/api/conversations/"), begin_conversation(Client())):
        assert problem(answer) == (401, "unauthorized")
        assert answer["WWW-Authenticate"] == 'Bearer realm="unspool"'


@pytest.mark.parametrize("here", ["foreign", "absent", "malformed"])
def test_foreign_and_absent_objects_look_the_same_on_every_route(here: str, ada: User) -> None:
    made = ApiClient().begin()
    if here == "absent":
        made = {"conversation": str(uuid4()), "run": str(uuid4())}
    if here == "malformed":
        made = {"conversation": "none", "run": "x"}
    what, which = conversation(made["conversation"]), run(made["run"])
    calls = (
        ("GET", what, None),
        ("PATCH", what, {"title": "Mine"}),
        ("DELETE", what, None),
        ("GET", f"{what}messages/", None),
        ("GET", f"{what}messages/?before={uuid4()}", None),
        ("POST", f"{what}messages/", {"message": "?"}),
        ("GET", f"{what}events/", None),
        ("GET", which, None),
        ("POST", f"{which}cancel/", None),
        ("POST", f"{which}retry/", None),
    )
    looks = set()
    signed_in = ApiClient()
    signed_in.client.force_login(ada)
    for who in (ApiClient(), signed_in):
        who.client.get("/")
        who.csrf = {"X-CSRFToken": who.client.cookies["csrftoken"].value}
        for method, path, body in calls:
            answer = who.send(method, path, body)
            own = {"Vary", "X-Request-ID"}
            headers = {name: value for name, value in answer.items() if name not in own}
            looks.add((answer.status_code, answer.content, tuple(sorted(headers.items()))))
    assert {status for status, _, _ in looks} == {404}
    assert len(looks) == 1


def test_the_command_creates_lists_and_revokes_tokens(ada: User) -> None:
    def token(*words: str) -> str:
        said = StringIO()
        call_command("token", *words, stdout=said)
        return said.getvalue()

    shown = token("create", "ada", "--name", "backup job", "--scopes", "read").strip()
    assert client_with_token(shown).get("/api/conversations/").status_code == 200
    kept = ApiToken.objects.get()
    assert (kept.name, kept.scopes, shown in kept.digest) == ("backup job", "read", False)
    assert token("list", "ada").startswith(f"{kept.pk}\tada\tbackup job\tread\texpires never")
    assert shown not in token("list")
    token("revoke", str(kept.pk))
    assert client_with_token(shown).get("/api/conversations/").status_code == 401
    assert token("list").rstrip().endswith("revoked")
    with pytest.raises(CommandError, match="revoked already"):
        token("revoke", str(kept.pk))
    with pytest.raises(CommandError, match="no user bob"):
        token("create", "bob", "--name", "x")
