"""Conversations over HTTP, each call as docs/design.md §3.1 gives it."""

from typing import Any
from unittest.mock import ANY

import pytest

from streams.models import Message
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
