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
from streams.protocol.parts import (
    AnyPart,
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    part_json,
)
from tests.support.hostile_values import BAD_JSON, NAMES, POSITIONS, mutated, variants

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
MODEL = "smollm2-135m-instruct"
THREAD = "00000000-0000-4000-8000-00000000000a"
UI = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Why?"}]}
TOLD = {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}
CALL = {"id": "c", "type": "function", "function": {"name": "n", "arguments": "{}"}}
AG_UI = {
    "threadId": "t",
    "runId": "r",
    "messages": [
        {"id": "0", "role": "system", "content": "Be kind."},
        {"id": "1", "role": "assistant", "toolCalls": [CALL]},
        {"id": "2", "role": "tool", "content": "x", "toolCallId": "c"},
        {"id": "3", "role": "user", "content": [{"type": "text", "text": "Why?"}]},
    ],
    "tools": [],
    "context": [{"description": "d", "value": "v"}],
    "state": {"a": 1},
    "forwardedProps": {"model": MODEL},
}
LANGGRAPH = {
    "assistant_id": "agent",
    "input": {
        "messages": [
            {"type": "system", "content": "Be kind."},
            {"type": "ai", "id": THREAD, "content": "", "tool_calls": [CALL]},
            ["user", "How?"],
            {"type": "human", "id": "m", "content": [{"type": "text", "text": "Why?"}]},
        ]
    },
    "stream_mode": ["values", "messages-tuple"],
    "multitask_strategy": "enqueue",
    "if_not_exists": "create",
    "on_disconnect": "continue",
    "metadata": {"page": "7"},
    "config": {"configurable": {}},
    "checkpoint": {"checkpoint_id": None},
}
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
    ("/ag-ui", AG_UI),
    ("/ag-ui/connect", AG_UI),
    ("/threads", {"thread_id": THREAD, "if_exists": "do_nothing", "metadata": {}}),
    (f"/threads/{THREAD}/runs/stream", LANGGRAPH),
    (f"/threads/{THREAD}/history", {"limit": 10, "before": None, "checkpoint": {"a": 1}}),
    ("/runs", LANGGRAPH),
]
IDS = [f"{path} {place}" for place, (path, _) in enumerate(BODIES)]
# Addresses with a hostile name in each place.
ADDRESSES = [
    "/api/chat/{}/stream",
    "/api/chat/{}/messages",
    "/api/chat/x/stream?startIndex={}",
    "/v1/models/{}",
    "/v1/responses/{}",
    "/v1/responses/{}?stream=true",
    "/v1/responses/resp_{run}?stream={}",
    "/v1/responses/resp_{run}?stream=true&starting_after={}",
    "/threads/{}",
    "/threads/{}/state",
    "/threads/{}/runs/{run}",
    "/threads/{thread}/runs/{}",
    "/threads/{thread}/runs/{}/stream",
    "/threads/{thread}/runs/{}/join",
    "/threads/{thread}/runs/{run}/stream?stream_mode={}",
    "/threads/{thread}/runs/{run}/stream?cancel_on_disconnect={}",
]
POSTS = [
    "/api/chat/{}/stop",
    "/v1/responses/{}/cancel",
    "/ag-ui/stop/{}",
    "/threads/{}/history",
    "/threads/{}/runs",
    "/threads/{}/runs/{run}/cancel",
    "/threads/{thread}/runs/{}/cancel",
    "/threads/{thread}/runs/{run}/cancel?action={}",
]
PARTS: list[AnyPart] = [
    ReasoningPart(text="Hm."),
    ToolCallPart(call="c", name="find", input={"q": "🙂"}),
    ToolResultPart(call="c", output=[1]),
    SourcePart(source="s", title="S"),
    DataPart(name="d", data={"a": 1}, id="1"),
    TextPart(text="Because 🙂."),
]
HEADERS = ["x-stainless-retry-count", "x-ai-sdk-version", "Last-Event-ID", "Idempotency-Key"]


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
