"""`POST /ag-ui` and the routes below it: names, the history, limits, access."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streams.dialects import ag_ui_api
from streams.models import Conversation, Run
from streams.observability import metrics
from streams.protocol.parts import ReasoningPart, TextPart
from tests.integration.support.ag_ui_page import Page, answered, reply, snapshots, user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def page() -> Iterator[Page]:
    one = Page()
    yield one
    one.close()


def test_the_same_run_id_again_joins_the_run(page: Page) -> None:
    first = page.run(user("1"))
    assert first.client_id == "r1"
    events = page.events(user("1"), reply(f"{first.id}-0", "half"))
    assert events[0]["metadata"]["run"] == str(first.id)
    assert snapshots(events) == [[user("1")]]  # what is void is dropped
    answered(first, ReasoningPart(text="r"), TextPart(text="Hi"))
    events = page.events(user("1"))
    assert snapshots(events) == [
        [
            user("1"),
            {"id": f"{first.id}-0", "role": "reasoning", "content": "r"},
            reply(f"{first.id}-1"),
        ]
    ]
    assert [one["type"] for one in events[2:]] == [
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert events[-1]["outcome"] == {"type": "success"}
    assert Run.objects.count() == 1


def test_a_run_id_that_was_used_for_another_message_is_refused(page: Page) -> None:
    first = page.run(user("1"))
    for messages in ([user("1", "Other")], [user("1"), user("2")]):
        assert page.post(*messages).status_code == 409
    assert page.run() == first  # nothing is asked
    assert Run.objects.count() == 1


@pytest.mark.parametrize("messages", [[user("1")], [user("0"), user("1")]], ids=["new", "known"])
def test_equal_requests_at_once_begin_one_run(
    page: Page, monkeypatch: Any, messages: list[dict[str, Any]]
) -> None:
    if messages[1:]:
        page.run(*messages[:1], run="r0")
    page.client.get("/")  # both requests are of one visitor
    looking = [True]
    found = ag_ui_api._run if messages[1:] else ag_ui_api.conversation_named

    def late(*where: Any) -> Any:
        if looking:
            looking.clear()
            page.run(*messages)  # the other request, after this one has looked
            return None
        return found(*where)  # type: ignore[operator]

    monkeypatch.setattr(ag_ui_api, found.__name__, late)
    assert page.run(*messages) == Run.objects.get(client_id="r1")
    assert len(page.stored()) == len(messages)


def test_a_new_run_interrupts_the_one_that_is_live(page: Page) -> None:
    first = page.run(user("1"))
    second = page.run(user("1"), reply(f"{first.id}-0", "half"), user("2", "And?"), run="r2")
    assert Run.objects.get(pk=first.pk).status == Run.Status.CANCELLED
    assert second.status == Run.Status.QUEUED
    assert page.stored() == [("user", "Hello"), ("user", "And?")]


def test_a_new_run_of_the_same_message_replies_anew(page: Page) -> None:
    first = page.run(user("1"))
    answered(first, TextPart(text="Hi"))
    events = page.events(user("1"), reply(f"{first.id}-0"), run="r2")
    second = events[0]["metadata"]["run"]
    assert second != str(first.id)
    assert snapshots(events) == [[user("1")]]
    answered(Run.objects.get(pk=second), TextPart(text="Ho"))
    connected = page.events(to="/connect")
    assert connected[0]["runId"] == "r2"
    assert snapshots(connected) == [[user("1"), reply(f"{second}-0", "Ho")]]
    assert page.events(user("1"))[0]["metadata"]["run"] == str(first.id)


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (422, {"messages": []}),
        (422, {"messages": [reply("1")]}),
        (422, {"messages": [user("1"), reply("2")]}),  # what is to be replied to?
        (422, {"messages": [user("1", "  ")]}),
        (422, {"messages": [user("1", "a" * 200_001)]}),
        (422, {"messages": [user("")]}),
        (422, {"messages": [user("1" * 201)]}),
        (422, {"messages": [{"id": "1", "role": "user", "content": None}]}),
        (422, {"messages": [{"id": "1", "role": "user", "content": {"a": 1}}]}),
        (422, {"messages": [{"id": "1", "role": "user", "content": [{"type": "image"}]}]}),
        (422, {"messages": [{"id": "1", "role": "judge", "content": "?"}]}),
        (422, {"messages": "Hello"}),
        (422, {"threadId": ""}),
        (422, {"runId": None}),
        (422, {"forwardedProps": ["a"]}),
        (422, {"forwardedProps": {"model": "gone"}}),
        (422, {"context": [{"description": "d", "value": "v" * 5000}]}),
        (400, {"tools": [{"name": "n", "description": "d"}]}),
        (400, {"resume": [{"interruptId": "i", "status": "resolved"}]}),
    ],
)
def test_what_cannot_be_asked_is_refused(page: Page, status: int, sent: dict[str, Any]) -> None:
    messages = sent.pop("messages", [user("1")])
    response = page.post(**{"messages": messages, **sent})
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/plain")
    assert not Conversation.objects.exists()


def test_a_name_that_is_no_text_is_cleaned(page: Page) -> None:
    run = page.run(user("\0\ud83d", "a\0"), thread="\0", run="\ud83d")
    assert (run.client_id, page.stored("\ufffd")) == ("\ufffd", [("user", "a\ufffd")])
    assert page.stop("%00") == 204


def test_the_page_tells_the_agent_and_chooses_the_model(page: Page, settings: Any) -> None:
    settings.LLM_MODELS = [settings.LLM_MODEL, "other"]
    context = [{"description": "d", "value": "v"}]
    run = page.run(
        user("1"), forwardedProps={"model": "other", "a": 1}, context=context, state={"s": None}
    )
    assert run.model == "other"
    told = {"model": "other", "a": 1, "context": context, "state": {"s": None}}
    assert run.metadata == told
    other = {"forwardedProps": {"model": settings.LLM_MODEL}}
    assert page.post(user("1"), user("2"), run="r2", **other).status_code == 409


def test_a_stop_cancels_the_run(page: Page) -> None:
    run = page.run(user("1"), thread="a/b c")
    assert page.stop("a%2Fb%20c") == 204
    assert Run.objects.get(pk=run.pk).status == Run.Status.CANCELLED
    (event,) = page.events(thread="a/b c", to="/connect")[2:]
    assert (event["type"], event["outcome"]) == ("RUN_FINISHED", {"type": "cancelled"})
    assert page.stop("a%2Fb%20c") == 204
    assert page.stop("gone") == 404


def test_runs_and_streams_have_the_limits_of_the_other_wires(page: Page, settings: Any) -> None:
    settings.MAX_STREAMS = 0
    assert page.post(user("1")).status_code == 429
    assert not Run.objects.exists()
    settings.MAX_STREAMS = 1
    assert page.post(user("1")).status_code == 200
    for to in ("", "/connect"):
        assert page.post(user("1"), to=to).status_code == 429
    assert metrics.DIALECT_STREAMS.labels("ag-ui")._value.get() == 0  # none is read yet
    page.responses[1].close()
    settings.MAX_LIVE_RUNS = 1
    refused = page.post(user("1"), thread="t2")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert Run.objects.count() == 1
