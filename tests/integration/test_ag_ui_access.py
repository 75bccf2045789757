"""Who reaches a thread of AG-UI, and what stays of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from streams.access.api_tokens import create_token
from streams.chat.personal_data import export_rows
from streams.models import Conversation, Message, Run
from streams.service_models import ApiToken
from streams.urls import served
from tests.integration.support.ag_ui_page import Page, user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def page() -> Iterator[Page]:
    one = Page()
    yield one
    one.close()


def test_a_session_needs_its_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.get("/")
    page = Page(client)
    for to in ("", "/connect", "/stop/t1"):
        assert page.post(user("1"), to=to).status_code == 403
    assert not Run.objects.exists()
    client.defaults["HTTP_X_CSRFTOKEN"] = client.cookies["csrftoken"].value
    page.run(user("1"))
    page.close()


def test_only_the_owner_reaches_a_thread(settings: Any) -> None:
    ada, bob = (User.objects.create_user(name) for name in ("ada", "bob"))
    owner = Page(bearer(create_token(ada, "job", scopes="read write")))
    run = owner.run(user("1", "secret"))
    conversation = str(run.conversation_id)
    settings.ALLOW_ANONYMOUS = True
    visitor = Client()
    revoked = create_token(ada, "revoked", scopes="read write")
    ApiToken.objects.filter(name="revoked").update(revoked_at=timezone.now())
    strangers = [
        Page(bearer(create_token(bob, "job", scopes="read write"))),
        Page(visitor),
    ]
    for page in strangers:
        for thread in ("t1", conversation):
            events = page.events(thread=thread, to="/connect")
            absent = page.events(thread=f"x{thread}", to="/connect")
            assert [one["type"] for one in events] == [one["type"] for one in absent]
            assert page.stop(thread) == 404
            own = page.run(user("1"), thread=thread, run=str(run.id))
            assert own.conversation_id != run.conversation_id
    for refused in (Page(bearer(revoked)), Page(bearer("unknown"))):
        for to in ("", "/connect", "/stop/t1"):
            response = refused.post(user("2"), to=to, run="r2")
            assert (response.status_code, b"secret" in response.content) == (401, False)
    settings.ALLOW_ANONYMOUS = False
    for to in ("", "/connect", "/stop/t1"):
        assert Page().post(user("2"), to=to, run="r2").status_code == 401
    reading = Page(bearer(create_token(ada, "read", scopes="read")))
    assert reading.post(user("2"), run="r2").status_code == 403
    assert Message.objects.filter(conversation=run.conversation).count() == 1
    assert not Run.objects.get(pk=run.pk).cancel_asked
    for page in (owner, reading, *strangers):
        page.close()


def bearer(token: str) -> Client:
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {token}"})


def test_the_export_has_the_names(page: Page) -> None:
    page.run(user("1"))
    rows = {row["kind"]: row for row in export_rows(Conversation.objects.get().owner)}
    assert (rows["conversation"]["dialect"], rows["conversation"]["client_id"]) == ("ag-ui", "t1")
    assert (rows["message"]["client_id"], rows["run"]["client_id"]) == ("1", "r1")


def test_the_names_of_a_deleted_thread_can_be_used_again(page: Page) -> None:
    first = page.run(user("1"))
    page.client.delete(f"/api/conversations/{first.conversation_id}/")
    assert len(page.events(to="/connect")) == 2
    assert page.run(user("1")) != first


def test_the_routes_are_those_of_the_setting(settings: Any) -> None:
    assert [one.prefix for one in served(["ag-ui"])] == ["/"]
    assert [one.prefix for one in served(["responses"])] == ["/v1/", "/v1/"]
