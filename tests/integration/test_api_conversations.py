"""Conversations over HTTP, each call as docs/design.md §3.1 gives it."""

from typing import Any
from unittest.mock import ANY

import pytest

from streams.chat import conversations, snapshot
from streams.models import Conversation, Message
from tests.integration.support.api_client import ApiClient, conversation

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]


@pytest.fixture
def browser() -> ApiClient:
    return ApiClient()


def test_a_first_message_is_accepted_and_its_events_follow_from_the_cursor(
    browser: ApiClient,
) -> None:
    answer = browser.post("/api/conversations/", {"message": "Why is the sky blue?"})
    assert answer.status_code == 202
    made = answer.json()
    assert answer["Location"] == conversation(made["conversation"])
    assert made == {
        "conversation": ANY,
        "message": ANY,
        "run": ANY,
        "status": "queued",
        "cursor": ANY,
        "events": f"{conversation(made['conversation'])}events/?lastEventId={made['cursor']}",
    }
    assert browser.get(answer["Location"]).json() == {
        "id": made["conversation"],
        "title": "Why is the sky blue?",
        "model": "smollm2-135m-instruct",
        "created_at": ANY,
        "messages": [
            {
                "id": made["message"],
                "role": "user",
                "content": "Why is the sky blue?",
                "parts": [{"type": "text", "text": "Why is the sky blue?"}],
                "reply_to": None,
                "run": None,
                "created_at": ANY,
            }
        ],
        "earlier": None,
        "runs": [
            {
                "id": made["run"],
                "status": "queued",
                "attempt": 0,
                "message": made["message"],
                "text": "",
                "reasoning": "",
                "parts": [],
            }
        ],
        "unanswered": [],
        "cursor": made["cursor"] + 2,
    }


def test_a_message_is_accepted_while_redis_is_down(browser: ApiClient, settings: Any) -> None:
    from streams.log.event_log import the_log

    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    the_log.cache_clear()
    made = browser.begin()
    assert made["cursor"] is None
    assert made["events"] == f"{conversation(made['conversation'])}events/"
    assert browser.get(conversation(made["conversation"])).json()["cursor"] is None


def test_system_prompt_and_title_are_stored_and_blank_ones_are_null(browser: ApiClient) -> None:
    made = browser.begin("Why?", system="Be kind.", title="A question")
    told = browser.get(conversation(made["conversation"])).json()
    assert told["title"] == "A question"
    assert [(m["role"], m["content"]) for m in told["messages"]] == [
        ("system", "Be kind."),
        ("user", "Why?"),
    ]
    made = browser.begin("Why?", system="  ", title="", model=None)
    told = browser.get(conversation(made["conversation"])).json()
    assert (told["title"], [m["role"] for m in told["messages"]]) == ("Why?", ["user"])


def test_characters_that_no_database_holds_are_replaced(browser: ApiClient) -> None:
    body = rb'{"message": "a\u0000b\ud800c", "title": "\udfff", "system": "\u0000"}'
    answer = browser.post("/api/conversations/", body)
    assert answer.status_code == 202, answer.content
    told = browser.get(answer["Location"]).json()
    assert told["title"] == "\ufffd"
    assert [m["content"] for m in told["messages"]] == ["\ufffd", "a\ufffdb\ufffdc"]


def test_a_busy_conversation_refuses_queues_or_is_interrupted(browser: ApiClient) -> None:
    made = browser.begin()
    messages = f"{conversation(made['conversation'])}messages/"
    refused = browser.post(messages, {"message": "And?"})
    assert (refused.status_code, refused.json()["code"]) == (409, "conversation_busy")
    queued = browser.post(messages, {"message": "And?", "when_busy": "queue"})
    assert queued.status_code == 202
    assert queued["Location"] == conversation(made["conversation"])
    browser.post(messages, {"message": "Stop!", "when_busy": "interrupt"})
    told = browser.get(conversation(made["conversation"])).json()
    assert [m["content"] for m in told["messages"]] == ["Why?", "And?", "Stop!"]
    assert [run["message"] for run in told["runs"]] == [told["messages"][2]["id"]]


def test_the_list_has_the_owners_conversations_newest_first_page_by_page(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "PAGE_SIZE", 2)
    ApiClient().begin("Another visitor's")
    ids = [browser.begin(f"Question {n}")["conversation"] for n in range(5)]
    url, pages = "/api/conversations/", []
    while url:
        page = browser.get(url).json()
        pages.append([entry["id"] for entry in page["items"]])
        url = page["next"]
    newest = ids[::-1]
    assert pages == [newest[:2], newest[2:4], newest[4:]]


def test_conversations_created_at_the_same_time_are_each_listed_once(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "PAGE_SIZE", 2)
    ids = {browser.begin(f"Question {n}")["conversation"] for n in range(5)}
    moment = Conversation.objects.get(pk=min(ids)).created_at
    Conversation.objects.update(created_at=moment)
    url, seen = "/api/conversations/", []
    while url:
        page = browser.get(url).json()
        seen += [entry["id"] for entry in page["items"]]
        url = page["next"]
    assert sorted(seen) == sorted(ids)


def test_the_list_can_be_searched_by_title(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "PAGE_SIZE", 1)
    for title in ("Blue skies", "Green hills", "Deep blue & wide"):
        browser.begin(title=title)
    first = browser.get("/api/conversations/?search=blue").json()
    assert first["items"] == [
        {
            "id": ANY,
            "title": "Deep blue & wide",
            "model": "smollm2-135m-instruct",
            "created_at": ANY,
        }
    ]
    second = browser.get(first["next"]).json()
    assert [entry["title"] for entry in second["items"]] == ["Blue skies"]
    assert second["next"] is None


def test_renaming_a_conversation_publishes_its_title(browser: ApiClient, valkey: Any) -> None:
    made = browser.begin()
    answer = browser.send("PATCH", conversation(made["conversation"]), {"title": "Skies"})
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "id": made["conversation"],
            "title": "Skies",
            "model": "smollm2-135m-instruct",
            "created_at": ANY,
        },
    )
    assert browser.get(conversation(made["conversation"])).json()["title"] == "Skies"
    (_, said), *_ = valkey.xrevrange(f"{{conversation-{made['conversation']}}}:events", count=1)
    assert said["type"] == "conversation.updated"


def test_a_deleted_conversation_is_gone_with_all_its_messages(
    browser: ApiClient, valkey: Any
) -> None:
    made = browser.begin()
    gone = conversation(made["conversation"])
    answer = browser.send("DELETE", gone)
    assert (answer.status_code, answer.content) == (204, b"")
    assert browser.get(gone).status_code == 404
    assert browser.get(f"/api/runs/{made['run']}/").status_code == 404
    assert browser.send("DELETE", gone).status_code == 404
    assert not valkey.exists(f"{{conversation-{made['conversation']}}}:events")
    assert not Message.objects.exists()


def test_earlier_messages_are_returned_page_by_page(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PAGE_SIZE", 2)
    made = browser.begin("0")
    url = conversation(made["conversation"])
    for n in range(1, 5):
        browser.post(f"{url}messages/", {"message": str(n), "when_busy": "queue"})
    told = browser.get(url).json()
    pages = [[m["content"] for m in told["messages"]]]
    while earlier := told["earlier"]:
        told = browser.get(earlier).json()
        assert set(told) == {"messages", "earlier"}
        pages.append([m["content"] for m in told["messages"]])
    assert pages == [["3", "4"], ["1", "2"], ["0"]]
    latest = browser.get(f"{url}messages/").json()
    assert [m["content"] for m in latest["messages"]] == ["3", "4"]
    assert [m["parts"] for m in latest["messages"]] == [
        [{"type": "text", "text": "3"}],
        [{"type": "text", "text": "4"}],
    ]


def test_pages_of_messages_are_bounded_in_bytes_and_leave_none_out(
    browser: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PAGE_BYTES", 40)
    # 60, 40, 20, 20 and 2 bytes, because each text is sent as `content` and as a part
    texts = ["a" * 30, "é" * 10, "b" * 10, "c" * 10, "d"]
    made = browser.begin(texts[0])
    url = conversation(made["conversation"])
    for text in texts[1:]:
        browser.post(f"{url}messages/", {"message": text, "when_busy": "queue"})
    page = browser.get(url).json()
    pages = [[message["content"] for message in page["messages"]]]
    while page["earlier"]:
        page = browser.get(page["earlier"]).json()
        pages.append([message["content"] for message in page["messages"]])
    assert pages == [texts[3:], texts[2:3], texts[1:2], texts[:1]]


def test_the_models_are_those_in_the_settings(browser: ApiClient, settings: Any) -> None:
    settings.LLM_MODELS = ["smollm2-135m-instruct", "another"]
    settings.AGENTS = {"support": "shop.agents.support"}
    settings.AGENT_SUGGESTIONS = {"support": ["Where is my order?"]}
    assert browser.get("/api/models/").json() == {
        "items": [
            {"id": "smollm2-135m-instruct", "kind": "model", "suggestions": []},
            {"id": "another", "kind": "model", "suggestions": []},
            {"id": "support", "kind": "agent", "suggestions": ["Where is my order?"]},
        ],
        "default": "smollm2-135m-instruct",
    }
    for name in ("another", "support"):
        asked = browser.post("/api/conversations/", {"message": "?", "model": name})
        assert asked.status_code == 202
    refused = browser.post("/api/conversations/", {"message": "?", "model": "else"})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_model")
