"""Users come in and go out by pages without a script, and keep what they made as visitors."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from streams.models import Conversation, Run
from tests.integration.browser import Browser, conversation

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey", "unhurried")]
PASSWORD = "a-spool-of-blue-thread"


@pytest.fixture
def unhurried() -> None:
    """Nobody has tried too often yet."""
    cache.clear()


def send(browser: Browser, path: str, **fields: str) -> Any:
    shown = browser.client.get(path)
    token = {"csrfmiddlewaretoken": browser.client.cookies["csrftoken"].value}
    assert b"csrfmiddlewaretoken" in shown.content
    return browser.client.post(path, {**fields, **token})


def sign_up(browser: Browser, name: str = "ada") -> Any:
    return send(browser, "/accounts/signup/", username=name, password1=PASSWORD, password2=PASSWORD)


@pytest.mark.parametrize("path", ["login", "signup"])
def test_the_pages_hold_no_script_and_no_style_of_their_own(path: str) -> None:
    page = Client().get(f"/accounts/{path}/").content.decode()
    assert "<script" not in page
    assert "<style" not in page
    assert "style=" not in page
    assert " on" not in page.partition("<form")[2].partition("</form>")[0].replace(" on this", "")


def test_somebody_signs_up_out_and_in_again() -> None:
    browser = Browser()
    assert sign_up(browser)["Location"] == "/"
    assert b"ada" in browser.client.get("/").content
    assert send(browser, "/accounts/logout/")["Location"] == "/"
    assert b"ada" not in browser.client.get("/").content
    again = send(browser, "/accounts/login/", login="ada", password=PASSWORD)
    assert again["Location"] == "/"
    assert b"ada" in browser.client.get("/").content


def test_signing_out_by_a_mere_link_does_nothing() -> None:
    browser = Browser()
    sign_up(browser)
    browser.client.get("/accounts/logout/")
    assert b"ada" in browser.client.get("/").content


def test_a_form_without_its_token_is_refused() -> None:
    answer = Client(enforce_csrf_checks=True).post("/accounts/login/", {"login": "ada"})
    assert answer.status_code == 403


def test_a_wrong_password_tells_nothing_of_who_there_is() -> None:
    sign_up(Browser())
    known = send(Browser(), "/accounts/login/", login="ada", password="wrong")
    unknown = send(Browser(), "/accounts/login/", login="bob", password="wrong")
    assert known.status_code == unknown.status_code == 200
    assert known.context["form"].errors == unknown.context["form"].errors


def test_whoever_tries_too_often_has_to_wait() -> None:
    sign_up(Browser())
    for _ in range(5):
        send(Browser(), "/accounts/login/", login="ada", password="wrong")
    answer = send(Browser(), "/accounts/login/", login="ada", password=PASSWORD)
    assert "Location" not in answer


def test_where_sign_up_is_closed_nobody_is_made(settings: Any) -> None:
    settings.ALLOW_SIGNUP = False
    client = Client()
    assert b"Sign-up is closed" in client.get("/accounts/signup/").content
    client.post("/accounts/signup/", {"username": "ada", "password1": PASSWORD})
    assert not User.objects.exists()


def test_signing_in_leads_nowhere_else() -> None:
    sign_up(Browser())
    where = "/accounts/login/?next=https://evil.example/"
    answer = send(Browser(), where, login="ada", password=PASSWORD, next="https://evil.example/")
    assert answer["Location"] == "/"


@pytest.mark.parametrize("way", ["sign up", "sign in"])
def test_what_a_visitor_made_is_the_users_from_then_on(way: str) -> None:
    if way == "sign in":
        sign_up(Browser())
    browser, other = Browser(), Browser()
    made, kept = browser.begin(), other.begin()
    if way == "sign up":
        sign_up(browser)
    else:
        send(browser, "/accounts/login/", login="ada", password=PASSWORD)
    owner = f"user:{User.objects.get().pk}"
    assert Conversation.objects.get(pk=made["conversation"]).owner == owner
    assert Run.objects.get(pk=made["run"]).owner == owner
    assert browser.get(conversation(made["conversation"])).status_code == 200
    assert other.get(conversation(made["conversation"])).status_code == 404
    assert other.get(conversation(kept["conversation"])).status_code == 200


def test_a_visitors_request_is_known_when_it_is_sent_again_as_the_user() -> None:
    browser = Browser()
    first = browser.post("/api/conversations/", {"message": "?"}, Idempotency_Key="k")
    sign_up(browser)
    browser.csrf = {"X-CSRFToken": browser.client.cookies["csrftoken"].value}
    again = browser.post("/api/conversations/", {"message": "?"}, Idempotency_Key="k")
    assert (again.content, again["Idempotency-Replayed"]) == (first.content, "true")


def test_after_signing_out_a_visitor_begins_anew() -> None:
    browser = Browser()
    made = browser.begin()
    sign_up(browser)
    send(browser, "/accounts/logout/")
    assert browser.get(conversation(made["conversation"])).status_code == 404


def test_the_admin_has_no_way_in_of_its_own() -> None:
    answer = Client().get("/admin/login/?next=/admin/")
    assert answer["Location"] == "/accounts/login/?next=%2Fadmin%2F"
    browser = Browser()
    sign_up(browser)
    assert browser.client.get("/admin/", follow=True).status_code == 403
