"""The log: what it gives, what it refuses, and what happens when it is lost."""

from uuid import UUID, uuid4

import pytest
import redis

from streams.log.channel_log import PAGE_BYTES
from streams.log.errors import FenceMissing, LogUnavailable, LogUnverified, Superseded
from streams.log.event_log import EventLog
from streams.log.servers import Servers
from streams.log.values import (
    CursorGap,
    LogState,
    OnUnverified,
    Page,
    RunProgress,
)
from streams.protocol.events import (
    ConversationUpdated,
    ReasoningDelta,
    RunCancelled,
    RunCompleted,
    RunQueued,
    RunStarted,
    TextDelta,
    TextSnapshot,
)
from streams.protocol.parts import text_parts
from streams.protocol.sse import decode
from tests.integration.support.logged_run import CLOCK, USAGE, Clock, LoggedRun
from tests.support.appends import snapshot_append, text_append
from tests.support.fold import ConversationState, fold


@pytest.fixture
def logged(valkey: "redis.Redis") -> LoggedRun:
    return LoggedRun(valkey)


def test_ids_ascend_by_one_from_the_clock_and_have_all_digits(logged: LoggedRun) -> None:
    ids = [logged.queue(), logged.start(), *logged.append(logged.delta(0), logged.delta(1))]
    assert ids == [CLOCK, CLOCK + 1, CLOCK + 2, CLOCK + 3]


def test_a_repeated_append_gets_the_same_id_and_adds_nothing(logged: LoggedRun) -> None:
    first = [logged.queue(), logged.start(), *logged.append(*map(logged.delta, range(5)))]
    again = [logged.queue(), logged.start(), *logged.append(*map(logged.delta, range(5)))]
    ending = [logged.append_final("w0 w1 w2 w3 w4 "), logged.append_final("w0 w1 w2 w3 w4 ")]
    assert again == first
    assert ending == [first[-1] + 1] * 2
    assert len(logged.types(first[0] - 1)) == len(first) + 1


def test_a_delta_without_a_fence_is_refused(logged: LoggedRun) -> None:
    logged.queue()
    assert logged.append(logged.delta(0)) == ["FenceMissing"]


def test_a_superseded_attempt_is_refused_and_the_newer_one_starts_over(
    logged: LoggedRun,
) -> None:
    logged.start(1)
    logged.append(logged.delta(0))
    logged.start(2)
    assert logged.append(logged.delta(1)) == ["Superseded"]
    with pytest.raises(Superseded):
        logged.start(1)
    logged.append(logged.delta(0, "anew", attempt=2))
    assert logged.at().state().runs[logged.run] == RunProgress(attempt=2, parts=text_parts("anew"))


def test_nothing_follows_a_seal_or_a_final_event(logged: LoggedRun) -> None:
    start = logged.start()
    logged.append(logged.delta(0))
    assert logged.sealed(1) == (1, "w0 ")
    assert logged.append(logged.delta(1)) == ["Superseded"]
    logged.append_final("w0 ")
    assert logged.append(logged.delta(1)) == ["Superseded"]
    assert logged.types(start - 1) == ["run.started", "text.delta", "run.completed"]


def test_a_released_run_gets_no_second_final_event(logged: LoggedRun) -> None:
    logged.start()
    ending = logged.append_final("")
    logged.at().release_run(logged.run)
    assert logged.append_final("") == ending


def test_the_published_text_is_the_stored_text(logged: LoggedRun) -> None:
    start = logged.start()
    logged.append(logged.delta(0, "Hel"))
    logged.append_final("Hello")
    page = logged.at().read_after(start - 1)
    assert isinstance(page, Page)
    heard = ConversationState()
    for _, type, data in page.entries:
        heard = fold(heard, decode(type, data))
    assert heard.replies[logged.run].text == "Hello"
    assert [type for _, type, _ in page.entries][-2:] == [TextSnapshot.type, RunCompleted.type]


def test_the_state_of_a_run_is_the_fold_of_its_events(logged: LoggedRun) -> None:
    start = logged.start()
    thought = ReasoningDelta(run=logged.run, attempt=1, index=0, text="Hm. ")
    logged.log.append([text_append(logged.channel, thought)])
    for index, text in enumerate(("Wörter \ufffd ", "\u2028\r\n\ndata: x"), start=1):
        event = TextDelta(run=logged.run, attempt=1, index=index, text=text)
        logged.append(text_append(logged.channel, event, slot=1, opens=index == 1))
    page = logged.at().read_after(start - 1)
    assert isinstance(page, Page)
    heard = ConversationState()
    for _, type, data in page.entries:
        heard = fold(heard, decode(type, data))
    folded, kept = heard.replies[logged.run], logged.at().state()
    assert kept.runs[logged.run] == RunProgress(attempt=folded.attempt, parts=folded.parts)


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


def test_a_lost_log_begins_an_epoch_above_every_published_id(
    valkey: "redis.Redis",
) -> None:
    clock = Clock()
    logged = LoggedRun(valkey, clock)
    logged.start()
    (heard,) = logged.append(logged.delta(0))
    assert isinstance(heard, int)
    valkey.flushall()
    clock.now += 1_000_000
    assert logged.append(logged.delta(1, min_head=heard)) == ["FenceMissing"]
    logged.at(heard).restore_fence(logged.run, 1, index=1, parts=text_parts("w0 w1 "))
    whole = logged.whole("w0 w1 ", attempt=1, index=2)
    (id,) = logged.log.append([snapshot_append(logged.channel, whole, min_head=heard)])
    assert isinstance(id, int)
    assert id > heard
    assert logged.at().read_after(heard) == CursorGap(reason="lost")
    assert logged.at().state().runs[logged.run].text == "w0 w1 "


def test_a_reply_cancelled_before_a_new_epoch_repeats_it_keeps_its_text(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    logged.start()
    (heard,) = logged.append(logged.delta(0))
    assert isinstance(heard, int)
    valkey.flushall()
    head = logged.at(heard).restore_fence(logged.run, 1, index=0, parts=text_parts("w0 "))
    assert logged.sealed(1) == (1, "w0 ")
    ending = RunCancelled(run=logged.run, attempt=1, reply=None, usage=USAGE)
    logged.append_final("w0 ", event=ending)
    whole = logged.whole("w0 ", attempt=1, index=1)
    page = logged.at().read_after(head)
    assert isinstance(page, Page)
    assert [decode(type, data) for _, type, data in page.entries] == [whole, ending]


def test_a_released_run_gets_no_fence_again(logged: LoggedRun) -> None:
    logged.start()
    logged.at().seal(logged.run, 1)
    ending = RunCancelled(run=logged.run, attempt=1, reply=None, usage=None)
    head = logged.append_final("", event=ending)
    logged.at().release_run(logged.run)
    # The attempt has asked the run's row just before.
    with pytest.raises(Superseded):
        logged.at().restore_fence(logged.run, 1, index=0, parts=text_parts("w0 "))
    assert logged.append(logged.delta(1)) == ["FenceMissing"]
    assert logged.types(head) == []


def test_an_epoch_begins_above_published_ids_with_the_clock_set_back(
    valkey: "redis.Redis",
) -> None:
    clock = Clock()
    logged = LoggedRun(valkey, clock)
    logged.start()
    heard = logged.append(*map(logged.delta, range(50)))[-1]
    assert isinstance(heard, int)
    valkey.flushall()
    clock.now -= 1_000_000
    # Other processes may have published more than this writer knows.
    assert logged.queue(min_head=heard - 20) > heard
    assert logged.at().read_after(heard - 10) == CursorGap(reason="lost")


def test_two_epochs_never_begin_at_the_same_id(
    valkey: "redis.Redis",
) -> None:
    clock = Clock()
    known = LoggedRun(valkey, clock).queue()
    logged = LoggedRun(valkey, clock)
    heard = []
    for _ in range(2):
        valkey.flushall()
        clock.now += 1000
        # The first writer knows the recorded head, and nothing of the epoch between.
        heard.append(logged.queue(min_head=known))
    assert heard[1] > heard[0]
    assert logged.at().read_after(heard[0]) == CursorGap(reason="lost")


def test_a_lost_tail_is_never_continued(logged: LoggedRun, valkey: "redis.Redis") -> None:
    logged.start()
    ids = logged.append(*map(logged.delta, range(10)))
    heard = ids[-1]
    assert isinstance(heard, int)
    # What a failover to a replica that lagged leaves: everything up to the fifth delta.
    state, events = f"{{{logged.channel}}}:state", f"{{{logged.channel}}}:events"
    valkey.hset(state, mapping={"head": heard - 5, f"{logged.run}:index": 4})
    for id in ids[5:]:
        valkey.xdel(events, f"{id}-0")
    assert logged.append(logged.delta(10, min_head=heard)) == ["FenceMissing"]
    head = logged.at(heard).restore_fence(logged.run, 1, index=10, parts=())
    assert head >= heard
    assert logged.at().read_after(heard - 7) == CursorGap(reason="lost")


def test_repairing_a_lost_log_begins_the_epoch_in_which_writers_continue(logged: LoggedRun) -> None:
    assert logged.at(CLOCK + 500).state() is None  # a read changes nothing
    assert logged.at().state() is None
    head = logged.at(CLOCK + 500).repair()
    assert head > CLOCK + 500
    assert logged.at(CLOCK + 500).repair() == head
    assert logged.at(CLOCK + 500).state() == LogState(head=head, runs={}, recorded={})
    assert logged.queue(min_head=CLOCK + 500) == head + 1
    assert logged.types(head) == ["run.queued"]


def test_a_deleted_conversation_is_never_written_again(logged: LoggedRun) -> None:
    logged.start()
    logged.at().delete()
    logged.at().delete()
    assert logged.append(logged.delta(0)) == ["Superseded"]
    with pytest.raises(Superseded):
        logged.queue()


def test_a_published_message_is_the_logs_entry(logged: LoggedRun, valkey: "redis.Redis") -> None:
    with valkey.pubsub() as heard:
        heard.subscribe(logged.channel)
        assert heard.get_message(timeout=5)["type"] == "subscribe"
        id = logged.queue()
        message = heard.get_message(timeout=5)
    page = logged.at().read_after(id - 1)
    assert isinstance(page, Page)
    assert message["data"] == f"{id} run.queued {page.entries[0][2]}"


def test_a_library_that_redis_has_lost_is_loaded_again(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    first = logged.queue()
    valkey.function_flush()
    assert logged.start() == first + 1


def test_an_unreachable_redis_is_log_unavailable() -> None:
    unreachable = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2)
    with pytest.raises(LogUnavailable):
        EventLog(Servers(unreachable)).channel("conversation-x").state()


def test_a_cancelled_run_without_events_can_end(logged: LoggedRun) -> None:
    logged.queue()
    assert logged.sealed(0) == (None, "")
    event = RunCancelled(run=logged.run, attempt=0, reply=None, usage=USAGE)
    logged.append_final("", event=event)
    assert logged.types(0) == ["run.queued", "run.cancelled"]


def test_a_run_that_ended_between_claim_and_start_never_starts(
    logged: LoggedRun,
) -> None:
    logged.queue()
    logged.at().seal(logged.run, 1)
    event = RunCancelled(run=logged.run, attempt=1, reply=None, usage=USAGE)
    logged.append_final("", event=event)
    for forgotten in (False, True):
        if forgotten:
            logged.at().release_run(logged.run)
        with pytest.raises(Superseded):
            logged.start()
    assert logged.types(0) == ["run.queued", "run.cancelled"]


def test_one_run_cannot_append_for_another(logged: LoggedRun) -> None:
    logged.start()
    other: UUID = uuid4()
    event = TextDelta(run=other, attempt=1, index=0, text="mine?")
    (answer,) = logged.log.append([text_append(logged.channel, event)])
    assert isinstance(answer, FenceMissing)


def test_the_text_of_a_run_in_a_lost_log_is_unknown(logged: LoggedRun) -> None:
    assert not logged.at().seal(logged.run, 1).known


def test_the_final_event_of_a_silent_attempt_repeats_the_text_of_the_one_before(
    logged: LoggedRun,
) -> None:
    start = logged.start()
    logged.append(logged.delta(0, "half"))
    assert logged.sealed(2) == (1, "half")
    event = RunCancelled(run=logged.run, attempt=2, reply=uuid4(), usage=USAGE)
    logged.append_final("half", event=event)
    page = logged.at().read_after(start)
    assert isinstance(page, Page)
    assert [decode(type, data) for _, type, data in page.entries[1:]] == [
        RunStarted(run=logged.run, attempt=2, model="m"),
        logged.whole("half", attempt=2, index=0),
        event,
    ]


def test_an_attempt_on_another_redis_process_begins_an_epoch(
    valkey: "redis.Redis",
) -> None:
    """Worker and Redis died together, so no process knows of a lost tail."""
    clock = Clock()
    logged = LoggedRun(valkey, clock)
    logged.start()
    heard = logged.append(*map(logged.delta, range(5)))[-1]
    assert isinstance(heard, int)
    clock.now += 1_000_000
    second = logged.start(2)
    assert second == heard + 1
    valkey.hset(f"{{{logged.channel}}}:state", "server", "0123456789abcdef")
    handed_over = logged.start(3, min_head=second)  # by an attempt that knew all published events
    assert handed_over == second + 1
    valkey.hset(f"{{{logged.channel}}}:state", "server", "fedcba9876543210")
    assert logged.start(4, min_head=handed_over, abandoned=True) > handed_over + 1
    valkey.hset(f"{{{logged.channel}}}:state", "server", "0123456789abcdef")
    fourth = logged.start(4)
    assert fourth > handed_over + 1
    assert logged.at().read_after(second) == CursorGap(reason="lost")


def another(valkey: "redis.Redis", logged: LoggedRun) -> None:
    """Let the channel's log look as if it were written on another server process."""
    valkey.hset(f"{{{logged.channel}}}:state", "server", "0123456789abcdef")


def test_on_another_redis_process_only_an_attempt_can_verify_the_log(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    logged.queue()
    logged.start()
    heard = logged.append(logged.delta(0, "So "))[-1]
    assert isinstance(heard, int)
    another(valkey, logged)
    title = ConversationUpdated(title="New", model="m")
    with pytest.raises(LogUnverified):
        logged.at().append_once(title)
    with pytest.raises(LogUnverified):
        logged.at().append_once(RunQueued(run=uuid4(), message=uuid4()), run=uuid4())
    with pytest.raises(LogUnverified):
        logged.at().seal(logged.run, 1, on_unverified=OnUnverified.RAISE)
    logged.verify(heard, attempt=2)
    with pytest.raises(LogUnverified):  # that was another attempt
        logged.at().append_once(title)
    logged.verify(heard)
    assert logged.at().append_once(title) == [heard + 1]
    assert logged.sealed(1, OnUnverified.RAISE) == (1, "So ")


def test_on_another_redis_process_a_seal_without_attempt_begins_an_epoch(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    logged.queue()
    logged.start()
    heard = logged.append(logged.delta(0, "So "))[-1]
    assert isinstance(heard, int)
    another(valkey, logged)
    assert logged.sealed(1, OnUnverified.NEW_EPOCH) == (1, "So ")
    assert logged.append_final("So ") > heard + 1
    assert logged.at().read_after(heard) == CursorGap(reason="lost")


def test_an_attempt_that_verifies_detects_a_lost_tail(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    logged.start()
    heard = logged.append(logged.delta(0, "So "))[-1]
    assert isinstance(heard, int)
    another(valkey, logged)
    logged.verify(heard + 3)
    assert logged.at().read_after(heard) == CursorGap(reason="lost")
    assert logged.append(logged.delta(1, "it")) == ["FenceMissing"]


def test_a_repeated_append_costs_about_as_much_as_the_first(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    """A writer that was not answered in time offers up to 256 pieces again, on a full log."""

    def spent() -> int:
        return int(valkey.info("commandstats")["cmdstat_fcall"]["usec"])

    logged.start()
    for first in range(0, 20_000, 500):
        logged.append(*map(logged.delta, range(first, first + 500)))
    pieces = [logged.delta(index) for index in range(20_000, 20_256)]
    before = spent()
    ids = logged.append(*pieces)
    between = spent()
    assert logged.append(*pieces) == ids
    assert spent() - between < 20 * (between - before)


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
