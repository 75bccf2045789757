"""What the API says to requests that are wrong, odd or hostile: a problem, and never a 5xx."""

import json
import logging
from importlib import import_module
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import InterfaceError, OperationalError
from django.http import HttpResponse
from django.test import Client

from streams.api import events as events_api
from streams.chat import conversations
from streams.models import Conversation
from tests.integration.support.api_client import ApiClient, conversation, run
from tests.support.sse_blocks import Splitter

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
BEGIN = "/api/conversations/"
VIEWS = import_module("streams.api.conversations")  # `streams.api` has a router of that name


@pytest.fixture
def browser() -> ApiClient:
    return ApiClient()


def refused(answer: HttpResponse) -> tuple[int, str]:
    """A problem as RFC 9457 has it, with our code."""
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "code", "detail"} <= set(problem)
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["code"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"not json",
        b'{"message": "a}',
        b'{"message": "\xff\xfe"}',
        b"[" * 1000,
        b'{"a":' * 200,
        b"\x00",
        '{"message": "a"}'.encode("utf-16"),
    ],
)
def test_a_body_that_is_not_json_is_refused(browser: ApiClient, body: bytes) -> None:
    answer = browser.post(BEGIN, body)
    assert refused(answer) == (400, "bad_json")
    assert answer.json()["detail"] == "The body cannot be read as JSON in UTF-8."


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000])
def test_a_body_that_cannot_be_valid_is_refused_before_it_is_parsed(
    browser: ApiClient, body: bytes
) -> None:
    answer = browser.post(BEGIN, body)
    assert refused(answer) == (422, "invalid_request")
    assert "outside of its strings" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        None,
        1,
        {"message": ""},
        {"message": " \n\t"},
        {"message": None},
        {"message": 1},
        {"message": ["?"]},
        {"message": {"a": 1}},
        {"message": 10**400},
        {"message": float("inf")},
        {"message": "?", "title": "x" * 201},
        {"message": "?", "model": 7},
        {"message": "?", "model": ""},
        {"message": "?", "system": ["a"]},
        {"message": "?", "when_bussy": "queue"},
        {"message": "?", "\ud800": "\udfff"},
    ],
)
def test_a_field_of_the_wrong_type_is_named(browser: ApiClient, body: Any) -> None:
    answer = browser.post(BEGIN, json.dumps(body).encode())
    assert refused(answer) == (422, "invalid_request")
    errors = answer.json()["errors"]
    assert errors
    assert all(set(error) == {"field", "code", "detail"} for error in errors)
    assert not Conversation.objects.exists()


def test_a_field_error_names_its_location(browser: ApiClient) -> None:
    answer = browser.post(BEGIN, {"message": "?", "title": "x" * 201, "model": 7})
    assert [error["field"] for error in answer.json()["errors"]] == ["body.model", "body.title"]


def test_a_message_that_is_too_long_has_its_own_code(browser: ApiClient, settings: Any) -> None:
    settings.MAX_MESSAGE_CHARS = 10
    assert browser.post(BEGIN, {"message": "é" * 10}).status_code == 202
    for body in ({"message": "é" * 11}, {"message": "?", "system": "x" * 11}):
        assert refused(browser.post(BEGIN, body)) == (422, "message_too_long")


def test_a_body_larger_than_any_request_needs_is_refused(browser: ApiClient, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    answer = browser.post(BEGIN, {"message": "x" * 200})
    assert refused(answer) == (413, "body_too_large")


def test_a_body_without_a_content_length_is_refused(browser: ApiClient) -> None:
    answer = browser.client.generic(
        "POST", BEGIN, headers=browser.csrf | {"Transfer-Encoding": "chunked"}
    )
    assert refused(answer) == (411, "length_required")


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "é"]
)
def test_a_body_with_another_content_type_is_refused(browser: ApiClient, kind: str) -> None:
    answer = browser.client.generic(
        "POST", BEGIN, b'{"message": "?"}', content_type=kind, headers=browser.csrf
    )
    assert refused(answer) == (415, "unsupported_media_type")


def test_json_with_a_charset_parameter_is_accepted(browser: ApiClient) -> None:
    for kind in ("application/json; charset=utf-8", "Application/JSON;charset=none"):
        answer = browser.client.generic(
            "POST", BEGIN, b'{"message": "?"}', content_type=kind, headers=browser.csrf
        )
        assert answer.status_code == 202


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/conversations/", "GET, POST"),
        ("/api/models/", "GET"),
        ("/api/openapi.json", "GET, HEAD"),
        (conversation("7ab2b8a6-5a4a-4d4e-9d4e-1c1f4d3a2b1c"), "DELETE, GET, PATCH"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "TRACE", "OPTIONS", "SING"])
def test_an_unsupported_method_is_refused_with_the_allowed_ones(
    path: str, allowed: str, method: str
) -> None:
    answer = Client(enforce_csrf_checks=True).generic(method, path)
    assert refused(answer) == (405, "method_not_allowed")
    assert answer["Allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/api/",
        "/api/nothing",
        "/api/conversations",
        "/api/conversations/none/",
        "/api/conversations/7AB2B8A6-5A4A-4D4E-9D4E-1C1F4D3A2B1C/more/",
        "/api/runs/",
        "/api/runs/%00/",
        "/api/runs/%ff%fe/cancel/",
        "/api/../api/x",
    ],
)
def test_an_unknown_path_is_a_problem_for_every_method(path: str) -> None:
    for method in ("GET", "POST", "DELETE", "SING"):
        answer = Client(enforce_csrf_checks=True).generic(method, path)
        assert refused(answer) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "slash"),
    [
        ("/api/conversations", True),
        ("/api/runs/7ab2b8a6-5a4a-4d4e-9d4e-1c1f4d3a2b1c/cancel", True),
        ("/api/conversations/7ab2b8a6-5a4a-4d4e-9d4e-1c1f4d3a2b1c/events", True),
        ("/api/openapi.json/", False),
        ("/api/nothing", False),
        ("/api/runs/none", False),
        ("/api/", False),
    ],
)
def test_a_path_without_its_final_slash_says_so(path: str, slash: bool) -> None:
    answer = Client(enforce_csrf_checks=True).post(path)
    assert refused(answer) == (404, "not_found")
    assert answer.json()["detail"] == (
        "There is nothing here: the paths of this API end with a slash."
        if slash
        else "There is nothing here, or it is not yours."
    )


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/none", "/v1/models/"])
def test_an_unknown_path_of_openais_wires_is_refused_in_their_form(path: str) -> None:
    answer = Client().get(path)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (404, "not_found_error")
    assert error["message"] == "There is nothing here, or it is not yours."


def test_until_accepts_only_idle(browser: ApiClient) -> None:
    events = f"{conversation(browser.begin()['conversation'])}events/"
    for wrong in ("foo", "IDLE", "idle%20", "%00", "idle&until=never"):
        assert refused(browser.get(f"{events}?until={wrong}")) == (400, "bad_request")
    for right in ("", "idle"):
        assert browser.client.head(f"{events}?until={right}").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "cursor=x",
        "cursor=0-" + "0" * 32 + "%0A",
        "cursor=" + "9" * 17 + "-" + "0" * 32,
        "cursor=%00",
        "cursor=" + "A" * 200,
        "cursor=%F0%9F%98%80",
        "search=" + "a" * 201,
    ],
)
def test_an_invalid_page_cursor_is_refused(browser: ApiClient, query: str) -> None:
    assert refused(browser.get(f"{BEGIN}?{query}")) == (422, "invalid_request")


@pytest.mark.parametrize("query", ["search=%00%ff", "search=%25_%27", "cursor=", "x=1&x=2"])
def test_an_odd_search_finds_nothing(browser: ApiClient, query: str) -> None:
    assert browser.get(f"{BEGIN}?{query}").json() == {"items": [], "next": None}


@pytest.mark.parametrize("place", ["0-" + "0" * 32, "9" * 16 + "-" + "f" * 32])
def test_any_well_formed_page_cursor_is_accepted(browser: ApiClient, place: str) -> None:
    assert browser.get(f"{BEGIN}?cursor={place}").json() == {"items": [], "next": None}


def test_a_thousand_parameters_are_refused(browser: ApiClient) -> None:
    assert refused(browser.get(f"{BEGIN}?{'a=1&' * 1001}")) == (400, "bad_request")


def test_messages_before_an_unknown_message_are_not_found(browser: ApiClient) -> None:
    messages = f"{conversation(browser.begin()['conversation'])}messages/"
    for wrong in ("x", "", "null"):
        answer = browser.get(f"{messages}?before={wrong}")
        assert refused(answer) == (422, "invalid_request")
    other = browser.begin()["message"]
    assert refused(browser.get(f"{messages}?before={other}")) == (404, "not_found")


def test_a_title_must_be_one_line_and_not_blank(browser: ApiClient) -> None:
    url = conversation(browser.begin()["conversation"])
    for body in ({}, {"title": ""}, {"title": " "}, {"title": "x" * 201}, {"title": None}):
        assert refused(browser.send("PATCH", url, body)) == (422, "invalid_request")
    assert browser.send("PATCH", url, {"title": "x" * 200}).status_code == 200


def test_a_head_request_gets_the_headers_of_get(browser: ApiClient) -> None:
    got = browser.get(BEGIN)
    head = browser.client.head(BEGIN)
    own = {"X-Request-ID"}  # each request has one of its own
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in got.headers.items() if k not in own
    }
    assert head.status_code == 200


def test_while_the_database_is_down_responses_have_retry_after(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("connection refused: secret-host")

    monkeypatch.setattr(VIEWS, "list_newest", away)
    answer = browser.get(BEGIN)
    assert refused(answer) == (503, "unavailable")
    assert answer["Retry-After"] == "5"
    assert b"secret-host" not in answer.content


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OperationalError("away"), 503),
        (InterfaceError("closed"), 503),
        (RuntimeError("broken"), 500),
    ],
)
def test_a_stream_that_cannot_start_has_retry_after(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    events = f"{conversation(browser.begin()['conversation'])}events/"
    monkeypatch.setattr(events_api, "caller_of", Mock(side_effect=error))
    answer = browser.get(events)
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")
    (beat,) = Splitter().feed(answer.content)
    assert (beat.id, beat.event, beat.payload) == (None, "heartbeat", {"head": None})
    assert beat.retry is not None
    assert answer["Content-Length"] == str(len(answer.content))  # Pushpin must not hold it
    assert browser.client.head(events).status_code == status


def test_an_unexpected_error_is_logged_and_reveals_nothing(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the inner truth")

    monkeypatch.setattr(VIEWS, "list_newest", broken)
    with caplog.at_level(logging.ERROR):
        answer = browser.get(BEGIN)
    assert refused(answer) == (500, "internal")
    assert b"inner truth" not in answer.content
    assert "the inner truth" in caplog.text


def test_a_wrong_host_is_a_problem_at_the_api_and_a_page_elsewhere() -> None:
    stranger = Client(headers={"Host": "evil.example"})
    assert refused(stranger.get("/api/models/")) == (400, "bad_request")
    assert stranger.get("/v1/models").json()["error"]["code"] == "bad_request"
    assert stranger.get("/api/chat/c1/stream").content == b"The request cannot be read."
    page = stranger.get("/")
    assert (page.status_code, page["Content-Type"]) == (400, "text/html; charset=utf-8")


def test_a_body_with_very_many_fields_is_refused(browser: ApiClient) -> None:
    answer = browser.post(BEGIN, {str(n): n for n in range(100_000)})
    assert refused(answer) == (422, "invalid_request")
    assert len(answer.content) < 1000


def deleted_meanwhile(monkeypatch: pytest.MonkeyPatch, views: str, lookup: str) -> None:
    """Delete each conversation after its lookup has found it."""
    module = import_module(f"streams.api.{views}")
    find = getattr(module, lookup)

    def found(*which: Any) -> Any:
        it = find(*which)
        conversations.delete(getattr(it, "conversation", it))
        return it

    monkeypatch.setattr(module, lookup, found)


def test_a_conversation_deleted_after_its_lookup_is_not_found(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [browser.begin() for _ in range(3)]
    ids = [conversation(one["conversation"]) for one in made]
    with monkeypatch.context() as patch:
        deleted_meanwhile(patch, "conversations", "readable_conversation")
        assert refused(browser.get(ids[0])) == (404, "not_found")
        assert refused(browser.post(f"{ids[1]}messages/", {"message": "?"})) == (404, "not_found")
    deleted_meanwhile(monkeypatch, "runs", "readable_run")
    assert refused(browser.get(run(made[2]["run"]))) == (404, "not_found")


def test_a_line_that_is_too_long_is_reported_in_characters(browser: ApiClient) -> None:
    answer = browser.post(BEGIN, {"message": "?", "title": "x" * 201})
    assert answer.json()["detail"] == "body.title: String should have at most 200 characters"
