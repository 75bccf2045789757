"""The security headers of every response, and CORS."""

from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from tests.integration.support.api_client import ApiClient, conversation

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
STAINLESS = (  # what `openai` for Node sends from a page, with `dangerouslyAllowBrowser`
    "authorization, content-type, openai-organization, openai-project, x-stainless-arch, "
    "x-stainless-helper-method, x-stainless-lang, x-stainless-os, x-stainless-package-version, "
    "x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout"
)
OTHER = "https://other.example"
NO_CONVERSATION = "11111111-1111-4111-8111-111111111111"  # the same in each test process
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "font-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
}


def guarded(answer: Any) -> None:
    assert set(answer["Content-Security-Policy"].split("; ")) == POLICY
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Request-ID"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", f"/c/{NO_CONVERSATION}"),
        ("GET", "/api/docs"),
        ("GET", "/api/openapi.json"),
        ("GET", "/api/models/"),
        ("GET", "/api/nowhere"),
        ("GET", "/nowhere"),
        ("PUT", "/"),
        ("POST", "/api/conversations/"),
        ("DELETE", "/api/models/"),
        ("OPTIONS", f"/api/conversations/{NO_CONVERSATION}/events/"),
        ("GET", "/health/live"),
        ("GET", "/health/ready"),
        ("GET", "/metrics"),
        ("GET", "/admin/login/"),
    ],
)
def test_every_response_has_the_security_headers(method: str, path: str) -> None:
    guarded(getattr(Client(), method.lower())(path))


def test_a_response_to_a_wrong_host_has_the_security_headers() -> None:
    answer = Client(headers={"Host": "evil.example"}).get("/")
    assert answer.status_code == 400
    guarded(answer)


def test_an_internal_error_has_the_security_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.web.page.render", lambda *_: 1 / 0)
    answer = Client(raise_request_exception=False).get("/")
    assert answer.status_code == 500
    guarded(answer)


async def test_a_stream_has_the_security_headers_and_starts_at_once() -> None:
    browser = await sync_to_async(ApiClient)()
    made = await sync_to_async(browser.begin)()
    client = AsyncClient()
    client.cookies = browser.client.cookies
    answer = await client.get(f"{conversation(made['conversation'])}events/?until=idle")
    guarded(answer)
    assert (await anext(aiter(answer.streaming_content))).startswith(b"retry: ")


def test_a_request_has_its_own_id_or_gets_one() -> None:
    client = Client()
    assert client.get("/", headers={"X-Request-ID": "a.b-c_1"})["X-Request-ID"] == "a.b-c_1"
    made = set()
    for insane in ("", "x" * 65, "a b", "é", 'a"b', "-"):
        made.add(client.get("/", headers={"X-Request-ID": insane})["X-Request-ID"])
    assert len(made) == 6
    assert {len(id) for id in made} == {32}


@pytest.fixture
def allowed(settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = [OTHER]
    settings.CSRF_TRUSTED_ORIGINS = [OTHER]


@pytest.mark.usefixtures("allowed")
def test_an_allowed_origin_can_call_with_cookies() -> None:
    browser = ApiClient()
    made = browser.begin()
    answer = browser.get(conversation(made["conversation"]), Origin=OTHER)
    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == OTHER
    assert answer["Access-Control-Allow-Credentials"] == "true"
    assert "origin" in answer["Vary"].lower()
    assert browser.post("/api/conversations/", {"message": "?"}, Origin=OTHER).status_code == 202


@pytest.mark.usefixtures("allowed")
def test_the_preflight_of_a_stream_allows_last_event_id() -> None:
    asked = {
        "Origin": OTHER,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "last-event-id, authorization",
    }
    answer = Client().options(f"/api/conversations/{uuid4()}/events/", headers=asked)
    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == OTHER
    assert answer["Access-Control-Allow-Credentials"] == "true"
    named = answer["Access-Control-Allow-Headers"].split(", ")
    assert {"last-event-id", "authorization", "x-csrftoken", "idempotency-key"} <= set(named)


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/chat", "content-type, user-agent, x-ai-sdk-version, x-csrftoken"),
        ("/ag-ui", "content-type, x-csrftoken"),
        ("/threads", "content-type, x-api-key"),
        ("/threads/x/runs/stream", "content-type, last-event-id, x-api-key"),
        ("/v1/responses", STAINLESS),
        ("/v1/chat/completions", STAINLESS),
    ],
)
def test_pages_of_an_allowed_origin_can_speak_other_wires(path: str, headers: str) -> None:
    asked = {
        "Origin": OTHER,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": headers,
    }
    answer = Client().options(path, headers=asked)
    assert answer["Access-Control-Allow-Origin"] == OTHER
    assert set(headers.split(", ")) <= set(answer["Access-Control-Allow-Headers"].split(", "))


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/chat/x/stream", "x-workflow-run-id, x-workflow-stream-tail-index"),
        ("/threads/x", "location, content-location"),
        ("/v1/models", "x-should-retry, x-request-id, retry-after"),
        ("/ag-ui/connect", "x-request-id"),
    ],
)
def test_pages_of_an_allowed_origin_can_read_what_their_clients_look_at(
    path: str, names: str
) -> None:
    answer = Client().get(path, headers={"Origin": OTHER})
    assert answer["Access-Control-Allow-Origin"] == OTHER
    assert set(names.split(", ")) <= set(answer["Access-Control-Expose-Headers"].split(", "))


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        f"{OTHER}.evil.example",
        f"{OTHER}:8443",
        "http://other.example",
        "null",
    ],
)
def test_any_other_origin_gets_no_cors_headers(origin: str) -> None:
    browser = ApiClient()
    answer = browser.get("/api/models/", Origin=origin)
    assert "Access-Control-Allow-Origin" not in answer
    refused = browser.post("/api/conversations/", {"message": "?"}, Origin=origin)
    assert refused.status_code == 403


@pytest.mark.usefixtures("allowed")
def test_pages_and_accounts_have_no_cors_headers() -> None:
    ada = User.objects.create_user("ada", is_staff=True)
    client = Client()
    client.force_login(ada)
    for path in ("/", "/admin/", "/metrics"):
        answer = client.get(path, headers={"Origin": OTHER})
        assert "Access-Control-Allow-Origin" not in answer
