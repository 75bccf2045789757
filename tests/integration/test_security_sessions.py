"""A visitor's session is stored when the visitor does something, and not before."""

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from streams.access.sessions import SessionStore
from streams.models import Conversation
from tests.integration.support.api_client import ApiClient, conversation

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
PAGES = (
    "/",
    f"/c/{uuid4()}",
    "/accounts/login/",
    "/accounts/signup/",
    "/admin/login/?next=/admin/",
)


def post(client: Client, csrf: str) -> Any:
    return client.post(
        "/api/conversations/",
        {"message": "?"},
        content_type="application/json",
        headers={"X-CSRFToken": csrf},
    )


@pytest.mark.parametrize("welcome", [True, False], ids=["visitors welcome", "visitors shut out"])
def test_viewing_the_page_stores_no_session(settings: Any, welcome: bool) -> None:
    settings.ALLOW_ANONYMOUS = welcome
    for page in PAGES:
        client = Client()
        client.get(page)
        client.get(page)
        client.get("/api/conversations/")
        assert Session.objects.count() == 0, page
    client = Client()
    client.get("/")
    assert ("sessionid" in client.cookies) is welcome
    assert "csrftoken" in client.cookies


def test_the_cookies_of_the_page_are_enough_to_post() -> None:
    """As `curl -c` at the page, and `curl -b` from then on."""
    arriving = Client()
    arriving.get("/")
    saved = arriving.cookies.copy()
    csrf = saved["csrftoken"].value

    def curl() -> Client:
        client = Client(enforce_csrf_checks=True)
        client.cookies = saved.copy()
        return client

    curl().get("/api/conversations/")
    made = post(curl(), csrf).json()["conversation"]
    post(curl(), csrf)
    assert curl().get(conversation(made)).status_code == 200
    assert Conversation.objects.values("owner").distinct().count() == 1
    assert Session.objects.count() == 1
    assert Session.objects.get().session_key == saved["sessionid"].value


def test_a_get_at_the_api_keeps_the_reserved_session_key() -> None:
    client = Client()
    client.get("/")
    key = client.cookies["sessionid"].value
    for path in ("/", "/api/conversations/", "/api/models/"):
        client.get(path)
        assert client.cookies["sessionid"].value == key


def test_an_ended_session_becomes_another_visitor() -> None:
    browser = ApiClient()
    made = browser.begin()["conversation"]
    Session.objects.all().delete()
    assert browser.get(conversation(made)).status_code == 404
    browser.begin()
    assert browser.get(conversation(made)).status_code == 404
    assert Conversation.objects.values("owner").distinct().count() == 2


@pytest.mark.parametrize("key", ["x" * 40, "x" * 32, "x", "", "x" * 20, "é" * 40, "a" * 41])
def test_an_unknown_session_key_starts_no_session(key: str) -> None:
    browser = ApiClient()
    browser.client.cookies["sessionid"] = key
    browser.begin()
    assert not Session.objects.filter(pk=key).exists()


def test_a_reserved_key_is_invalid_under_another_secret_key(settings: Any) -> None:
    browser = ApiClient()
    key = browser.client.cookies["sessionid"].value
    settings.SECRET_KEY = "another" * 8
    browser.client.get("/")
    assert browser.client.cookies["sessionid"].value != key


def test_concurrent_requests_of_a_reserved_session_keep_both_changes() -> None:
    key = SessionStore().reserve()
    one, other = SessionStore(key), SessionStore(key)
    assert not one.is_empty()
    one["visitor"], other["next"] = "a", "/"
    one.save()
    other.save()
    assert dict(SessionStore(key).items()) == {"visitor": "a", "next": "/"}
    late = SessionStore(key)
    late.store()
    assert late["visitor"] == "a"


def test_signing_in_changes_the_session_key(django_user_model: Any) -> None:
    browser = ApiClient()
    browser.begin()
    key = browser.client.cookies["sessionid"].value
    browser.client.force_login(django_user_model.objects.create_user("ada"))
    assert browser.client.cookies["sessionid"].value != key
    fixed = SessionStore(browser.client.cookies["sessionid"].value)
    fixed.flush()
    assert Client().get("/api/conversations/").json()["items"] == []
