"""The lists of conversations and of messages, page by page."""

from unittest.mock import ANY

import pytest

from streams.chat import conversations, snapshot
from streams.models import Conversation
from tests.integration.support.api_client import ApiClient, conversation

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]


@pytest.fixture
def browser() -> ApiClient:
    return ApiClient()


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
