"""`POST /api/chat` and the routes below it: asking once, the history, limits, names, access."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from streams.access.visitors import adopt_conversations
from streams.chat.finish import cancel
from streams.chat.personal_data import export_rows
from streams.models import Conversation, Run
from streams.observability import metrics
from streams.service_models import IdempotencyRecord
from tests.integration.support.ai_sdk_page import JSON, Page, reply, user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def page() -> Iterator[Page]:
    one = Page()
    yield one
    for response in one.responses:
        response.close()


def test_the_same_request_gets_the_same_run(page: Page) -> None:
    first = page.run(user("1"))
    assert page.run(user("1")) == first
    assert Run.objects.count() == 1
    IdempotencyRecord.objects.all().delete()  # expired
    assert page.run(user("1")) == first


def test_a_message_under_the_same_name_but_with_other_text_is_refused(page: Page) -> None:
    page.run(user("1"))
    for also in ({}, {"messageId": "1"}):
        refused = page.post(user("1", "Other"), **also)
        assert refused.status_code == 409
        assert b"Idempotency-Key" not in refused.content  # the client sent none
    assert Run.objects.count() == 1


def test_a_new_message_interrupts_the_reply_that_is_written(page: Page) -> None:
    first = page.run(user("1"))
    second = page.run(user("1"), reply(first, "half"), user("2", "And?"))
    assert Run.objects.get(pk=first).status == Run.Status.CANCELLED
    assert Run.objects.get(pk=second).status == Run.Status.QUEUED
    assert page.stored() == [("user", "Hello"), ("user", "And?")]


def test_each_wish_for_another_reply_gets_one(page: Page) -> None:
    again = {"trigger": "regenerate-message"}
    runs = [page.run(user("1"))]
    runs.append(page.run(user("1"), **again))
    assert page.run(user("1"), **again) == runs[1]  # the request was repeated
    cancel(Run.objects.get(pk=runs[1]).id)
    runs.append(page.run(user("1"), **again))
    runs.append(page.run(user("1"), messageId=runs[2], **again))
    assert page.run(user("1"), messageId=runs[2], **again) == runs[3]
    runs.append(page.run(user("1"), messageId="1"))  # the message was edited, but not changed
    assert len(set(runs)) == 5
    assert page.stored() == [("user", "Hello")]


@pytest.mark.parametrize(
    "message",
    [
        {"id": "1", "role": "user", "parts": [{"type": "file", "url": "data:,a"}]},
        {"id": "1", "role": "user", "parts": []},
        user("1", "  "),
        user("1", "a" * 200_001),
        reply("1"),
        user(""),
        user("1" * 201),
        {"id": "1", "role": "tool", "parts": []},
    ],
)
def test_what_cannot_be_asked_is_unprocessable(page: Page, message: dict[str, Any]) -> None:
    assert page.post(message).status_code == 422
    assert not Conversation.objects.exists()


def test_a_name_that_is_no_text_is_cleaned(page: Page) -> None:
    page.run(user("\0\ud83d", "a\0"), chat="\0")
    assert page.stored("\ufffd") == [("user", "a\ufffd")]
    assert page.client.get("/api/chat/%00/messages").status_code == 200


def test_the_model_of_a_chat_is_one_that_is_offered_and_stays(page: Page, settings: Any) -> None:
    settings.LLM_MODELS = [settings.LLM_MODEL, "other"]
    assert page.post(user("1"), model="gone").status_code == 422
    page.run(user("1"), model="other")
    assert Conversation.objects.get().model == "other"
    assert page.post(user("1"), user("2"), model=settings.LLM_MODEL).status_code == 409


def test_runs_and_streams_have_the_limits_of_the_other_wires(page: Page, settings: Any) -> None:
    settings.MAX_STREAMS = 0
    assert page.post(user("1")).status_code == 429
    assert not Run.objects.exists()
    settings.MAX_STREAMS = 1
    page.run(user("1"))
    assert page.post(user("1")).status_code == 429
    assert metrics.DIALECT_STREAMS.labels("ai-sdk")._value.get() == 0  # none is read yet
    page.responses[1].close()
    settings.MAX_LIVE_RUNS = 1
    assert page.post(user("1"), chat="c2").status_code == 429
    assert Run.objects.count() == 1


def test_a_session_needs_its_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.get("/")
    page = Page(client)
    refused = page.post(user("1"))
    assert (refused.status_code, Run.objects.count()) == (403, 0)
    client.defaults["HTTP_X_CSRFTOKEN"] = client.cookies["csrftoken"].value
    page.run(user("1"))
    for response in page.responses:
        response.close()


def test_a_body_may_come_as_plain_text_and_without_the_chats_name(page: Page) -> None:
    """As `WorkflowChatTransport` sends it by default."""
    body = '{"messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "?"}]}]}'
    response = page.client.post("/api/chat", body, content_type="text/plain;charset=UTF-8")
    page.responses.append(response)
    assert response.status_code == 200
    assert page.stored("m") == [("user", "?")]
    refused = page.client.post("/api/chat", body, content_type="application/x-www-form-urlencoded")
    assert refused.status_code == 415


def test_another_owner_sees_nothing(page: Page) -> None:
    run = page.run(user("1"))
    conversation = Conversation.objects.get().id
    other = Page()
    for name in ("c1", run, str(conversation)):
        assert other.client.get(f"/api/chat/{name}/stream").status_code == 204
        assert other.client.get(f"/api/chat/{name}/messages").status_code == 404
        assert other.client.post(f"/api/chat/{name}/stop", content_type=JSON).status_code == 404
    other.run(user("1"))
    assert Conversation.objects.filter(client_id="c1").count() == 2
    other.responses[0].close()


def test_the_name_of_a_deleted_chat_can_be_used_again(page: Page) -> None:
    first = page.run(user("1"))
    page.client.delete(f"/api/conversations/{Conversation.objects.get().id}/")
    assert page.client.get("/api/chat/c1/stream").status_code == 204
    second = page.run(user("1"))
    assert second != first
    assert page.stored() == [("user", "Hello")]


def test_a_sign_in_moves_the_names(page: Page) -> None:
    page.run(user("1"))
    page.run(user("1"), chat="c2")
    ada = User.objects.create_user("ada")
    Conversation.objects.create(
        owner=f"user:{ada.pk}", title="t", model="m", dialect="ai-sdk", client_id="c2"
    )
    visitor = Conversation.objects.get(client_id="c1").owner
    adopt_conversations(visitor=visitor, user=f"user:{ada.pk}")
    owned = Conversation.objects.filter(owner=f"user:{ada.pk}")
    assert sorted(str(name) for name in owned.values_list("client_id", flat=True)) == [
        "None",
        "c1",
        "c2",
    ]


def test_a_hidden_conversation_is_in_no_list_but_in_export_and_limits(
    page: Page, settings: Any
) -> None:
    page.run(user("1"))
    Conversation.objects.update(hidden=True)
    assert page.client.get("/api/conversations/").json()["items"] == []
    rows = list(export_rows(Conversation.objects.get().owner))
    assert [row["hidden"] for row in rows if row["kind"] == "conversation"] == [True]
    settings.MAX_LIVE_RUNS = 1
    assert page.post(user("1"), chat="c2").status_code == 429


def test_a_reply_is_offered_until_its_log_expires(page: Page, settings: Any) -> None:
    run = page.run(user("1"))
    cancel(Run.objects.get(pk=run).id)
    response = page.client.get("/api/chat/c1/stream")
    assert response.status_code == 200
    response.close()
    settings.LOG_TTL = 0
    assert page.client.get("/api/chat/c1/stream").status_code == 204
