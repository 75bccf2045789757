"""Hostile bodies, names, positions and headers in other clients' wires: refused in their form.

A further wire adds its bodies, its addresses, and how its refusals look.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextvars import copy_context
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams.access.api_tokens import create_token
from streams.models import Message, Run
from streams.protocol.parts import part_json
from tests.integration.support.dialect_requests import (
    ADDRESSES,
    BODIES,
    HEADERS,
    IDS,
    LANGGRAPH,
    PARTS,
    POSTS,
    THREAD,
)
from tests.support.hostile_values import BAD_JSON, NAMES, POSITIONS, mutated, variants

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def openai_form(answer: HttpResponse) -> bool:
    error = json.loads(answer.content)["error"]
    return set(error) == {"message", "type", "param", "code"} and bool(error["message"])


def text_form(answer: HttpResponse) -> bool:
    return answer["Content-Type"].startswith("text/plain") and bool(answer.content.strip())


def detail_form(answer: HttpResponse) -> bool:
    body = json.loads(answer.content)
    return set(body) - {"errors"} == {"detail", "code"} and bool(body["detail"])


FORMS = {
    "/v1/": openai_form,
    "/api/chat": text_form,
    "/ag-ui": text_form,
    "/threads": detail_form,
    "/runs": detail_form,
}


def check(path: str, answer: Any) -> None:
    """Whether it is a success, or a clear refusal in the wire's form."""
    assert answer.status_code < 500, path
    if answer.status_code >= 400:
        form = next(form for prefix, form in FORMS.items() if path.startswith(prefix))
        assert form(answer), (path, answer.status_code, answer.content[:300])
    answer.close()


def check_beginning(path: str, answer: Any) -> None:
    """As `check`; of a stream, what is there at once has to be readable, too."""

    async def first(content: AsyncIterator[bytes]) -> bytes:
        return await anext(content, b"")

    if answer.streaming:  # in a context of its own, otherwise the request's id would stay here
        context: Any = copy_context()
        read = partial(context.run, async_to_sync(first))
        for frame in read(answer.streaming_content).split(b"\n\n"):
            data = [line[6:] for line in frame.split(b"\n") if line.startswith(b"data: ")]
            assert all(json.loads(one) is not None for one in data if one != b"[DONE]")
    check(path, answer)


@pytest.fixture
def client(settings: Any) -> Client:
    settings.MAX_LIVE_RUNS = settings.MAX_RUNS_PER_MINUTE = settings.MAX_STREAMS = 100_000
    settings.MAX_MESSAGE_CHARS = 10_000
    token = create_token(User.objects.create_user("ada"), "hostile", scopes="read write")
    return Client(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=False)


def post(client: Client, path: str, body: Any, **headers: str) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, raw, content_type="application/json", headers=headers)  # type: ignore[return-value]


@pytest.mark.parametrize(("path", "body"), BODIES, ids=IDS)
def test_a_hostile_body_is_refused_or_understood(
    client: Client, path: str, body: dict[str, Any]
) -> None:
    for changed in variants(body):
        check(path, post(client, path, changed))
    for raw in BAD_JSON:
        check(path, post(client, path, raw))
    for kind in ("text/xml", "multipart/form-data; boundary=x", "application/json; charset=utf-7"):
        check(path, client.post(path, json.dumps(body).encode(), content_type=kind))


@pytest.mark.parametrize(("path", "field"), [("/api/chat", "id"), ("/ag-ui", "threadId")])
def test_the_limits_of_a_name_are_told_in_characters(client: Client, path: str, field: str) -> None:
    for name, limit in ("a" * 300, "at most 200 characters"), ("", "at least 1 character"):
        refused = post(client, path, dict(BODIES)[path] | {field: name})
        assert refused.status_code == 422
        assert f"body.{field}: String should have {limit}" in refused.content.decode()


@pytest.mark.parametrize(("path", "body"), BODIES, ids=IDS)
def test_a_generated_body_is_refused_or_understood(
    client: Client, path: str, body: dict[str, Any]
) -> None:
    @settings(suppress_health_check=list(HealthCheck))
    @given(changed=mutated([body]))
    def send(changed: Any) -> None:
        check_beginning(path, post(client, path, changed))

    send()


def test_hostile_names_and_positions_are_refused_or_not_found(client: Client) -> None:
    made = json.loads(post(client, f"/threads/{THREAD}/runs", LANGGRAPH).content)
    for name in NAMES + POSITIONS:
        sent = quote(name, safe="%", errors="surrogatepass")
        for address in ADDRESSES:
            where = address.format(sent, run=made["run_id"], thread=THREAD)
            check(where, client.get(where))
        for address in POSTS:
            where = address.format(sent, run=made["run_id"], thread=THREAD)
            check(where, post(client, where, LANGGRAPH))


def test_hostile_headers_change_nothing(client: Client) -> None:
    for path, body in dict(BODIES).items():
        for header in HEADERS:
            for value in POSITIONS[::3]:
                check(path, post(client, path, body, **{header: value}))


def test_a_last_event_id_that_is_no_position_is_refused(client: Client) -> None:
    made = json.loads(post(client, f"/threads/{THREAD}/runs", LANGGRAPH).content)
    path = f"/threads/{THREAD}/runs/{made['run_id']}/stream"
    statuses = {}
    for value in POSITIONS:
        answer = client.get(path, headers={"Last-Event-ID": value})
        statuses[value] = answer.status_code
        check(path, answer)
    taken = {"", "-1", "0", *(str(2**n) for n in (24, 35, 52))}
    assert {value for value, status in statuses.items() if status == 200} == taken


@pytest.fixture
def answered(client: Client) -> Run:
    """A run whose reply has a part of each kind."""
    made = json.loads(post(client, f"/threads/{THREAD}/runs", LANGGRAPH).content)
    run = Run.objects.select_related("message").get(pk=made["run_id"])
    reply = Message.objects.create(
        conversation=run.conversation,
        role="assistant",
        content="Because.",
        parts=[part_json(part) for part in PARTS],
        turn=run.message.turn,
        reply_to=run.message,
    )
    Run.objects.filter(pk=run.pk).update(
        status="completed", reply=reply, attempt=1, finish_reason="stop", ended_at=timezone.now()
    )
    return run


def test_a_generated_position_gets_a_stream_or_a_refusal(client: Client, answered: Run) -> None:
    thread = f"/threads/{THREAD}/runs/{answered.pk}/stream"
    response = f"/v1/responses/resp_{answered.pk}?stream=true&starting_after="
    places = st.integers(-2, len(PARTS) + 2) | st.just(2**11 - 1)
    near = st.builds(
        lambda attempt, place, offset: (attempt << 35) + (place << 24) + offset,
        *(st.integers(0, 17), places, st.integers(-5, 40) | st.integers(0, 2**24)),
    )

    @settings(suppress_health_check=list(HealthCheck))
    @example(position=(15 << 35) + (20 << 24))  # a part too many of the last edition
    @given(position=near | st.integers() | st.sampled_from([2**53 - 1, 2**53, 2**63, -(2**63)]))
    def send(position: int) -> None:
        answer = client.get(thread, headers={"Last-Event-ID": str(position)})
        assert answer.status_code == (200 if -1 <= position < 2**53 else 400)
        check_beginning(thread, answer)
        check_beginning(response, client.get(f"{response}{position}"))

    send()
