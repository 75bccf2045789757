"""What the API says to requests that are wrong, odd or hostile: a problem, and never a 5xx."""

import logging
from importlib import import_module
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import InterfaceError, OperationalError
from django.test import Client

from streams.api import events as events_api
from streams.chat import conversations
from tests.integration.support.api_client import ApiClient, conversation, run
from tests.integration.support.problems import refused
from tests.support.sse_blocks import Splitter

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
BEGIN = "/api/conversations/"
VIEWS = import_module("streams.api.conversations")  # `streams.api` has a router of that name


@pytest.fixture
def browser() -> ApiClient:
    return ApiClient()


def test_messages_before_an_unknown_message_are_not_found(browser: ApiClient) -> None:
    messages = f"{conversation(browser.begin()['conversation'])}messages/"
    for wrong in ("x", "", "null"):
        answer = browser.get(f"{messages}?before={wrong}")
        assert refused(answer) == (422, "invalid_request")
    other = browser.begin()["message"]
    assert refused(browser.get(f"{messages}?before={other}")) == (404, "not_found")


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
