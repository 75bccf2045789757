"""An attempt whose log is lost, or whose run is another's, while it writes."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.db.models.functions import Now

from streams.chat import finish
from streams.chat.snapshot import snapshot
from streams.log.channel_log import ChannelLog
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable
from streams.log.event_log import EventLog, log_of, the_log
from streams.log.values import Page
from streams.models import Run
from streams.protocol.sse import decode
from tests.integration.support.attempt_runs import WINDOW, asked, heard, heard_from, says
from tests.integration.support.written_runs import until, write_in_thread
from tests.support.fold import ConversationState, fold
from tests.support.script import pieces, script_of
from workers import reply_writer
from workers.lease import claim, still_held
from workers.reply_items import Completion, ReplyItem
from workers.reply_source import Reply
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)


def since_the_loss(run: Run, valkey: "redis.Redis") -> Page:
    """The events of the epoch that began when the log was lost."""
    channel = channel_of(run.conversation_id)
    begins = int(valkey.hget(f"{{{channel}}}:state", "epoch_start"))
    page = the_log().channel(channel).read_after(begins - 1)
    assert isinstance(page, Page)
    return page


@WINDOW
def test_a_log_lost_during_a_reply_gets_the_whole_text_again(
    process: Runtime, valkey: "redis.Redis"
) -> None:
    run, text = asked(tokens=60, rate=60)
    thread = write_in_thread(run, process)
    until(says(run, 10))
    valkey.flushall()
    thread.join(20)
    run.refresh_from_db()
    assert run.reply
    assert run.reply.content == text
    now = snapshot(run.conversation)
    assert now.runs == ()
    page = since_the_loss(run, valkey)
    assert page.entries[0][1] == "text.snapshot"
    assert heard_from(page, run) == text


@WINDOW
def test_a_lost_log_gets_the_whole_text_before_the_next_delta(
    process: Runtime, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    run, text = asked(tokens=60, rate=60)
    fence, unanswered = ChannelLog.restore_fence, [True, True]

    def fence_and_say_nothing(log: ChannelLog, *args: Any, **kwargs: Any) -> int:
        head = fence(log, *args, **kwargs)
        if unanswered and unanswered.pop():
            raise LogUnavailable  # it is set all the same
        return head

    monkeypatch.setattr(ChannelLog, "restore_fence", fence_and_say_nothing)
    thread = write_in_thread(run, process)
    until(says(run, 10))
    valkey.flushall()
    thread.join(20)
    assert unanswered == []
    page = since_the_loss(run, valkey)
    assert page.entries[0][1] == "text.snapshot"
    assert heard_from(page, run) == text


@WINDOW
def test_nothing_follows_a_cancel_while_the_fence_is_restored(
    process: Runtime, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = asked(tokens=1000, rate=50)
    asks: list[bool] = []

    def mine_and_stopped(held: Run) -> bool:
        asks.append(still_held(held))
        if len(asks) == 2:  # the fence is there, and the row has just been asked again
            finish.cancel(run.id)
        return asks[-1]

    monkeypatch.setattr(reply_writer, "still_held", mine_and_stopped)
    thread = write_in_thread(run, process)
    until(says(run, 3))
    valkey.flushall()
    thread.join(60)
    # The cancel runs in another thread than the attempt, which may end before the cancel does.
    until(lambda: Run.objects.get(pk=run.pk).ended_event_id)
    run.refresh_from_db()
    assert run.reply
    assert run.reply.content.count(" ") >= 3
    head = log_of(run.conversation_id).state().head
    last = log_of(run.conversation_id).last()
    assert asks[:2] == [True, True]
    assert last
    assert (run.status, last[:2]) == ("cancelled", (head, "run.cancelled"))


def test_a_log_lost_after_the_last_delta_ends_with_the_whole_text(
    process: Runtime, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    run, text = asked(tokens=10)
    commit = finish.store

    def commit_and_lose(*args: Any, **kwargs: Any) -> None:
        commit(*args, **kwargs)
        valkey.flushall()

    monkeypatch.setattr(finish, "store", commit_and_lose)
    generate(run.id, process)
    page = since_the_loss(run, valkey)
    assert [type for _, type, _ in page.entries] == ["text.snapshot", "run.completed"]
    assert heard_from(page, run) == text


@WINDOW
def test_a_superseded_worker_publishes_nothing_more(process: Runtime) -> None:
    run, _ = asked(tokens=100, rate=50)
    thread = write_in_thread(run, process)
    until(says(run, 10))
    Run.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))
    taken = claim(run.id, uuid4())
    assert taken
    log_of(run.conversation_id).seal(run.id, 2)
    thread.join(60)
    assert not thread.is_alive()
    run.refresh_from_db()
    assert (run.status, run.attempt) == ("running", 2)


@WINDOW
def test_reasoning_and_text_are_published_again_in_one_snapshot(
    process: Runtime, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    run, text = asked(tokens=60, rate=60, reasoning=50)
    thread = write_in_thread(run, process)
    until(says(run, 10))
    valkey.flushall()
    thread.join(20)
    page = since_the_loss(run, valkey)
    known = ConversationState()
    for _, type, data in page.entries:
        known = fold(known, decode(type, data))
    told = "".join(script_of(run.message.content).thoughts())
    assert (known.replies[run.id].reasoning, known.replies[run.id].text) == (told, text)
    kinds = [type for _, type, _ in page.entries]
    assert (kinds[0], kinds.count("text.snapshot")) == ("text.snapshot", 1)


@WINDOW
def test_a_reply_that_waits_for_redis_is_not_too_long(
    process: Runtime, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RUN_TIMEOUT = 1.0
    run, text = asked(tokens=5)
    said = pieces(run.message.content)
    append, appended_at = EventLog.append, list[float]()

    async def items() -> AsyncGenerator[ReplyItem, None]:
        for piece in said:
            yield piece
        yield Completion("stop", None)

    def away_at_first(log: EventLog, appends: Any) -> Any:
        appended_at.append(monotonic())
        if monotonic() < appended_at[0] + 2 * settings.RUN_TIMEOUT:
            raise LogUnavailable
        return append(log, appends)

    # Not the model server: on a busy machine, to read it could take longer than RUN_TIMEOUT.
    process.source = lambda *_, **__: Reply(items=items(), has_returned=lambda _: True)
    monkeypatch.setattr(EventLog, "append", away_at_first)
    generate(run.id, process)
    run.refresh_from_db()
    assert (run.status, run.code) == ("completed", "")
    assert heard(run)[0] == text
