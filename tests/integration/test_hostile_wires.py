"""Hostile bodies, names, positions and headers in other clients' wires: refused in their form.

A further wire adds its bodies, its addresses, and how its refusals look.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from streams.access.api_tokens import create_token

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
MODEL = "smollm2-135m-instruct"
UI = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Why?"}]}
TOLD = {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}
# Valid bodies by their route. Each value in them is replaced by each hostile one in turn.
BODIES: list[tuple[str, dict[str, Any]]] = [
    (
        "/api/chat",
        {
            "id": "c",
            "messages": [UI],
            "trigger": "submit-message",
            "messageId": "m",
            "model": MODEL,
            "metadata": {"page": "7"},
        },
    ),
    (
        "/v1/chat/completions",
        {
            "model": MODEL,
            "messages": [{"role": "system", "content": "Be kind."}, TOLD],
            "stream": True,
            "stream_options": {"include_usage": True},
            "n": 1,
            "response_format": {"type": "text"},
        },
    ),
    (
        "/v1/responses",
        {
            "model": MODEL,
            "input": [TOLD],
            "instructions": "Be kind.",
            "background": True,
            "store": True,
            "metadata": {"page": "7"},
        },
    ),
    (
        "/v1/responses",
        {
            "model": MODEL,
            "input": "Why?",
            "background": True,
            "conversation": {"id": "conv_x"},
            "previous_response_id": "resp_x",
        },
    ),
]
# Addresses with a hostile name in each place.
ADDRESSES = [
    "/api/chat/{}/stream",
    "/api/chat/{}/messages",
    "/api/chat/x/stream?startIndex={}",
    "/v1/models/{}",
    "/v1/responses/{}",
    "/v1/responses/{}?stream=true",
    "/v1/responses/{run}?stream={}",
    "/v1/responses/{run}?stream=true&starting_after={}",
]
POSTS = ["/api/chat/{}/stop", "/v1/responses/{}/cancel"]
HEADERS = ["x-stainless-retry-count", "x-ai-sdk-version", "Last-Event-ID", "Idempotency-Key"]
SCALARS: list[Any] = [None, True, -1, 0, 2**53, 2**63, 1e308, "", "\0", "\ud83d", "x" * 20_000]
NESTED: list[Any] = [[], {}, [[]], [None], {"": ""}, {"id": {"id": []}}, ["x"] * 2_000]
NAMES = [
    "x",
    "..",
    "%00",
    "\ud83d",
    "🙂" * 300,
    "-1",
    "9" * 400,
    "resp_resp_",
    "a b",
    "'\"<",
    "1.5",
]
BAD_JSON = [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 50_000, b'{"model": NaN}']


def openai_form(answer: HttpResponse) -> bool:
    error = json.loads(answer.content)["error"]
    return set(error) == {"message", "type", "param", "code"} and bool(error["message"])


def text_form(answer: HttpResponse) -> bool:
    return answer["Content-Type"].startswith("text/plain") and bool(answer.content.strip())


FORMS = {"/v1/": openai_form, "/api/chat": text_form}


def check(path: str, answer: HttpResponse) -> None:
    """Whether it is a success, or a clear refusal in the wire's form."""
    assert answer.status_code < 500, path
    if answer.status_code >= 400:
        form = next(form for prefix, form in FORMS.items() if path.startswith(prefix))
        assert form(answer), (path, answer.status_code, answer.content[:300])
    answer.close()


@pytest.fixture
def client(settings: Any) -> Client:
    settings.MAX_LIVE_RUNS = settings.MAX_RUNS_PER_MINUTE = settings.MAX_STREAMS = 100_000
    settings.MAX_MESSAGE_CHARS = 10_000
    token = create_token(User.objects.create_user("ada"), "hostile", scopes="read write")
    return Client(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=False)


def variants(value: Any) -> Iterator[Any]:
    """The value with one hostile value in each place in turn, and with each place left out."""
    yield from (*SCALARS, *NESTED)
    if isinstance(value, dict):
        for name in value:
            yield {other: value[other] for other in value if other != name}
            for changed in variants(value[name]):
                yield {**value, name: changed}
    if isinstance(value, list):
        for place in range(len(value)):
            for changed in variants(value[place]):
                yield [*value[:place], changed, *value[place + 1 :]]


@pytest.mark.parametrize(("path", "body"), BODIES, ids=lambda one: str(one)[:40])
def test_a_hostile_body_is_refused_or_understood(
    client: Client, path: str, body: dict[str, Any]
) -> None:
    for changed in variants(body):
        raw = json.dumps(changed).encode()
        check(path, client.post(path, raw, content_type="application/json"))
    for raw in BAD_JSON:
        check(path, client.post(path, raw, content_type="application/json"))
    for kind in ("text/xml", "multipart/form-data; boundary=x", "application/json; charset=utf-7"):
        check(path, client.post(path, json.dumps(body).encode(), content_type=kind))


def test_hostile_names_and_positions_are_refused_or_not_found(client: Client) -> None:
    body = {"model": MODEL, "input": "Why?", "background": True}
    made = client.post("/v1/responses", body, content_type="application/json").json()["id"]
    for name in NAMES:
        sent = quote(name, safe="%", errors="surrogatepass")
        for address in ADDRESSES:
            where = address.format(sent, run=made)
            check(where, client.get(where))
        for address in POSTS:
            check(address, client.post(address.format(sent), b"", content_type="application/json"))


@pytest.mark.parametrize(("path", "body"), BODIES, ids=lambda one: str(one)[:40])
def test_hostile_headers_change_nothing(client: Client, path: str, body: dict[str, Any]) -> None:
    for header in HEADERS:
        for value in ("", "-1", "9" * 5_000, "x" * 5_000, "\xb2", "\xff", "1,2"):
            answer = client.post(
                path, body, content_type="application/json", headers={header: value}
            )
            check(path, answer)
