"""The messages that a page of the AI SDK sends with its new one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streams.chat.personal_data import export_rows
from streams.models import Conversation, Message, Run
from streams.service_models import IdempotencyRecord
from tests.integration.support.ai_sdk_page import Page, reply, user
from workers.prompt.history import history

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def page() -> Iterator[Page]:
    one = Page()
    yield one
    for response in one.responses:
        response.close()


@pytest.mark.parametrize("text", ["Hello", "Other"])
@pytest.mark.parametrize("trigger", ["submit-message", "regenerate-message"])
def test_an_old_message_alone_is_not_stored_twice(page: Page, text: str, trigger: str) -> None:
    """However long the chat is since, the message's name is taken."""
    for turn in range(1, 5):
        page.run(user(str(turn)))
    stored = page.stored()
    IdempotencyRecord.objects.all().delete()  # expired
    assert page.post(user("1", text), trigger=trigger).status_code == 409
    new = [user("4"), user("1", text), user("5")]
    assert page.post(*new, trigger=trigger).status_code == 409
    row = Message.objects.earliest("created_at")
    assert page.post(user(str(row.pk), text), trigger=trigger).status_code == 409
    assert page.stored() == stored


def test_a_new_chat_takes_the_earlier_messages_over(page: Page) -> None:
    system = {**reply("0", "Be brief."), "role": "system"}
    run = page.run(system, user("1", "One?"), reply("r", "One."), user("2", "Two?"))
    prompt = [(one.role, one.content) for one in history(Run.objects.get(pk=run))]
    assert prompt == [
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "One."),
        ("user", "Two?"),
    ]
    conversation = Conversation.objects.get()
    shown = page.client.get(f"/api/conversations/{conversation.id}/").json()["messages"]
    assert [one["content"] for one in shown] == [text for _, text in prompt]
    listed = page.client.get("/api/chat/c1/messages").json()
    assert [one["id"] for one in listed] == ["0", "1", "r", "2"]


@pytest.mark.parametrize(
    "messages",
    [
        [user("1", "Changed"), user("3")],
        [user("0"), user("1"), user("3")],
        [user("1"), user("3")],  # lacks the second
        [user("2", "Two"), user("1"), user("3")],
        [user("9"), user("8"), user("3")],
        [user("1"), user("2", "Two"), user("2", "Two")],
        [user("1")],  # has been followed by another
    ],
)
def test_what_contradicts_the_stored_history_is_refused(
    page: Page, messages: list[dict[str, Any]]
) -> None:
    page.run(user("1"))
    page.run(user("1"), user("2", "Two"))
    IdempotencyRecord.objects.all().delete()
    refused = page.post(*messages)
    assert refused.status_code == 409
    assert refused.headers["Content-Type"].startswith("text/plain")
    assert page.stored() == [("user", "Hello"), ("user", "Two")]


def test_the_last_messages_alone_contradict_nothing(page: Page) -> None:
    page.run(user("1"))
    page.run(user("2", "Two"))
    page.run(user("2", "Two"), user("3", "Three"))
    assert page.stored() == [("user", "Hello"), ("user", "Two"), ("user", "Three")]


def test_a_message_that_was_refused_comes_with_the_next_one(page: Page, settings: Any) -> None:
    page.run(user("1"))
    settings.MAX_RUNS_PER_MINUTE = 1
    assert page.post(user("1"), user("2", "Two")).status_code == 429
    settings.MAX_RUNS_PER_MINUTE = 100
    page.run(user("1"), user("2", "Two"), user("3", "Three"))
    assert page.stored() == [("user", "Hello"), ("user", "Two"), ("user", "Three")]


def test_the_export_has_the_names_and_the_earlier_messages(page: Page) -> None:
    page.run(user("1"), reply("r"), user("2"))
    rows = list(export_rows(Conversation.objects.get().owner))
    (conversation,) = [row for row in rows if row["kind"] == "conversation"]
    assert (conversation["dialect"], conversation["client_id"]) == ("ai-sdk", "c1")
    messages = [row for row in rows if row["kind"] == "message"]
    assert sorted(row["client_id"] for row in messages) == ["1", "2", "r"]
