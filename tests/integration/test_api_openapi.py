"""The OpenAPI document, its page, and what the platform asks."""

import re
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import reverse

from streams.log.event_log import the_log
from tests.integration.support.api_client import ApiClient

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]


@pytest.fixture
def document() -> dict[str, Any]:
    return Client().get("/api/openapi.json").json()


def test_the_document_has_every_operation(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert {path: sorted(methods) for path, methods in document["paths"].items()} == {
        "/api/conversations/": ["get", "post"],
        "/api/conversations/{conversation}/": ["delete", "get", "patch"],
        "/api/conversations/{conversation}/messages/": ["get", "post"],
        "/api/conversations/{conversation}/events/": ["get"],
        "/api/conversations/{conversation}/socket/": ["get"],
        "/api/runs/{run}/": ["get"],
        "/api/runs/{run}/cancel/": ["post"],
        "/api/runs/{run}/retry/": ["post"],
        "/api/models/": ["get"],
        "/api/chat": ["post"],
        "/api/chat/{name}/messages": ["get"],
        "/api/chat/{name}/stop": ["post"],
        "/api/chat/{name}/stream": ["get"],
        "/v1/models": ["get"],
        "/v1/models/{model}": ["get"],
        "/v1/chat/completions": ["post"],
        "/v1/responses": ["post"],
        "/v1/responses/{id}": ["get"],
        "/v1/responses/{id}/cancel": ["post"],
        "/ag-ui": ["post"],
        "/ag-ui/connect": ["post"],
        "/ag-ui/stop/{thread}": ["post"],
        "/threads": ["post"],
        "/threads/{thread}": ["get"],
        "/threads/{thread}/state": ["get"],
        "/threads/{thread}/history": ["post"],
        "/threads/{thread}/runs": ["post"],
        "/threads/{thread}/runs/stream": ["post"],
        "/threads/{thread}/runs/wait": ["post"],
        "/threads/{thread}/runs/{run}": ["get"],
        "/threads/{thread}/runs/{run}/stream": ["get"],
        "/threads/{thread}/runs/{run}/join": ["get"],
        "/threads/{thread}/runs/{run}/cancel": ["post"],
        "/runs": ["post"],
        "/runs/stream": ["post"],
        "/runs/wait": ["post"],
        "/health/live": ["get"],
        "/health/ready": ["get"],
    }


def test_the_document_is_the_same_at_every_request(document: dict[str, Any]) -> None:
    assert Client().get("/api/openapi.json").json() == document


def test_every_reference_resolves_and_every_operation_id_is_unique(
    document: dict[str, Any],
) -> None:
    text = Client().get("/api/openapi.json").content.decode()
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in document["components"]["schemas"]
    names = re.findall(r'"operationId": ?"(\w+)"', text)
    assert len(names) == len(set(names)) == 42


def test_every_post_documents_idempotency_key_and_prefer_wait(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            optional = {
                parameter["name"]
                for parameter in operation.get("parameters", [])
                if parameter["in"] == "header" and not parameter["required"]
            }
            own = not path.startswith(("/api/chat", "/v1/", "/threads", "/runs", "/ag-ui"))
            assert ("Idempotency-Key" in optional) == (own and method == "post")
            assert ("Prefer" in optional) == ("202" in operation["responses"])
            if path.startswith(("/api/", "/v1/", "/threads", "/runs", "/ag-ui")):
                assert {"401", "403", "404", "422", "503"} <= set(operation["responses"])


def test_every_call_needs_an_identity_but_the_platforms(settings: Any) -> None:
    for anonymous in (True, False):
        settings.ALLOW_ANONYMOUS = anonymous
        document = Client().get("/api/openapi.json").json()
        schemes = [{"token": []}, {"session": []}]
        assert document["security"] == schemes + ([{}] if anonymous else [])
        assert set(document["components"]["securitySchemes"]) == {"token", "session"}
        without = {
            path
            for path, methods in document["paths"].items()
            for operation in methods.values()
            if operation.get("security") == []
        }
        assert without == {"/health/live", "/health/ready"}


def test_response_headers_are_documented_where_they_occur(document: dict[str, Any]) -> None:
    told = {
        (method, status): sorted(answer["headers"])
        for method, operation in document["paths"]["/api/conversations/"].items()
        for status, answer in operation["responses"].items()
        if "headers" in answer
    }
    refused = {"401": ["WWW-Authenticate"], "429": ["Retry-After"], "503": ["Retry-After"]}
    assert told == {
        ("post", "202"): ["Idempotency-Replayed", "Location"],
        ("post", "200"): ["Idempotency-Replayed", "Location", "Preference-Applied"],
        **{
            (method, status): names
            for method in ("get", "post")
            for status, names in refused.items()
        },
    }
    cancelled = document["paths"]["/api/runs/{run}/cancel/"]["post"]["responses"]["200"]
    assert sorted(cancelled["headers"]) == ["Idempotency-Replayed"]


def test_a_status_is_an_enumeration(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    live = ["queued", "running"]
    assert schemas["LiveRun"]["properties"]["status"]["enum"] == live
    ended = ["completed", "cancelled", "failed"]
    assert schemas["RunStatus"]["properties"]["status"]["enum"] == live + ended


def test_a_part_is_one_of_those_that_there_are(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    places = schemas["Part"]["discriminator"]["mapping"]
    assert list(places) == ["text", "reasoning", "tool_call", "tool_result", "source", "data"]
    assert schemas["Part"]["oneOf"] == [{"$ref": place} for place in places.values()]
    assert schemas["SourcePart"]["properties"]["type"] == {"type": "string", "const": "source"}
    assert schemas["SourcePart"]["required"] == ["type", "source", "title"]
    for holder in ("MessageView", "LiveRun", "RunStatus"):
        parts = schemas[holder]["properties"]["parts"]
        assert parts["items"] == {"$ref": "#/components/schemas/Part"}


def test_an_accepted_cursor_matches_the_documented_pattern(document: dict[str, Any]) -> None:
    browser = ApiClient()
    made = browser.begin()
    stream = document["paths"]["/api/conversations/{conversation}/events/"]["get"]
    patterns = [
        parameter["schema"]["pattern"]
        for parameter in stream["parameters"]
        if parameter["name"].lower() in ("last-event-id", "lasteventid")
    ]
    assert len(patterns) == 2
    channel = f"conversation-{made['conversation']}"
    for cursor, good in (("7", True), (f"{channel}:7", True), (f"{channel}:", False), ("x", False)):
        where = f"/api/conversations/{made['conversation']}/events/?lastEventId={cursor}"
        assert browser.client.head(where).status_code == (200 if good else 400)
        assert [bool(re.search(pattern, cursor)) for pattern in patterns] == [good, good]


def test_the_documentation_page_loads_no_foreign_resource() -> None:
    page = Client().get("/api/docs")
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]+)"', page.content.decode())
    assert links
    for link in links:
        assert link.startswith("/static/")
        assert finders.find(link.removeprefix("/static/"))


def test_the_stream_is_in_the_document() -> None:
    made = ApiClient().begin()
    where = reverse("unspool:events", kwargs={"conversation": made["conversation"]})
    assert made["events"].startswith(where)


@pytest.mark.django_db(transaction=True)  # it is asked in a thread whether it can be written
def test_alive_and_ready() -> None:
    assert Client().get("/health/live").json() == {"status": "ok"}
    ready = Client().get("/health/ready")
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "ok", "database": "ok", "redis": "ok"},
    )


@pytest.mark.django_db(transaction=True)
def test_without_redis_it_is_degraded_but_ready(settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    the_log.cache_clear()
    ready = Client().get("/health/ready")
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "degraded", "database": "ok", "redis": "away"},
    )


def test_the_metrics_count_waiting_runs() -> None:
    ApiClient().begin()
    told = Client().get("/metrics").content.decode()
    assert 'unspool_live_runs{status="queued"} 1.0' in told
    assert 'unspool_live_runs{status="running"} 0.0' in told
    assert re.search(r"^unspool_oldest_queued_run_seconds \d", told, re.MULTILINE)
