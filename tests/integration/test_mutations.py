"""The proof of the proofs: take out what keeps a promise, and a named check turns red.

Each check is one that passes on the service as it is: another test of this ring, called by its
name, or one of the short stories below. docs/proofs.md carries the table, and is compared with it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from django.db.models import Q

from streams.chat import finish, leases, sweep
from streams.delivery import replay
from streams.delivery.follower import Follower
from streams.delivery.hub import ChannelBuffer
from streams.delivery.open_streams import OpenStreams
from streams.log.errors import LogUnavailable
from streams.log.event_log import EventLog, the_log
from streams.log.scripts import PRELUDE, SCRIPTS, Script
from streams.models import from_now
from streams.protocol.events import Heartbeat
from streams.protocol.sse import encode_frame
from tests.integration import (
    test_dispatch,
    test_event_log,
    test_fair_share,
    test_follower,
    test_leases,
    test_lost_history,
    test_publishing,
)
from tests.integration.support.listener import Listener, Time
from tests.integration.test_event_log import Teller
from tests.integration.test_follower import Told
from workers import lease, log_writer

pytestmark = pytest.mark.django_db(transaction=True)
PROOFS = Path(__file__).resolve().parents[2] / "docs" / "proofs.md"
OF_OTHERS = (
    test_lost_history.TestWordsOfOthers.test_a_question_is_missed_before_the_reply_goes_on,
    test_lost_history.TestWordsOfOthers.test_an_ending_is_missed_before_the_reply_goes_on,
)
RED = (AssertionError, pytest.fail.Exception, LogUnavailable)
Check = Callable[..., Any]


class Story:
    """A run that a test tells, and a reader who has heard of its start."""

    def __init__(self, told: Told, reader: Listener, valkey: redis.Redis) -> None:
        self.told = told
        self.reader = reader
        self._valkey = valkey
        self._pubsub = valkey.pubsub()
        self._pubsub.subscribe(told.channel)
        assert self._pubsub.get_message(timeout=5)["type"] == "subscribe"

    async def say(self, count: int) -> None:
        """Say so many deltas; their announcements wait before the reader's door."""
        await sync_to_async(self.told.say)(count)
        for _ in range(count):
            message = await asyncio.to_thread(self._pubsub.get_message, timeout=5)
            self.reader.inbox.append(message["data"])

    def lose(self, last: int) -> None:
        """The log's last event was not yet copied to the server that goes on."""
        state, events = f"{{{self.told.channel}}}:state", f"{{{self.told.channel}}}:events"
        self._valkey.xdel(events, f"{last}-0")
        self._valkey.hdel(state, f"{self.told.run.id}:final")
        self._valkey.hset(state, "head", last - 1)

    def heard(self) -> list[int]:
        """Which deltas the reader has heard since the run's start, from 1."""
        assert not self.reader.broken, self.reader.broken
        return [id - self.told.first for id in self.reader.history]

    def close(self) -> None:
        self._pubsub.close()


@asynccontextmanager
async def following(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Story]:
    told = await sync_to_async(Told)()
    time = Time(monkeypatch)
    reader = Listener(told.conversation.id, time, cursor=told.first)
    story = Story(told, reader, valkey)
    await reader.come()
    try:
        yield story
    finally:
        await reader.leave()
        story.close()


async def announcements_that_come_late_are_not_heard_twice(story: Story) -> None:
    await story.say(3)
    await story.reader.leave()
    late, story.reader.inbox = story.reader.inbox, []
    await story.reader.come()
    story.reader.inbox = late
    await story.say(1)
    await story.reader.hear([True] * 4)
    assert story.heard() == [1, 2, 3, 4]


async def an_announcement_that_never_comes_is_healed_at_the_next(story: Story) -> None:
    await story.say(3)
    await story.reader.hear([True, False, True])
    assert story.heard() == [1, 2, 3]


async def what_was_said_while_the_subscription_was_gone_is_heard_when_it_is_back(
    story: Story,
) -> None:
    await story.say(1)
    await story.reader.hear([True])
    await story.say(2)
    await story.reader.cut()
    assert story.heard() == [1, 2, 3]


async def a_last_announcement_that_never_comes_is_healed_by_the_heartbeat(story: Story) -> None:
    await story.say(2)
    await story.reader.hear([True, False])
    await story.reader.catch_up()
    assert story.heard() == [1, 2]


async def an_ending_that_a_failover_lost_is_missed(story: Story) -> None:
    """What the replica has is the log up to the last word; the ending was noted in the row."""
    await story.say(1)
    await story.reader.hear([True])
    ending = await sync_to_async(story.told.complete)()
    await asyncio.to_thread(story.lose, ending)
    await story.reader.cut()
    assert story.reader.resets == ["lost"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What keeps a promise, how it is taken out, and the checks that must turn red without it."""

    name: str
    promise: str
    taken_out: Callable[[pytest.MonkeyPatch], None]
    checks: tuple[Check, ...]


def script(*changes: tuple[str, str]) -> Callable[[pytest.MonkeyPatch], None]:
    """The scripts with these words changed: each stands once in one script, or in the prelude."""

    def take_out(patch: pytest.MonkeyPatch) -> None:
        for old, new in changes:
            found = {name: s.text for name, s in SCRIPTS.items() if old in s.text}
            assert len(found) == (len(SCRIPTS) if old in PRELUDE else 1), f"where is {old!r}?"
            for name, text in found.items():
                assert text.count(old) == 1, f"{name}.lua no longer has {old!r} once"
                patch.setitem(SCRIPTS, name, Script(text.replace(old, new)))

    return take_out


def hears_whatever_comes(self: ChannelBuffer, cursor: int) -> list[bytes] | None:
    if not self._blocks or cursor >= self.last:
        return []
    return None if cursor < self._first - 1 else list(self._blocks)


def takes_a_gap_for_the_next(self: ChannelBuffer, cursor: int) -> list[bytes] | None:
    if not self._blocks or cursor >= self.last:
        return []
    return self._blocks[max(0, cursor + 1 - self._first) :]


def comes_back_as_if_nothing_had_been(self: ChannelBuffer) -> None:
    self.connected, self.subscription = True, 1
    self.wake()


async def beats_without_looking(self: Follower, feed: ChannelBuffer) -> bytes:
    return encode_frame(Heartbeat(head=self._cursor))


PARTS = [
    Part(
        name="id comparison (`ChannelBuffer.after`)",
        promise="1, no repeat where replay and live meet",
        taken_out=lambda patch: patch.setattr(ChannelBuffer, "after", hears_whatever_comes),
        checks=(announcements_that_come_late_are_not_heard_twice,),
    ),
    Part(
        name="heal on a gap (`ChannelBuffer.after` sends to the log)",
        promise="1, no gap",
        taken_out=lambda patch: patch.setattr(ChannelBuffer, "after", takes_a_gap_for_the_next),
        checks=(
            an_announcement_that_never_comes_is_healed_at_the_next,
            test_follower.test_an_announcement_that_never_came_is_healed_at_the_next,
        ),
    ),
    Part(
        name="heal on reconnect (`ChannelBuffer.subscribed` counts)",
        promise="1, whatever happens to the subscription",
        taken_out=lambda patch: patch.setattr(
            ChannelBuffer, "subscribed", comes_back_as_if_nothing_had_been
        ),
        checks=(what_was_said_while_the_subscription_was_gone_is_heard_when_it_is_back,),
    ),
    Part(
        name="heal at the heartbeat (`Follower._heartbeat`)",
        promise="1, a deaf subscription lasts seconds",
        taken_out=lambda patch: patch.setattr(Follower, "_heartbeat", beats_without_looking),
        checks=(a_last_announcement_that_never_comes_is_healed_by_the_heartbeat,),
    ),
    Part(
        name="the fence is asked (`append`)",
        promise="5, one writer",
        taken_out=script(
            ("if refused then return {refused} end\n", ""),
            ("if not field(run .. ':attempt') then return {'fence_missing'} end\n", ""),
        ),
        checks=(
            test_event_log.test_a_delta_without_a_fence_is_refused,
            test_event_log.test_one_run_cannot_speak_for_another,
        ),
    ),
    Part(
        name="an older attempt is refused (`refusal`)",
        promise="5, nothing of an older attempt after a newer one",
        taken_out=script(("tonumber(fence) ~= attempt or sealed", "sealed")),
        checks=(
            test_event_log.test_a_superseded_attempt_is_refused_and_the_newer_one_starts_its_text_anew,
            test_publishing.TestTheFence.test_an_older_attempt_is_not_heard_after_a_newer_one,
        ),
    ),
    Part(
        name="the fence is closed at an ending (`refusal`)",
        promise="5 and 7, nothing after the ending",
        taken_out=script(("tonumber(fence) ~= attempt or sealed", "tonumber(fence) ~= attempt")),
        checks=(test_event_log.test_nothing_follows_a_closed_fence_or_an_ending,),
    ),
    Part(
        name="a repeated delta gets the id that it has (`append`)",
        promise="1, no repeat when an answer of Redis is lost",
        taken_out=script(
            ("if index <= last then return {'ok', id_of_delta(last - index)} end\n", "")
        ),
        checks=(
            test_event_log.test_whatever_is_said_again_gets_the_id_that_it_has_and_adds_nothing,
        ),
    ),
    Part(
        name="what is said once gets the id that it has (`append_once`)",
        promise="6, a question is said once",
        taken_out=script(
            ("local before = once ~= '' and field(run .. ':' .. once)", "local before = nil")
        ),
        checks=(
            test_event_log.test_whatever_is_said_again_gets_the_id_that_it_has_and_adds_nothing,
            test_publishing.TestAskingIsNeverLost.test_killed_between_the_saying_and_its_note,
        ),
    ),
    Part(
        name="an ending is said once (`append_final`)",
        promise="4, exactly one ending",
        taken_out=script(("local before = field(run .. ':final')", "local before = nil")),
        checks=(
            test_event_log.test_whatever_is_said_again_gets_the_id_that_it_has_and_adds_nothing,
            test_event_log.test_a_settled_run_is_said_no_second_time,
        ),
    ),
    Part(
        name="the text said is the text stored (`append_final`)",
        promise="4, the law",
        taken_out=script(
            (
                "(redis.call('GET', text) or '') ~= stored or "
                "(stored ~= '' and (text_attempt ~= attempt or unpublished))",
                "false",
            )
        ),
        checks=(test_event_log.test_the_text_said_is_the_text_stored,),
    ),
    Part(
        name="a lost tail begins a new life (`ensure_epoch`)",
        promise="2, never another life's events under an old cursor",
        taken_out=script(("at > 0 and at >= min_head", "at > 0")),
        checks=(test_event_log.test_a_lost_tail_is_never_continued,),
    ),
    Part(
        name="what the row notes is compared with the log (`recorded_head`)",
        promise="2, loud when it cannot: also where nobody writes",
        taken_out=lambda patch: patch.setattr(replay, "recorded_head", lambda _: 0),
        checks=(an_ending_that_a_failover_lost_is_missed,),
    ),
    Part(
        name="a new life is above all that was heard (`begin_epoch`)",
        promise="2, with the clock a second back",
        taken_out=script(("math.max(now, above + MARGIN + now % MARGIN)", "now")),
        checks=(
            test_event_log.test_a_new_life_stays_above_what_was_heard_with_the_clock_a_second_back,
        ),
    ),
    Part(
        name="two lives never begin at one id (`begin_epoch`)",
        promise="2, where histories are lost within a second",
        taken_out=script((" + now % MARGIN", "")),
        checks=(
            test_event_log.test_a_life_that_begins_where_another_was_lost_at_once_is_not_taken_for_it,
        ),
    ),
    Part(
        name="another server process begins a new life (`append_start`)",
        promise="2, where worker and Redis die together",
        taken_out=script(("(field('server') or here) ~= here", "false")),
        checks=(test_event_log.test_a_next_attempt_on_another_redis_begins_a_new_life,),
    ),
    Part(
        name="another server process is doubted (`unverified_run`)",
        promise="2, where Redis fails over in mid-reply",
        taken_out=script(
            ("if not verified or verified == server_id() then return nil end", "do return nil end")
        ),
        checks=(
            test_event_log.test_on_another_redis_only_an_attempt_can_say_that_no_tail_is_lost,
            test_event_log.test_on_another_redis_what_is_left_without_an_attempt_begins_a_new_life,
        ),
    ),
    Part(
        name="an attempt says how far it has come (`verify`)",
        promise="2, where Redis fails over in mid-reply",
        taken_out=lambda patch: patch.setattr(EventLog, "verify", lambda *_: None),
        checks=(
            test_event_log.test_on_another_redis_only_an_attempt_can_say_that_no_tail_is_lost,
            test_event_log.test_an_attempt_that_confirms_notices_what_is_lost,
        ),
    ),
    Part(
        name="others' words are doubted before a reply goes on (`append`)",
        promise="2, where Redis fails over in mid-reply",
        taken_out=script(
            ("if field('server') ~= server_id() then return {'unverified'} end\n", "")
        ),
        checks=OF_OTHERS,
    ),
    Part(
        name="what others said stands in the row (`verify`)",
        promise="2, where Redis fails over in mid-reply",
        taken_out=lambda patch: patch.setattr(log_writer, "verify", lambda r: the_log().verify(r)),
        checks=OF_OTHERS,
    ),
    Part(
        name="an ending is doubted where another reply's tail may be lost (`append_final`)",
        promise="2, where Redis fails over in mid-reply",
        taken_out=script(("if open and open ~= run then return {'unverified'} end\n", "")),
        checks=(
            test_lost_history.TestWordsOfOthers.test_are_not_given_the_ids_of_a_reply_that_lost_its_tail,
        ),
    ),
    Part(
        name="of an attempt that was abandoned nobody knows how far it came (`append_start`)",
        promise="2, where worker and Redis die together",
        taken_out=script(("(abandoned or at ~= min_head)", "at ~= min_head")),
        checks=(
            test_lost_history.TestWordsOfOthers.test_who_takes_over_from_the_dead_gives_no_id_of_theirs_again,
        ),
    ),
    Part(
        name="a start that was never said comes before the whole text (`append_final`)",
        promise="5, nothing of an attempt before its start",
        taken_out=script(("then append_event(start_type, start) end", "then local _ = start end")),
        checks=(test_lost_history.test_a_cancel_between_claim_and_start_is_told_in_order,),
    ),
    Part(
        name="a cursor before this life is torn (`read_after`)",
        promise="2, loud when it cannot",
        taken_out=script(("elseif cursor < epoch_start - 1 then", "elseif false then")),
        checks=(
            test_event_log.test_a_new_life_stays_above_what_was_heard_with_the_clock_a_second_back,
        ),
    ),
    Part(
        name="a cursor before what is kept is torn (`read_after`)",
        promise="2, loud when it cannot",
        taken_out=script(("elseif cursor < first - 1 then", "elseif false then")),
        checks=(test_event_log.test_a_trimmed_log_says_expired_and_its_rest_is_good,),
    ),
    Part(
        name="a deleted conversation stays gone (`deleted`)",
        promise="8, never written again",
        taken_out=script(("if field('deleted') then return {'deleted'} end", "")),
        checks=(test_event_log.test_a_deleted_conversation_is_never_written_again,),
    ),
    Part(
        name="sixteen digits are written in full (`digits`)",
        promise="1, ids ascend by one",
        taken_out=script(("string.format('%.0f', n)", "tostring(n)")),
        checks=(test_event_log.test_ids_ascend_by_one_from_the_clock_and_are_written_in_full,),
    ),
    Part(
        name="a sweep asks how many tasks wait (`queue_length`)",
        promise="9, one task a waiting run",
        taken_out=lambda patch: patch.setattr(sweep, "queue_length", lambda _: 0),
        checks=(
            test_dispatch.test_without_a_worker_the_queue_holds_one_task_for_each_waiting_run,
            test_dispatch.test_a_sweep_sends_as_many_as_are_missing_and_the_oldest_first,
        ),
    ),
    Part(
        name="an update decides which process sends a task (`_dispatch_waiting`)",
        promise="9, one task a waiting run",
        taken_out=lambda patch: patch.setattr(sweep, "passed", lambda *_: Q()),
        checks=(
            test_dispatch.test_what_another_process_sends_between_a_sweeps_looks_is_not_sent_again,
        ),
    ),
    Part(
        name="a claim is refused beyond its owner's share (`has_room`)",
        promise="9, places are given in turn",
        taken_out=lambda patch: patch.setattr(lease, "has_room", lambda *_: True),
        checks=(
            test_fair_share.test_a_new_owner_finds_a_place_beside_one_who_wants_all,
            test_fair_share.test_a_refused_run_is_dispatched_as_soon_as_one_of_its_owners_ends,
        ),
    ),
    Part(
        name="an ending dispatches what was refused (`dispatch_refused`)",
        promise="9, places are given in turn",
        taken_out=lambda patch: patch.setattr(finish, "dispatch_refused", lambda _: None),
        checks=(
            test_fair_share.test_a_refused_run_is_dispatched_as_soon_as_one_of_its_owners_ends,
        ),
    ),
    Part(
        name="a task whose run is over begins another (`next_without_place`)",
        promise="9, no wait for tasks that are out of date",
        taken_out=lambda patch: patch.setattr(lease, "next_without_place", lambda _: None),
        checks=(test_dispatch.test_a_task_of_a_run_that_is_over_begins_a_new_question,),
    ),
    Part(
        name="a lease holds no longer than its length (`leases`)",
        promise="6, whatever happens to the clock",
        taken_out=lambda patch: patch.setattr(leases, "_latest_end", lambda: from_now(1e6)),
        checks=(test_leases.test_a_lease_that_ends_later_than_it_could_has_ended,),
    ),
]

STORIES = [check for part in PARTS for check in part.checks if check.__module__ == __name__]
PAIRS = [(part, check) for part in PARTS for check in part.checks]


async def carry_out(
    check: Check, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Run the check with whatever it asks for, as pytest would."""
    wanted = inspect.signature(check).parameters
    brought: dict[str, Any] = {"valkey": valkey, "monkeypatch": monkeypatch, "settings": settings}
    if "story" in wanted:
        async with following(valkey, monkeypatch) as story:
            await check(story)
        return
    if "teller" in wanted:
        brought["teller"] = Teller(valkey)
    if "self" in wanted:
        brought["self"] = getattr(inspect.getmodule(check), check.__qualname__.partition(".")[0])()
    if "crowd" in wanted:
        brought["crowd"] = OpenStreams()
    given = {name: brought[name] for name in wanted}
    try:
        if inspect.iscoroutinefunction(check):
            await check(**given)
        else:
            await sync_to_async(partial(check, **given))()
    finally:
        if "crowd" in given:
            await given["crowd"].close()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_as_it_is_every_story_ends_well(
    story: Check, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    await carry_out(story, valkey, monkeypatch, settings)


@pytest.mark.parametrize(
    ("part", "check"), PAIRS, ids=[f"{part.name}, {check.__name__}" for part, check in PAIRS]
)
async def test_without_this_part_that_check_is_red(
    part: Part,
    check: Check,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    part.taken_out(monkeypatch)
    with pytest.raises(RED):
        await carry_out(check, valkey, monkeypatch, settings)


def test_the_proofs_on_paper_are_these() -> None:
    assert table() in PROOFS.read_text()


def table() -> str:
    """What docs/proofs.md says of these parts."""
    lines = ["| promise | what keeps it | what turns red without it |", "|---|---|---|"]
    for part in PARTS:
        checks = "<br>".join(f"`{place_of(check)}`" for check in part.checks)
        lines.append(f"| {part.promise} | {part.name} | {checks} |")
    return "\n".join(lines)


def place_of(check: Check) -> str:
    return f"{check.__module__.rpartition('.')[2]}: {check.__qualname__.rpartition('.')[2]}"
