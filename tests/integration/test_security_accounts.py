"""Users come in and go out by pages without a script, and keep what they made as visitors."""

from typing import Any

import pytest
from allauth.core.internal.ratelimit import parse_rates
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from streams.models import Conversation, Run
from tests.integration.support.api_client import ApiClient, conversation

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey", "unhurried")]
HERE, THERE = "127.0.0.1", "203.0.113.9"
PASSWORD = "a-spool-of-blue-thread"


@pytest.fixture
def unhurried(settings: Any) -> None:
    """Reset the rate limits. Passwords are compared fast, within the shortest window."""
    cache.clear()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def send(browser: ApiClient, path: str, **fields: str) -> Any:
    shown = browser.client.get(path)
    token = {"csrfmiddlewaretoken": browser.client.cookies["csrftoken"].value}
    assert b"csrfmiddlewaretoken" in shown.content
    return browser.client.post(path, {**fields, **token})


def sign_in(password: str, name: str = "ada", address: str = HERE, **headers: str) -> bool:
    """Whether that let in. The address is the peer's, as the server saw it."""
    browser = ApiClient()
    browser.client.defaults["REMOTE_ADDR"] = address
    browser.client.defaults.update({f"HTTP_{name}": text for name, text in headers.items()})
    return "Location" in send(browser, "/accounts/login/", login=name, password=password)


def sign_up(browser: ApiClient, name: str = "ada") -> Any:
    return send(browser, "/accounts/signup/", username=name, password1=PASSWORD, password2=PASSWORD)


@pytest.mark.parametrize("path", ["login", "signup"])
def test_the_pages_have_no_inline_script_or_style(path: str) -> None:
    page = Client().get(f"/accounts/{path}/").content.decode()
    assert "<script" not in page
    assert "<style" not in page
    assert "style=" not in page
    assert " on" not in page.partition("<form")[2].partition("</form>")[0].replace(" on this", "")


def test_a_user_signs_up_out_and_in_again() -> None:
    browser = ApiClient()
    assert sign_up(browser)["Location"] == "/"
    assert b"ada" in browser.client.get("/").content
    assert send(browser, "/accounts/logout/")["Location"] == "/"
    assert b"ada" not in browser.client.get("/").content
    again = send(browser, "/accounts/login/", login="ada", password=PASSWORD)
    assert again["Location"] == "/"
    assert b"ada" in browser.client.get("/").content


def test_a_get_request_does_not_sign_out() -> None:
    browser = ApiClient()
    sign_up(browser)
    browser.client.get("/accounts/logout/")
    assert b"ada" in browser.client.get("/").content


def test_a_form_without_a_csrf_token_is_refused() -> None:
    answer = Client(enforce_csrf_checks=True).post("/accounts/login/", {"login": "ada"})
    assert answer.status_code == 403


def test_a_wrong_password_does_not_reveal_which_users_exist() -> None:
    sign_up(ApiClient())
    known = send(ApiClient(), "/accounts/login/", login="ada", password="wrong")
    unknown = send(ApiClient(), "/accounts/login/", login="bob", password="wrong")
    assert known.status_code == unknown.status_code == 200
    assert known.context["form"].errors == unknown.context["form"].errors


def test_too_many_wrong_passwords_for_a_name_from_an_address_are_delayed() -> None:
    sign_up(ApiClient())
    assert not any(sign_in("wrong") for _ in range(5))
    assert not sign_in(PASSWORD)


def test_wrong_passwords_from_other_addresses_do_not_lock_the_user_out() -> None:
    sign_up(ApiClient())
    assert not any(sign_in("wrong", address=THERE) for _ in range(8))
    assert not sign_in(PASSWORD, address=THERE)
    assert sign_in(PASSWORD)
    assert not any(sign_in("wrong", address="2001:db8::1") for _ in range(6))
    assert not sign_in(PASSWORD, address="2001:db8::2")  # of the same network of one customer


def test_wrong_passwords_for_one_name_do_not_lock_another_out() -> None:
    sign_up(ApiClient())
    sign_up(ApiClient(), "bob")
    assert not any(sign_in("wrong", name="bob") for _ in range(6))
    assert sign_in(PASSWORD)


def test_a_right_password_does_not_reset_the_count() -> None:
    sign_up(ApiClient())
    for _ in range(4):
        assert not sign_in("wrong")
        assert sign_in(PASSWORD)
    assert not sign_in("wrong")
    assert not sign_in(PASSWORD)


@pytest.mark.parametrize("name", ["X_FORWARDED_FOR", "X_REAL_IP", "FORWARDED", "HOST"])
def test_forged_headers_do_not_change_the_counted_address(name: str) -> None:
    sign_up(ApiClient())
    for number in range(5):
        text = f"{number}.localhost" if name == "HOST" else f"198.51.100.{number}"
        assert not sign_in("wrong", **{name: text})
    assert not sign_in(PASSWORD)
    assert not sign_in(PASSWORD, **{name: "9.localhost" if name == "HOST" else "198.51.100.9"})


def test_the_wait_grows_with_the_failures(settings: Any) -> None:
    rates = parse_rates(settings.ACCOUNT_RATE_LIMITS["login_failed"])
    windows = [(rate.amount, rate.duration) for rate in rates if rate.per == "key"]
    assert len(windows) >= 3
    assert windows == sorted(windows)
    paces = [amount / duration for amount, duration in windows]
    assert paces == sorted(paces, reverse=True)
    assert windows[0][1] <= 10 < windows[-1][1] <= 600  # seconds: no lock, however many there were


def test_closed_sign_up_creates_no_user(settings: Any) -> None:
    settings.ALLOW_SIGNUP = False
    client = Client()
    assert b"Sign-up is closed" in client.get("/accounts/signup/").content
    client.post("/accounts/signup/", {"username": "ada", "password1": PASSWORD})
    assert not User.objects.exists()


def test_signing_in_redirects_to_no_other_host() -> None:
    sign_up(ApiClient())
    where = "/accounts/login/?next=https://evil.example/"
    answer = send(ApiClient(), where, login="ada", password=PASSWORD, next="https://evil.example/")
    assert answer["Location"] == "/"


@pytest.mark.parametrize("way", ["sign up", "sign in"])
def test_the_conversations_of_a_visitor_pass_to_the_user(way: str) -> None:
    if way == "sign in":
        sign_up(ApiClient())
    browser, other = ApiClient(), ApiClient()
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


def test_a_visitors_idempotency_key_stays_valid_after_signing_in() -> None:
    browser = ApiClient()
    first = browser.post("/api/conversations/", {"message": "?"}, Idempotency_Key="k")
    sign_up(browser)
    browser.csrf = {"X-CSRFToken": browser.client.cookies["csrftoken"].value}
    again = browser.post("/api/conversations/", {"message": "?"}, Idempotency_Key="k")
    assert (again.content, again["Idempotency-Replayed"]) == (first.content, "true")


def test_after_signing_out_the_visitor_is_a_new_one() -> None:
    browser = ApiClient()
    made = browser.begin()
    sign_up(browser)
    send(browser, "/accounts/logout/")
    assert browser.get(conversation(made["conversation"])).status_code == 404


def test_the_admin_has_no_sign_in_page_of_its_own() -> None:
    answer = Client().get("/admin/login/?next=/admin/")
    assert answer["Location"] == "/accounts/login/?next=%2Fadmin%2F"
    browser = ApiClient()
    sign_up(browser)
    assert browser.client.get("/admin/", follow=True).status_code == 403
