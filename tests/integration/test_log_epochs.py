"""The epochs of a log: when one begins, where, and what is verified before."""

from uuid import uuid4

import pytest
import redis

from streams.log.errors import LogUnverified
from streams.log.values import CursorGap, LogState, OnUnverified, Page
from streams.protocol.events import ConversationUpdated, RunCancelled, RunQueued
from streams.protocol.parts import text_parts
from streams.protocol.sse import decode
from tests.integration.support.logged_run import CLOCK, USAGE, Clock, LoggedRun
from tests.support.appends import snapshot_append


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


def test_the_text_of_a_run_in_a_lost_log_is_unknown(logged: LoggedRun) -> None:
    assert not logged.at().seal(logged.run, 1).known


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
