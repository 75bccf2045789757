"""The pages of a log: from which cursors, how long, and until when."""

import pytest
import redis

from streams.log.channel_log import PAGE_BYTES
from streams.log.values import CursorGap, Page
from streams.protocol.sse import decode
from tests.integration.support.logged_run import CLOCK, LoggedRun


@pytest.mark.parametrize("cursor", [CLOCK - 1, CLOCK, CLOCK + 1, 0])
def test_a_valid_cursor_gets_all_events_after_it(logged: LoggedRun, cursor: int) -> None:
    logged.queue()
    logged.start()
    everything = ["run.queued", "run.started"]
    assert logged.types(cursor) == everything[max(0, cursor - CLOCK + 1) :]


@pytest.mark.parametrize(
    ("cursor", "reason"), [(CLOCK - 2, "lost"), (CLOCK + 1, "ahead"), (7, "lost"), (2**53, "ahead")]
)
def test_an_invalid_cursor_is_a_gap(logged: LoggedRun, cursor: int, reason: str) -> None:
    logged.queue()
    assert logged.at().read_after(cursor) == CursorGap(reason=reason)


def test_a_trimmed_log_reports_expired_and_its_rest_is_readable(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    first = logged.start()
    logged.append(*map(logged.delta, range(300)))
    valkey.xtrim(f"{{{logged.channel}}}:events", maxlen=100, approximate=False)
    assert logged.at().read_after(first) == CursorGap(reason="expired")
    assert logged.at().read_after(0) == CursorGap(reason="expired")
    page = logged.at().read_after(first + 200, count=500)
    assert isinstance(page, Page)
    assert [id for id, _, _ in page.entries] == list(range(first + 201, first + 301))


def test_an_expired_log_keeps_its_head_for_readers_that_had_caught_up(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    head = logged.start()
    valkey.delete(f"{{{logged.channel}}}:events")  # as its expiry does
    assert logged.at().read_after(head) == Page(head=head, entries=[])
    assert logged.at().read_after(head - 1) == CursorGap(reason="expired")
    assert logged.append(logged.delta(0)) == [head + 1]


def test_every_key_of_a_channel_expires(logged: LoggedRun, valkey: "redis.Redis") -> None:
    logged.start()
    logged.append(logged.delta(0))
    assert all(valkey.ttl(key) > 0 for key in valkey.keys("*"))


@pytest.mark.parametrize("long", [3_000, 70_000, 400_000])
def test_a_page_is_bounded_by_its_bytes_and_pages_miss_nothing(
    valkey: "redis.Redis", long: int
) -> None:
    logged = LoggedRun(valkey)
    cursor = logged.queue()
    logged.start()
    texts = [f"{n} " + "é" * (long if n % 3 else 10) for n in range(40)]
    logged.append(*(logged.delta(n, text) for n, text in enumerate(texts)))
    heard, pages = [], []
    last = False
    while not last:
        page = logged.at().read_after(cursor, count=100)
        assert isinstance(page, Page)
        pages.append([len(type) + len(data.encode()) for _, type, data in page.entries])
        heard += page.entries
        cursor, last = page.entries[-1][0], page.last
    assert [id for id, _, _ in heard] == list(range(heard[0][0], page.head + 1))
    assert [decode(type, data).text for _, type, data in heard[1:]] == texts  # type: ignore[union-attr]
    assert all(sum(sizes) <= PAGE_BYTES for sizes in pages)
    # No page could have taken the next event, too: none is smaller than it need be.
    following = pages[1:]
    assert all(
        sum(sizes) + next_[0] > PAGE_BYTES for sizes, next_ in zip(pages, following, strict=False)
    )


def test_an_event_longer_than_a_page_is_a_page(valkey: "redis.Redis") -> None:
    logged = LoggedRun(valkey)
    cursor = logged.start()
    long, short = "x" * (PAGE_BYTES + 1), "y"
    logged.append(logged.delta(0, long), logged.delta(1, short))
    pages = []
    for n in range(2):
        page = logged.at().read_after(cursor + n)
        assert isinstance(page, Page)
        pages.append((len(page.entries), page.last))
    assert pages == [(1, False), (1, True)]


def test_a_page_that_ends_at_the_head_is_marked_as_last(valkey: "redis.Redis") -> None:
    logged = LoggedRun(valkey)
    cursor = logged.start()
    logged.append(*(logged.delta(n) for n in range(40)))
    for count, last in ((16, False), (39, False), (40, True), (500, True)):
        page = logged.at().read_after(cursor, count=count)
        assert isinstance(page, Page)
        assert (len(page.entries), page.last) == (min(count, 40), last)
