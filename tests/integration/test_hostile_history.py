"""Hostile histories in other clients' wires: too many messages, doubled ids, other owners' ids."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from streams.access.api_tokens import create_token
from streams.models import Conversation, Message, Run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
MODEL = "smollm2-135m-instruct"
THREAD = "00000000-0000-4000-8000-00000000000a"
SECRET = "the crown jewels"
Texts = list[tuple[str, str]]  # ids and texts of the user's messages


def client_of(name: str) -> Client:
    token = create_token(User.objects.create_user(name), "hostile", scopes="read write")
    return Client(headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def client(settings: Any) -> Client:
    settings.MAX_LIVE_RUNS = settings.MAX_RUNS_PER_MINUTE = settings.MAX_STREAMS = 1000
    return client_of("ada")


def chat(texts: Texts) -> tuple[str, dict[str, Any]]:
    parts = [(id, [{"type": "text", "text": text}]) for id, text in texts]
    messages = [{"id": id, "role": "user", "parts": part} for id, part in parts]
    return "/api/chat", {"id": "c", "messages": messages}


def completions(texts: Texts) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": text} for _, text in texts]
    return "/v1/chat/completions", {"model": MODEL, "messages": messages, "stream": True}


def responses(texts: Texts) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": text} for _, text in texts]
    return "/v1/responses", {"model": MODEL, "input": messages, "background": True}


def ag_ui(texts: Texts) -> tuple[str, dict[str, Any]]:
    messages = [{"id": id, "role": "user", "content": text} for id, text in texts]
    return "/ag-ui", {"threadId": "t", "runId": f"r{len(texts)}", "messages": messages}


def thread(texts: Texts) -> tuple[str, dict[str, Any]]:
    messages = [{"id": id, "type": "human", "content": text} for id, text in texts]
    body = {"assistant_id": "agent", "if_not_exists": "create", "input": {"messages": messages}}
    return f"/threads/{THREAD}/runs/stream", body


WIRES = [chat, completions, responses, ag_ui, thread]
NAMED = [chat, ag_ui, thread]


def post(client: Client, asked: tuple[str, dict[str, Any]]) -> HttpResponse:
    path, body = asked
    raw = json.dumps(body, separators=(",", ":")).encode()
    answer: HttpResponse = client.post(path, raw, content_type="application/json")  # type: ignore[assignment]
    answer.close()
    return answer


@pytest.mark.parametrize("wire", WIRES)
def test_more_messages_than_can_be_stored_at_once_are_refused(client: Client, wire: Any) -> None:
    for count in (1_001, 10_000, 100_000):
        assert post(client, wire([(f"m{n}", "?") for n in range(count)])).status_code in (413, 422)
    assert not Conversation.objects.exists()
    assert post(client, wire([(f"m{n}", "?") for n in range(1_000)])).status_code == 200
    assert Message.objects.count() == 1_000


@pytest.mark.parametrize("wire", [chat, ag_ui])
def test_a_client_may_send_a_longer_thread_that_is_stored(client: Client, wire: Any) -> None:
    texts = [(f"m{n}", "?") for n in range(2_001)]
    for count in (1_000, 2_000, 2_001):
        assert post(client, wire(texts[:count])).status_code == 200, count
    assert [one.client_id for one in Message.objects.order_by("turn")] == [id for id, _ in texts]


@pytest.mark.parametrize("wire", NAMED)
def test_two_messages_of_one_id_are_refused(client: Client, wire: Any) -> None:
    for texts in ([("1", "a"), ("1", "b")], [("1", "a"), ("1", "a")]):
        answer = post(client, wire(texts))
        assert (answer.status_code, b"same id" in answer.content) == (409, True)
    assert post(client, wire([("1", "a")])).status_code == 200
    assert post(client, wire([("1", "a"), ("2", "b"), ("2", "c")])).status_code == 409
    assert post(client, wire([("1", "a"), ("2", "b")])).status_code == 200


def test_ids_of_another_owner_lead_to_nothing(client: Client) -> None:
    made = json.loads(post(client, responses([("", SECRET)])).content)["id"].removeprefix("resp_")
    run = Run.objects.get(pk=made)
    thread_id, question = str(run.conversation_id), str(run.message_id)
    before = list(Message.objects.values_list("id", "content"))
    other = client_of("bob")
    message = {"id": question, "role": "user", "content": SECRET}
    part = {"id": question, "role": "user", "parts": [{"type": "text", "text": SECRET}]}
    lang = {"assistant_id": "agent", "input": {"messages": [message]}}
    asked = [
        ("/ag-ui", {"threadId": thread_id, "runId": made, "messages": [message]}),
        ("/ag-ui/connect", {"threadId": thread_id, "runId": made}),
        (f"/ag-ui/stop/{thread_id}", {}),
        ("/api/chat", {"id": thread_id, "messages": [part], "messageId": question}),
        (f"/api/chat/{thread_id}/stop", {}),
        ("/v1/responses", {"model": MODEL, "input": "?", "previous_response_id": f"resp_{made}"}),
        ("/v1/responses", {"model": MODEL, "input": "?", "conversation": f"conv_{thread_id}"}),
        (f"/v1/responses/resp_{made}/cancel", {}),
        (f"/threads/{thread_id}/runs", lang),
        (f"/threads/{thread_id}/history", {}),
        (f"/threads/{thread_id}/runs/{made}/cancel", {}),
    ]
    statuses = [post(other, one).status_code for one in asked]
    # A client may give its own chat any name. The new chats are another owner's own.
    assert statuses == [200, 200, 204, 200, 204, 404, 404, 404, 404, 404, 404]
    assert Run.objects.get(pk=made).status == Run.Status.QUEUED
    hers = Message.objects.filter(conversation=run.conversation)
    assert list(hers.values_list("id", "content")) == before
