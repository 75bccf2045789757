"""Paths, methods and page cursors that the API does not have."""

import pytest
from django.test import Client

from tests.integration.support.api_client import ApiClient, conversation
from tests.integration.support.problems import refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
BEGIN = "/api/conversations/"


@pytest.fixture
def browser() -> ApiClient:
    return ApiClient()


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
