"""A response to Pushpin is bounded: a long replay comes in pages, the last one begins a hold."""

import re
import time
from typing import Any

import jwt
import pytest
from django.http import HttpResponse
from django.test import Client

from streams.chat import conversations, publisher
from streams.log.channel_log import ChannelLog
from streams.log.errors import LogUnavailable
from streams.protocol.events import TextDelta
from streams.pushpin.hold import Hold
from streams.pushpin.views import PAGE_BYTES
from tests.integration.support.published_run import VISITOR, PublishedRun
from tests.support.appends import text_append

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
NEXT, KEY = "/api/streams/next/", "k" * 40
LENGTH, COUNT = 60_000, 90  # characters of a delta, deltas: more than three pages
LINK = re.compile("<(?P<path>[^>]+)>; rel=next(; timeout=(?P<timeout>[0-9]+))?")


@pytest.fixture(autouse=True)
def behind_pushpin(settings: Any) -> None:
    settings.GRIP_URL = f"http://127.0.0.1:5561/?key={KEY}"


def ask(path: str, last: str = "") -> HttpResponse:
    """Pushpin's request for the next page."""
    signature = jwt.encode({"iss": "pushpin", "exp": time.time() + 60}, KEY)
    headers = {"Grip-Sig": signature} | ({"Grip-Last": last} if last else {})
    answer = Client().get(path, headers=headers)
    assert isinstance(answer, HttpResponse)
    assert answer.status_code == 200
    return answer


def next_of(answer: HttpResponse) -> dict[str, str | None]:
    link = LINK.fullmatch(answer.headers["Grip-Link"])
    assert link
    return link.groupdict()


def ids(answer: HttpResponse) -> list[int]:
    return [int(id) for id in re.findall(rb"^id: (\d+)$", answer.content, re.MULTILINE)]


def hold_of(story: PublishedRun, *, until_idle: bool = False) -> Hold:
    """A hold whose readers wait for the events after the run's start."""
    return Hold(
        conversation=story.conversation.id,
        caller=VISITOR,
        until_idle=until_idle,
        ends_at=2**31,
        begun=False,
        cursor=story.first,
    )


@pytest.fixture
def story() -> PublishedRun:
    story = PublishedRun()
    story.index = COUNT
    for index in range(COUNT):
        delta = TextDelta(run=story.run.id, attempt=1, index=index, text="x" * LENGTH)
        publisher.append([text_append(story.channel, delta, min_head=story.first)])
    return story


def test_a_long_replay_comes_in_pages_and_then_begins_a_hold(story: PublishedRun) -> None:
    hold = hold_of(story)
    pages = [ask(NEXT, f"{hold.state}; last-id=0")]
    while "Grip-Hold" not in pages[-1].headers:
        path = next_of(pages[-1])["path"]
        assert path
        assert path != NEXT
        assert "Grip-Channel" not in pages[-1].headers  # the library's would be empty
        pages.append(ask(path))
    assert len(pages) >= 3
    assert all(len(page.content) < 2 * PAGE_BYTES for page in pages)
    heard = [id for page in pages for id in ids(page)]
    assert heard == list(range(story.first + 1, story.first + COUNT + 1))
    assert f"{story.channel}; prev-id={heard[-1]}" in pages[-1].headers["Grip-Channel"]
    # What was published before Pushpin had subscribed is found by the next request, soon.
    assert next_of(pages[-1]) == {"path": NEXT, "timeout": "1"}


def test_a_page_that_redis_prevents_is_asked_for_again_from_its_cursor(
    story: PublishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(NEXT, f"{hold_of(story).state}; last-id=0")
    read = ChannelLog.read_after

    def away(*_: Any, **__: Any) -> Any:
        raise LogUnavailable

    path = next_of(first)["path"]
    assert path
    monkeypatch.setattr(ChannelLog, "read_after", away)
    held = ask(path)
    assert (held.content, held.headers["Grip-Hold"]) == (b"", "stream")
    monkeypatch.setattr(ChannelLog, "read_after", read)
    state = held.headers["Grip-Channel"].partition(";")[0]
    assert ids(ask(NEXT, f"{state}; last-id=0"))[0] == ids(first)[-1] + 1


def test_a_reader_loses_access_between_two_pages(story: PublishedRun) -> None:
    path = next_of(ask(NEXT, f"{hold_of(story).state}; last-id=0"))["path"]
    assert path
    conversations.delete(story.conversation)
    end = ask(path)
    assert b'"gone"' in end.content
    assert "Grip-Link" not in end.headers
    assert "Grip-Hold" not in end.headers
