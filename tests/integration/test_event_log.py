"""The log: what it gives, what it refuses, and what happens when it is lost."""

from uuid import UUID, uuid4

import pytest
import redis

from streams.log.channel_log import PAGE_BYTES
from streams.log.errors import FenceMissing, LogUnavailable, LogUnverified, Superseded
from streams.log.event_log import EventLog
from streams.log.servers import Servers
from streams.log.values import (
    Append,
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
from streams.protocol.fold import ConversationState, fold
from streams.protocol.sse import decode
from tests.integration.support.logged_run import CLOCK, USAGE, Clock, LoggedRun


@pytest.fixture
def teller(valkey: "redis.Redis") -> LoggedRun:
    return LoggedRun(valkey)


def test_ids_ascend_by_one_from_the_clock_and_have_all_digits(teller: LoggedRun) -> None:
    ids = [teller.queue(), teller.start(), *teller.append(teller.delta(0), teller.delta(1))]
    assert ids == [CLOCK, CLOCK + 1, CLOCK + 2, CLOCK + 3]


def test_a_repeated_append_gets_the_same_id_and_adds_nothing(teller: LoggedRun) -> None:
    first = [teller.queue(), teller.start(), *teller.append(*map(teller.delta, range(5)))]
    again = [teller.queue(), teller.start(), *teller.append(*map(teller.delta, range(5)))]
    ending = [teller.append_final("w0 w1 w2 w3 w4 "), teller.append_final("w0 w1 w2 w3 w4 ")]
    assert again == first
    assert ending == [first[-1] + 1] * 2
    assert len(teller.types(first[0] - 1)) == len(first) + 1


def test_a_delta_without_a_fence_is_refused(teller: LoggedRun) -> None:
    teller.queue()
    assert teller.append(teller.delta(0)) == ["FenceMissing"]


def test_a_superseded_attempt_is_refused_and_the_newer_one_starts_over(
    teller: LoggedRun,
) -> None:
    teller.start(1)
    teller.append(teller.delta(0))
    teller.start(2)
    assert teller.append(teller.delta(1)) == ["Superseded"]
    with pytest.raises(Superseded):
        teller.start(1)
    teller.append(teller.delta(0, "anew", attempt=2))
    assert teller.at().state().runs[teller.run] == RunProgress(attempt=2, text="anew", reasoning="")


def test_nothing_follows_a_seal_or_a_final_event(teller: LoggedRun) -> None:
    start = teller.start()
    teller.append(teller.delta(0))
    assert teller.at().seal(teller.run, 1) == RunProgress(attempt=1, text="w0 ", reasoning="")
    assert teller.append(teller.delta(1)) == ["Superseded"]
    teller.append_final("w0 ")
    assert teller.append(teller.delta(1)) == ["Superseded"]
    assert teller.types(start - 1) == ["run.started", "text.delta", "run.completed"]


def test_a_released_run_gets_no_second_final_event(teller: LoggedRun) -> None:
    teller.start()
    ending = teller.append_final("")
    teller.at().release_run(teller.run)
    assert teller.append_final("") == ending


def test_the_published_text_is_the_stored_text(teller: LoggedRun) -> None:
    start = teller.start()
    teller.append(teller.delta(0, "Hel"))
    teller.append_final("Hello")
    page = teller.at().read_after(start - 1)
    assert isinstance(page, Page)
    heard = ConversationState()
    for _, type, data in page.entries:
        heard = fold(heard, decode(type, data))
    assert heard.replies[teller.run].text == "Hello"
    assert [type for _, type, _ in page.entries][-2:] == [TextSnapshot.type, RunCompleted.type]


def test_the_state_of_a_run_is_the_fold_of_its_events(teller: LoggedRun) -> None:
    start = teller.start()
    thought = ReasoningDelta(run=teller.run, attempt=1, index=0, text="Hm. ")
    teller.log.append([Append(channel=teller.channel, event=thought, min_head=0)])
    teller.append(teller.delta(1, "Wörter \ufffd "), teller.delta(2, "\u2028\r\n\ndata: x"))
    page = teller.at().read_after(start - 1)
    assert isinstance(page, Page)
    heard = ConversationState()
    for _, type, data in page.entries:
        heard = fold(heard, decode(type, data))
    folded, kept = heard.replies[teller.run], teller.at().state()
    assert kept.runs[teller.run] == RunProgress(
        attempt=folded.attempt, text=folded.text, reasoning=folded.reasoning
    )


@pytest.mark.parametrize("cursor", [CLOCK - 1, CLOCK, CLOCK + 1, 0])
def test_a_valid_cursor_gets_all_events_after_it(teller: LoggedRun, cursor: int) -> None:
    teller.queue()
    teller.start()
    everything = ["run.queued", "run.started"]
    assert teller.types(cursor) == everything[max(0, cursor - CLOCK + 1) :]


@pytest.mark.parametrize(
    ("cursor", "reason"), [(CLOCK - 2, "lost"), (CLOCK + 1, "ahead"), (7, "lost"), (2**53, "ahead")]
)
def test_an_invalid_cursor_is_a_gap(teller: LoggedRun, cursor: int, reason: str) -> None:
    teller.queue()
    assert teller.at().read_after(cursor) == CursorGap(reason=reason)


def test_a_trimmed_log_reports_expired_and_its_rest_is_readable(
    teller: LoggedRun, valkey: "redis.Redis"
) -> None:
    first = teller.start()
    teller.append(*map(teller.delta, range(300)))
    valkey.xtrim(f"{{{teller.channel}}}:events", maxlen=100, approximate=False)
    assert teller.at().read_after(first) == CursorGap(reason="expired")
    assert teller.at().read_after(0) == CursorGap(reason="expired")
    page = teller.at().read_after(first + 200, count=500)
    assert isinstance(page, Page)
    assert [id for id, _, _ in page.entries] == list(range(first + 201, first + 301))


def test_an_expired_log_keeps_its_head_for_readers_that_had_caught_up(
    teller: LoggedRun, valkey: "redis.Redis"
) -> None:
    head = teller.start()
    valkey.delete(f"{{{teller.channel}}}:events")  # as its expiry does
    assert teller.at().read_after(head) == Page(head=head, entries=[])
    assert teller.at().read_after(head - 1) == CursorGap(reason="expired")
    assert teller.append(teller.delta(0)) == [head + 1]


def test_every_key_of_a_channel_expires(teller: LoggedRun, valkey: "redis.Redis") -> None:
    teller.start()
    teller.append(teller.delta(0))
    assert all(valkey.ttl(key) > 0 for key in valkey.keys("*"))


def test_a_lost_log_begins_an_epoch_above_every_published_id(
    valkey: "redis.Redis",
) -> None:
    clock = Clock()
    teller = LoggedRun(valkey, clock)
    teller.start()
    (heard,) = teller.append(teller.delta(0))
    assert isinstance(heard, int)
    valkey.flushall()
    clock.now += 1_000_000
    assert teller.append(teller.delta(1, min_head=heard)) == ["FenceMissing"]
    teller.at(heard).restore_fence(teller.run, 1, index=1, text="w0 w1 ")
    whole = teller.whole("w0 w1 ", attempt=1, index=2)
    (id,) = teller.log.append([Append(channel=teller.channel, event=whole, min_head=heard)])
    assert isinstance(id, int)
    assert id > heard
    assert teller.at().read_after(heard) == CursorGap(reason="lost")
    assert teller.at().state().runs[teller.run].text == "w0 w1 "


def test_a_reply_cancelled_before_a_new_epoch_repeats_it_keeps_its_text(
    teller: LoggedRun, valkey: "redis.Redis"
) -> None:
    teller.start()
    (heard,) = teller.append(teller.delta(0))
    assert isinstance(heard, int)
    valkey.flushall()
    head = teller.at(heard).restore_fence(teller.run, 1, index=0, text="w0 ")
    said = teller.at().seal(teller.run, 1)
    assert said
    assert said.text == "w0 "
    ending = RunCancelled(run=teller.run, attempt=1, reply=None, usage=USAGE)
    teller.at().append_final(ending, said.text, model="m")
    whole = teller.whole("w0 ", attempt=1, index=1)
    page = teller.at().read_after(head)
    assert isinstance(page, Page)
    assert [decode(type, data) for _, type, data in page.entries] == [whole, ending]


def test_a_released_run_gets_no_fence_again(teller: LoggedRun) -> None:
    teller.start()
    teller.at().seal(teller.run, 1)
    ending = RunCancelled(run=teller.run, attempt=1, reply=None, usage=None)
    head = teller.at().append_final(ending, "", model="m")
    teller.at().release_run(teller.run)
    # The attempt has asked the run's row just before.
    with pytest.raises(Superseded):
        teller.at().restore_fence(teller.run, 1, index=0, text="w0 ")
    assert teller.append(teller.delta(1)) == ["FenceMissing"]
    assert teller.types(head) == []


def test_an_epoch_begins_above_published_ids_with_the_clock_set_back(
    valkey: "redis.Redis",
) -> None:
    clock = Clock()
    teller = LoggedRun(valkey, clock)
    teller.start()
    heard = teller.append(*map(teller.delta, range(50)))[-1]
    assert isinstance(heard, int)
    valkey.flushall()
    clock.now -= 1_000_000
    # Others may have said more than this writer knows, and that was heard, too.
    assert teller.queue(min_head=heard - 20) > heard
    assert teller.at().read_after(heard - 10) == CursorGap(reason="lost")


def test_two_epochs_never_begin_at_the_same_id(
    valkey: "redis.Redis",
) -> None:
    clock = Clock()
    known = LoggedRun(valkey, clock).queue()
    teller = LoggedRun(valkey, clock)
    heard = []
    for _ in range(2):
        valkey.flushall()
        clock.now += 1000
        # Whoever comes first knows what the row notes, and nothing of the life between.
        heard.append(teller.queue(min_head=known))
    assert heard[1] > heard[0]
    assert teller.at().read_after(heard[0]) == CursorGap(reason="lost")


def test_a_lost_tail_is_never_continued(teller: LoggedRun, valkey: "redis.Redis") -> None:
    teller.start()
    ids = teller.append(*map(teller.delta, range(10)))
    heard = ids[-1]
    assert isinstance(heard, int)
    # What a failover to a replica that lagged leaves: everything up to the fifth delta.
    state, events = f"{{{teller.channel}}}:state", f"{{{teller.channel}}}:events"
    valkey.hset(state, mapping={"head": heard - 5, f"{teller.run}:index": 4})
    for id in ids[5:]:
        valkey.xdel(events, f"{id}-0")
    assert teller.append(teller.delta(10, min_head=heard)) == ["FenceMissing"]
    head = teller.at(heard).restore_fence(teller.run, 1, index=10, text="")
    assert head >= heard
    assert teller.at().read_after(heard - 7) == CursorGap(reason="lost")


def test_repairing_a_lost_log_begins_the_epoch_in_which_writers_continue(teller: LoggedRun) -> None:
    assert teller.at(CLOCK + 500).state() is None  # a read changes nothing
    assert teller.at().state() is None
    head = teller.at(CLOCK + 500).repair()
    assert head > CLOCK + 500
    assert teller.at(CLOCK + 500).repair() == head
    assert teller.at(CLOCK + 500).state() == LogState(head=head, runs={}, recorded={})
    assert teller.queue(min_head=CLOCK + 500) == head + 1
    assert teller.types(head) == ["run.queued"]


def test_a_deleted_conversation_is_never_written_again(teller: LoggedRun) -> None:
    teller.start()
    teller.at().delete()
    teller.at().delete()
    assert teller.append(teller.delta(0)) == ["Superseded"]
    with pytest.raises(Superseded):
        teller.queue()


def test_a_published_message_is_the_logs_entry(teller: LoggedRun, valkey: "redis.Redis") -> None:
    with valkey.pubsub() as heard:
        heard.subscribe(teller.channel)
        assert heard.get_message(timeout=5)["type"] == "subscribe"
        id = teller.queue()
        message = heard.get_message(timeout=5)
    page = teller.at().read_after(id - 1)
    assert isinstance(page, Page)
    assert message["data"] == f"{id} run.queued {page.entries[0][2]}"


def test_scripts_that_redis_has_lost_are_loaded_again(
    teller: LoggedRun, valkey: "redis.Redis"
) -> None:
    first = teller.queue()
    valkey.script_flush()
    assert teller.start() == first + 1


def test_an_unreachable_redis_is_log_unavailable() -> None:
    nobody = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2)
    with pytest.raises(LogUnavailable):
        EventLog(Servers(nobody)).channel("conversation-x").state()


def test_a_cancelled_run_without_events_can_end(teller: LoggedRun) -> None:
    teller.queue()
    said = RunProgress(attempt=0, text="", reasoning="")
    assert teller.at().seal(teller.run, 0) == said
    event = RunCancelled(run=teller.run, attempt=0, reply=None, usage=USAGE)
    teller.at().append_final(event, "", model="m")
    assert teller.types(0) == ["run.queued", "run.cancelled"]


def test_a_run_that_ended_between_claim_and_start_never_starts(
    teller: LoggedRun,
) -> None:
    teller.queue()
    teller.at().seal(teller.run, 1)
    event = RunCancelled(run=teller.run, attempt=1, reply=None, usage=USAGE)
    teller.at().append_final(event, "", model="m")
    for forgotten in (False, True):
        if forgotten:
            teller.at().release_run(teller.run)
        with pytest.raises(Superseded):
            teller.start()
    assert teller.types(0) == ["run.queued", "run.cancelled"]


def test_one_run_cannot_append_for_another(teller: LoggedRun) -> None:
    teller.start()
    other: UUID = uuid4()
    event = TextDelta(run=other, attempt=1, index=0, text="mine?")
    (answer,) = teller.log.append([Append(channel=teller.channel, event=event, min_head=0)])
    assert isinstance(answer, FenceMissing)


def test_the_text_of_a_run_in_a_lost_log_is_unknown(teller: LoggedRun) -> None:
    assert teller.at().seal(teller.run, 1) is None


def test_the_final_event_of_a_silent_attempt_repeats_the_text_of_the_one_before(
    teller: LoggedRun,
) -> None:
    start = teller.start()
    teller.append(teller.delta(0, "half"))
    assert teller.at().seal(teller.run, 2) == RunProgress(attempt=2, text="half", reasoning="")
    event = RunCancelled(run=teller.run, attempt=2, reply=uuid4(), usage=USAGE)
    teller.at().append_final(event, "half", model="m")
    page = teller.at().read_after(start)
    assert isinstance(page, Page)
    assert [decode(type, data) for _, type, data in page.entries[1:]] == [
        RunStarted(run=teller.run, attempt=2, model="m"),
        teller.whole("half", attempt=2, index=0),
        event,
    ]


def test_an_attempt_on_another_redis_process_begins_an_epoch(
    valkey: "redis.Redis",
) -> None:
    """Worker and Redis died together: nobody is left who knows of a tail that was lost."""
    clock = Clock()
    teller = LoggedRun(valkey, clock)
    teller.start()
    heard = teller.append(*map(teller.delta, range(5)))[-1]
    assert isinstance(heard, int)
    clock.now += 1_000_000
    second = teller.start(2)
    assert second == heard + 1
    valkey.hset(f"{{{teller.channel}}}:state", "server", "0123456789abcdef")
    handed_over = teller.start(3, min_head=second)  # by one who knew all that was said
    assert handed_over == second + 1
    valkey.hset(f"{{{teller.channel}}}:state", "server", "fedcba9876543210")
    assert teller.start(4, min_head=handed_over, abandoned=True) > handed_over + 1
    valkey.hset(f"{{{teller.channel}}}:state", "server", "0123456789abcdef")
    fourth = teller.start(4)
    assert fourth > handed_over + 1
    assert teller.at().read_after(second) == CursorGap(reason="lost")


def another(valkey: "redis.Redis", teller: LoggedRun) -> None:
    """From now on it is another server, as far as the channel can tell."""
    valkey.hset(f"{{{teller.channel}}}:state", "server", "0123456789abcdef")


def test_on_another_redis_process_only_an_attempt_can_verify_the_log(
    teller: LoggedRun, valkey: "redis.Redis"
) -> None:
    teller.queue()
    teller.start()
    heard = teller.append(teller.delta(0, "So "))[-1]
    assert isinstance(heard, int)
    another(valkey, teller)
    title = ConversationUpdated(title="New", model="m")
    with pytest.raises(LogUnverified):
        teller.at().append_once(title)
    with pytest.raises(LogUnverified):
        teller.at().append_once(RunQueued(run=uuid4(), message=uuid4()), run=uuid4())
    with pytest.raises(LogUnverified):
        teller.at().seal(teller.run, 1, on_unverified=OnUnverified.RAISE)
    teller.verify(heard, attempt=2)
    with pytest.raises(LogUnverified):  # that was another attempt
        teller.at().append_once(title)
    teller.verify(heard)
    assert teller.at().append_once(title) == [heard + 1]
    said = teller.at().seal(teller.run, 1, on_unverified=OnUnverified.RAISE)
    assert said == RunProgress(attempt=1, text="So ", reasoning="")


def test_on_another_redis_process_a_seal_without_attempt_begins_an_epoch(
    teller: LoggedRun, valkey: "redis.Redis"
) -> None:
    teller.queue()
    teller.start()
    heard = teller.append(teller.delta(0, "So "))[-1]
    assert isinstance(heard, int)
    another(valkey, teller)
    said = teller.at().seal(teller.run, 1, on_unverified=OnUnverified.NEW_EPOCH)
    assert said == RunProgress(attempt=1, text="So ", reasoning="")
    assert teller.append_final("So ") > heard + 1
    assert teller.at().read_after(heard) == CursorGap(reason="lost")


def test_an_attempt_that_verifies_detects_a_lost_tail(
    teller: LoggedRun, valkey: "redis.Redis"
) -> None:
    teller.start()
    heard = teller.append(teller.delta(0, "So "))[-1]
    assert isinstance(heard, int)
    another(valkey, teller)
    teller.verify(heard + 3)
    assert teller.at().read_after(heard) == CursorGap(reason="lost")
    assert teller.append(teller.delta(1, "it")) == ["FenceMissing"]


def test_a_repeated_append_costs_about_as_much_as_the_first(
    teller: LoggedRun, valkey: "redis.Redis"
) -> None:
    """A writer that was not answered in time offers up to 256 pieces again, on a full log."""

    def spent() -> int:
        return int(valkey.info("commandstats")["cmdstat_evalsha"]["usec"])

    teller.start()
    for first in range(0, 20_000, 500):
        teller.append(*map(teller.delta, range(first, first + 500)))
    pieces = [teller.delta(index) for index in range(20_000, 20_256)]
    before = spent()
    ids = teller.append(*pieces)
    between = spent()
    assert teller.append(*pieces) == ids
    assert spent() - between < 20 * (between - before)


@pytest.mark.parametrize("long", [3_000, 70_000, 400_000])
def test_a_page_is_bounded_by_its_bytes_and_pages_miss_nothing(
    valkey: "redis.Redis", long: int
) -> None:
    teller = LoggedRun(valkey)
    cursor = teller.queue()
    teller.start()
    texts = [f"{n} " + "é" * (long if n % 3 else 10) for n in range(40)]
    teller.append(*(teller.delta(n, text) for n, text in enumerate(texts)))
    heard, pages = [], []
    last = False
    while not last:
        page = teller.at().read_after(cursor, count=100)
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
    teller = LoggedRun(valkey)
    cursor = teller.start()
    long, short = "x" * (PAGE_BYTES + 1), "y"
    teller.append(teller.delta(0, long), teller.delta(1, short))
    pages = []
    for n in range(2):
        page = teller.at().read_after(cursor + n)
        assert isinstance(page, Page)
        pages.append((len(page.entries), page.last))
    assert pages == [(1, False), (1, True)]


def test_a_page_that_ends_at_the_head_is_marked_as_last(valkey: "redis.Redis") -> None:
    teller = LoggedRun(valkey)
    cursor = teller.start()
    teller.append(*(teller.delta(n) for n in range(40)))
    for count, last in ((16, False), (39, False), (40, True), (500, True)):
        page = teller.at().read_after(cursor, count=count)
        assert isinstance(page, Page)
        assert (len(page.entries), page.last) == (min(count, 40), last)
