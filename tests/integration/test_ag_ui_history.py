"""The messages that a page of AG-UI sends, and those that it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from streams.chat.finish import cancel
from streams.models import Conversation, Run
from streams.protocol.parts import TextPart
from tests.integration.support.ag_ui_page import JSON, Page, answered, reply, snapshots, user
from workers.prompt.history import history

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def page() -> Iterator[Page]:
    one = Page()
    yield one
    one.close()


def test_a_client_that_has_the_thread_is_not_told_it(page: Page) -> None:
    first = page.run(user("1"))
    answered(first, TextPart(text="Hi"))
    whole, half = reply(f"{first.id}-0"), reply(f"{first.id}-0", "H")
    asked = user("2", "And?")
    events = page.events(user("1"), whole, asked, run="r2")
    assert [one["type"] for one in events] == ["RUN_STARTED"]
    second = events[0]["metadata"]["run"]
    answered(Run.objects.get(pk=second), TextPart(text="Then."))
    events = page.events(user("1"), half, asked, user("3"), run="r3")
    told = [user("1"), whole, asked, reply(f"{second}-0", "Then."), user("3")]
    assert snapshots(events)[-1] == told


def test_a_client_keeps_what_it_has_of_a_reply_that_is_not_stored_yet(
    page: Page, monkeypatch: Any
) -> None:
    first = page.run(user("1"))
    Run.objects.filter(pk=first.pk).update(status="running", attempt=1)  # a worker has it
    monkeypatch.setattr("streams.chat.ask.cancel_unheld", lambda run: None)
    half = reply(f"{first.id}-0", "half")
    events = page.events(user("1"), half, user("2"), run="r2")
    assert [one["type"] for one in events] == ["RUN_STARTED"]


def test_a_new_thread_takes_the_earlier_messages_over(page: Page) -> None:
    system = {"id": "0", "role": "developer", "content": "Be brief."}
    thought = {"id": "x", "role": "reasoning", "content": "Hm."}
    parts = [{"type": "text", "text": "Two"}, {"type": "text", "text": "?"}]
    asked = {"id": "2", "role": "user", "content": parts}
    run = page.run(system, user("1", "One?"), thought, reply("r", "One."), asked)
    prompt = [(one.role, one.content) for one in history(run)]
    assert prompt == [
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "One."),
        ("user", "Two?"),
    ]
    (told,) = snapshots(page.events(to="/connect"))
    assert [one["id"] for one in told] == ["0", "1", "r", "2"]


@pytest.mark.parametrize(
    "messages",
    [
        [user("1", "Changed"), user("3")],
        [user("0"), user("1"), user("3")],
        [user("1"), user("3")],  # lacks the second
        [user("1")],  # has been followed by another
        [user("9"), user("8"), user("3")],
    ],
)
def test_what_contradicts_the_stored_history_is_refused(
    page: Page, messages: list[dict[str, Any]]
) -> None:
    page.run(user("1"))
    page.run(user("1"), user("2", "Two"), run="r2")
    refused = page.post(*messages, run="r3")
    assert refused.status_code == 409
    assert refused.headers["Content-Type"].startswith("text/plain")
    assert page.stored() == [("user", "Hello"), ("user", "Two")]


@pytest.mark.parametrize("text", ["Hello", "Other"])
def test_an_old_message_alone_is_not_stored_twice(page: Page, text: str) -> None:
    for turn in range(1, 5):
        page.run(user(str(turn)), run=f"r{turn}")
    stored = page.stored()
    assert page.post(user("1", text), run="r9").status_code == 409
    assert page.stored() == stored


def test_a_conversation_that_began_elsewhere_is_a_thread_by_its_id(page: Page) -> None:
    page.client.get("/")
    made = page.client.post("/api/conversations/", {"message": "Why?"}, content_type=JSON).json()
    events = page.events(thread=made["conversation"], to="/connect")
    assert (events[0]["threadId"], events[0]["runId"]) == (made["conversation"], made["run"])
    assert snapshots(events) == [[user(made["message"], "Why?")]]
    assert page.run(thread=made["conversation"], run=made["run"]).client_id is None
    second = page.run(user(made["message"], "Why?"), user("2"), thread=made["conversation"])
    assert str(second.conversation_id) == made["conversation"]


def test_a_thread_that_does_not_exist_connects_to_nothing(page: Page) -> None:
    assert page.events(user("1"), to="/connect") == [
        {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"},
        {
            "type": "RUN_FINISHED",
            "threadId": "t1",
            "runId": "r1",
            "outcome": {"type": "success"},
        },
    ]
    assert not Conversation.objects.exists()


def test_a_thread_whose_log_has_expired_is_told_from_its_rows(
    page: Page, valkey: redis.Redis
) -> None:
    run = page.run(user("1"))
    answered(run, TextPart(text="Hi"))
    valkey.flushdb()
    events = page.events(to="/connect")
    assert snapshots(events) == [[user("1"), reply(f"{run.id}-0")]]
    assert (events[-1]["type"], events[-1]["outcome"]) == ("RUN_FINISHED", {"type": "success"})


def test_a_long_thread_is_told_in_its_newest_pages(page: Page, monkeypatch: Any) -> None:
    monkeypatch.setattr("streams.chat.snapshot.PAGE_SIZE", 2)
    earlier = [user(str(n), f"{n}?") for n in range(6)]
    run = page.run(*earlier, user("last"))
    (told,) = snapshots(page.events(to="/connect"))
    assert [one["id"] for one in told] == ["0", "1", "2", "3", "4", "5", "last"]
    cancel(run.id)
    page.run(*earlier, user("last"), *[user(f"+{n}") for n in range(3)], run="r2")
    (told,) = snapshots(page.events(to="/connect"))
    assert [one["id"] for one in told] == ["2", "3", "4", "5", "last", "+0", "+1", "+2"]
