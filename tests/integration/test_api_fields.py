"""Bodies that the API refuses, each with what is wrong in it."""

import json
from typing import Any

import pytest

from streams.models import Conversation
from tests.integration.support.api_client import ApiClient, conversation
from tests.integration.support.problems import refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
BEGIN = "/api/conversations/"


@pytest.fixture
def browser() -> ApiClient:
    return ApiClient()


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


def test_a_title_must_be_one_line_and_not_blank(browser: ApiClient) -> None:
    url = conversation(browser.begin()["conversation"])
    for body in ({}, {"title": ""}, {"title": " "}, {"title": "x" * 201}, {"title": None}):
        assert refused(browser.send("PATCH", url, body)) == (422, "invalid_request")
    assert browser.send("PATCH", url, {"title": "x" * 200}).status_code == 200


def test_a_body_with_very_many_fields_is_refused(browser: ApiClient) -> None:
    answer = browser.post(BEGIN, {str(n): n for n in range(100_000)})
    assert refused(answer) == (422, "invalid_request")
    assert len(answer.content) < 1000


def test_a_line_that_is_too_long_is_reported_in_characters(browser: ApiClient) -> None:
    answer = browser.post(BEGIN, {"message": "?", "title": "x" * 201})
    assert answer.json()["detail"] == "body.title: String should have at most 200 characters"
