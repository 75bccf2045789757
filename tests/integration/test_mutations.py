"""Proofs of the tests: without the guard of a promise, the named checks fail.

A guard is the code that keeps a promise; each test here removes one guard. A check passes on the
whole service: it is another integration test, run by its name, or a story below. docs/proofs.md
has the table of guards and checks. To write it, run this module with WRITE_PROOFS=1.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import sys
import textwrap
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
from django.http import HttpRequest

from config import socket_connection
from config.connection import HttpConnection
from config.socket_connection import SocketConnection
from streams.access import authentication
from streams.chat import final_events, finish, leases, publisher, sweep
from streams.chat.final_events import missing_events
from streams.chat.model_names import Kind, names
from streams.chat.turns import NewRun
from streams.database_time import from_now
from streams.delivery import replay
from streams.delivery.channel_buffer import ChannelBuffer
from streams.delivery.channel_reader import ChannelReader
from streams.delivery.follower import Follower
from streams.delivery.open_streams import OpenStream, OpenStreams
from streams.dialects import websocket, websocket_api
from streams.dialects.websocket import Socket
from streams.dialects.websocket_api import check_origin
from streams.log import servers
from streams.log.errors import LogUnavailable
from streams.log.event_log import EventLog, the_log
from streams.log.library import Library
from streams.log.values import SealedReply
from streams.models import Run
from streams.protocol.events import RunStarted
from streams.protocol.sse import encode_frame
from streams.protocol.stream_frames import Heartbeat
from tests.integration.support.listener import ManualClock, SteppedReader
from tests.integration.support.logged_run import LoggedRun
from tests.integration.support.named_tests import find_test
from tests.integration.support.published_run import PublishedRun
from tests.integration.support.stepped_reply import SteppedReplies
from tests.integration.support.written_runs import worker_process
from workers import lease, log_writer
from workers.attempt import Attempt
from workers.delta_window import HeldText
from workers.reply_writer import ReplyWriter

pytestmark = pytest.mark.django_db(transaction=True)
HEAD = "| promise | what keeps it | what fails without it |\n|---|---|---|\n"
TABLE = re.compile(re.escape(HEAD) + r"(?:\|.*\n)*")
PROOFS = Path(__file__).resolve().parents[2] / "docs" / "proofs.md"
LOST_EVENTS = (
    "test_lost_history: TestOtherEvents.test_a_lost_message_is_detected_before_the_next_delta",
    "test_lost_history: TestOtherEvents.test_a_lost_final_event_is_detected_before_the_next_delta",
)
FAILURES = (AssertionError, pytest.fail.Exception, LogUnavailable)
Check = str | Callable[..., Any]  # a test of another module by its name, or a story below


class Story:
    """A run that a test publishes, and a reader that has received its start."""

    def __init__(self, run: PublishedRun, reader: SteppedReader, valkey: redis.Redis) -> None:
        self.run = run
        self.reader = reader
        self._valkey = valkey
        self._pubsub = valkey.pubsub()
        self._pubsub.subscribe(run.channel)
        assert self._pubsub.get_message(timeout=5)["type"] == "subscribe"

    async def publish(self, count: int) -> None:
        """Publish `count` deltas; their messages wait in the reader's inbox."""
        await sync_to_async(self.run.publish_deltas)(count)
        for _ in range(count):
            message = await asyncio.to_thread(self._pubsub.get_message, timeout=5)
            self.reader.inbox.append(message["data"])

    def lose(self, last: int) -> None:
        """Remove the last event, as a failover to a server that had not copied it does."""
        state, events = f"{{{self.run.channel}}}:state", f"{{{self.run.channel}}}:events"
        self._valkey.xdel(events, f"{last}-0")
        self._valkey.hdel(state, f"{self.run.run.id}:final")
        self._valkey.hset(state, "head", last - 1)

    def deltas(self) -> list[int]:
        """The numbers of the deltas that the reader has received, from 1."""
        assert not self.reader.violations, self.reader.violations
        return [id - self.run.first for id in self.reader.history]

    def close(self) -> None:
        self._pubsub.close()


@asynccontextmanager
async def following(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Story]:
    run = await sync_to_async(PublishedRun)()
    time = ManualClock(monkeypatch)
    reader = SteppedReader(run.conversation.id, time, cursor=run.first)
    story = Story(run, reader, valkey)
    await reader.connect()
    try:
        yield story
    finally:
        await reader.disconnect()
        story.close()


async def late_messages_are_not_delivered_twice(story: Story) -> None:
    await story.publish(3)
    await story.reader.disconnect()
    late, story.reader.inbox = story.reader.inbox, []
    await story.reader.connect()
    story.reader.inbox = late
    await story.publish(1)
    await story.reader.deliver([True] * 4)
    assert story.deltas() == [1, 2, 3, 4]


async def a_lost_message_is_recovered_at_the_next_one(story: Story) -> None:
    await story.publish(3)
    await story.reader.deliver([True, False, True])
    assert story.deltas() == [1, 2, 3]


async def events_during_a_lost_subscription_are_delivered_afterwards(
    story: Story,
) -> None:
    await story.publish(1)
    await story.reader.deliver([True])
    await story.publish(2)
    await story.reader.cut_subscription()
    assert story.deltas() == [1, 2, 3]


async def a_lost_last_message_is_recovered_at_the_heartbeat(story: Story) -> None:
    await story.publish(2)
    await story.reader.deliver([True, False])
    await story.reader.catch_up()
    assert story.deltas() == [1, 2]


async def a_final_event_lost_by_a_failover_is_reported(story: Story) -> None:
    """The replica has the log up to the last delta; the row has the final event's id."""
    await story.publish(1)
    await story.reader.deliver([True])
    ending = await sync_to_async(story.run.complete)()
    await asyncio.to_thread(story.lose, ending)
    await story.reader.cut_subscription()
    assert story.reader.resets == ["lost"]


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Code that keeps a promise, a function that removes it, and the checks that then fail."""

    name: str
    promise: str
    remove: Callable[[pytest.MonkeyPatch], None]
    checks: tuple[Check, ...]


def script(*changes: tuple[str, str]) -> Callable[[pytest.MonkeyPatch], None]:
    """Change the operations' text. Each old text stands there once."""

    def remove_text(patch: pytest.MonkeyPatch) -> None:
        text = servers.LIBRARY.operations
        for old, new in changes:
            assert text.count(old) == 1, f"the library no longer has {old!r} once"
            text = text.replace(old, new)
        patch.setattr(servers, "LIBRARY", Library(text))

    return remove_text


def source(owner: type, name: str, old: str, new: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Change the text of a method. The old text is in it once."""

    def remove_text(patch: pytest.MonkeyPatch) -> None:
        text = textwrap.dedent(inspect.getsource(getattr(owner, name)))
        assert text.count(old) == 1, f"{name} no longer has {old!r} once"
        made: dict[str, Any] = {}
        exec(text.replace(old, new), vars(sys.modules[owner.__module__]), made)
        patch.setattr(owner, name, made[name])

    return remove_text


def deliver_every_frame(self: ChannelBuffer, cursor: int) -> list[bytes] | None:
    if not self._blocks or cursor >= self.last:
        return []
    return None if cursor < self._first - 1 else list(self._blocks)


def ignore_a_gap(self: ChannelBuffer, cursor: int) -> list[bytes] | None:
    if not self._blocks or cursor >= self.last:
        return []
    return self._blocks[max(0, cursor + 1 - self._first) :]


def reconnect_without_a_new_subscription(self: ChannelBuffer) -> None:
    self.connected, self.subscription = True, 1
    self.wake()


def take_any_event(self: ChannelReader, _: int) -> bool:
    return True


async def send_an_unchecked_heartbeat(self: Follower, events: ChannelReader) -> bytes:
    return encode_frame(Heartbeat(head=events.cursor))


async def read_for_oneself(self: Follower, events: ChannelReader) -> bytes:
    page = await events.read()
    return page.joined if page else b""


def missing_events_of(instead: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Another answer of `missing_events`, wherever it is called."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(publisher, "missing_events", instead)
        patch.setattr(final_events, "missing_events", instead)

    return remove


def without_the_start(run: Run, sealed: SealedReply) -> list[Any]:
    events = missing_events(run, sealed)
    return [event for event in events if not isinstance(event, RunStarted)]


def check_origin_if_there_is_one(request: HttpRequest) -> None:
    if "Origin" in request.headers:
        check_origin(request)


GUARDS = [
    Guard(
        name="the comparison of ids (`ChannelBuffer.after`)",
        promise="1, no repeat where replay and live meet",
        remove=lambda patch: patch.setattr(ChannelBuffer, "after", deliver_every_frame),
        checks=(late_messages_are_not_delivered_twice,),
    ),
    Guard(
        name="a gap is read from the log (`ChannelBuffer.after`)",
        promise="1, no gap",
        remove=lambda patch: patch.setattr(ChannelBuffer, "after", ignore_a_gap),
        checks=(
            a_lost_message_is_recovered_at_the_next_one,
            "test_follower: test_a_lost_message_is_read_from_the_log_at_the_next_one",
        ),
    ),
    Guard(
        name="a new subscription reads the log (`ChannelBuffer.subscribed`)",
        promise="1, over every loss of the subscription",
        remove=lambda patch: patch.setattr(
            ChannelBuffer, "subscribed", reconnect_without_a_new_subscription
        ),
        checks=(events_during_a_lost_subscription_are_delivered_afterwards,),
    ),
    Guard(
        name="a heartbeat compares the head (`Follower._heartbeat`)",
        promise="1, a silent subscription is noticed within seconds",
        remove=lambda patch: patch.setattr(Follower, "_heartbeat", send_an_unchecked_heartbeat),
        checks=(a_lost_last_message_is_recovered_at_the_heartbeat,),
    ),
    Guard(
        name="an event is written at once only to a reader that lacks just it (`is_next`)",
        promise="1, no repeat and no gap where events are written as they arrive",
        remove=lambda patch: patch.setattr(ChannelReader, "is_next", take_any_event),
        checks=(
            late_messages_are_not_delivered_twice,
            a_lost_message_is_recovered_at_the_next_one,
        ),
    ),
    Guard(
        name="what a full connection refuses, its stream sends (`write_at_once`)",
        promise="9, a slow reader costs a bounded amount of memory",
        remove=lambda patch: patch.setattr(
            HttpConnection,
            "write_at_once",
            lambda self, data: self.transport.write(data) is None,
        ),
        checks=("test_connection: test_a_client_that_does_not_read_is_not_written_to",),
    ),
    Guard(
        name="all that is sent passes middleware that wants to see it (`writer_of`)",
        promise="ASGI middleware sees each part of a body",
        remove=lambda patch: patch.setattr(
            HttpConnection, "writer_of", lambda self, _: self.write_at_once
        ),
        checks=("test_connection: test_nothing_is_written_past_asgi_middleware",),
    ),
    Guard(
        name="a socket's text is UTF-8 (`is_utf8`)",
        promise="a WebSocket's client is bounded",
        remove=lambda patch: patch.setattr(socket_connection, "is_utf8", lambda _: True),
        checks=("test_socket_connection: test_text_that_is_not_utf8_closes_the_socket",),
    ),
    Guard(
        name="a message has a bounded number of fragments (`FRAGMENTS`)",
        promise="a WebSocket's client is bounded",
        remove=lambda patch: patch.setattr(socket_connection, "FRAGMENTS", 1e9),
        checks=("test_socket_connection: test_a_message_has_a_bounded_number_of_fragments",),
    ),
    Guard(
        name="a bounded number of messages waits for the application (`WAITING`)",
        promise="a WebSocket's client is bounded",
        remove=lambda patch: patch.setattr(socket_connection, "WAITING", 1e9),
        checks=("test_socket_connection: test_a_bounded_number_of_messages_waits",),
    ),
    Guard(
        name="the rest of a message arrives in time (`_check_message`)",
        promise="a WebSocket's client is bounded",
        remove=lambda patch: patch.setattr(SocketConnection, "_check_message", lambda _: None),
        checks=(
            "test_socket_connection:"
            " test_a_message_whose_fragments_do_not_arrive_closes_the_socket",
            "test_socket_connection: test_a_frame_whose_rest_does_not_arrive_closes_the_socket",
        ),
    ),
    Guard(
        name="a client answers pings, or is told that it did not (`keepalive_timeout`)",
        promise="a WebSocket's client is bounded",
        remove=lambda patch: patch.delattr(SocketConnection, "keepalive_timeout"),
        checks=("test_socket_connection: test_a_client_that_answers_no_ping_is_disconnected",),
    ),
    Guard(
        name="a session's handshake needs an `Origin` of this site (`check_origin`)",
        promise="a foreign page opens no WebSocket with a session",
        remove=lambda patch: patch.setattr(websocket_api, "check_origin", lambda _: None),
        checks=("test_websocket_access: test_a_session_needs_an_origin_of_this_site",),
    ),
    Guard(
        name="a handshake without `Origin` is refused (`check_origin`)",
        promise="a foreign page opens no WebSocket with a session",
        remove=lambda patch: patch.setattr(
            websocket_api, "check_origin", check_origin_if_there_is_one
        ),
        checks=("test_websocket_access: test_a_session_needs_an_origin_of_this_site",),
    ),
    Guard(
        name="the handshake's token authenticates the frames (`Socket.open`)",
        promise="a foreign page sends no frame with a session",
        remove=source(Socket, "open", "if response.token:", "if False:"),
        checks=(
            "test_websocket_access: test_a_page_with_its_own_token_cannot_use_its_visitors_session",
        ),
    ),
    Guard(
        name="the session's cookie authenticates the frames (`KEPT`)",
        promise="a frame of a WebSocket is its client's own request",
        remove=lambda patch: patch.setattr(websocket, "KEPT", (b"host", b"authorization")),
        checks=("test_websocket_access: test_a_session_of_this_site_may_ask",),
    ),
    Guard(
        name="a frame is a POST, which needs the scope `write` (`_answer`)",
        promise="a frame of a WebSocket is its client's own request",
        remove=lambda patch: patch.setattr(authentication, "_require_scopes", lambda *_: None),
        checks=("test_websocket_access: test_each_frame_needs_the_scope_to_write",),
    ),
    Guard(
        name="a refusal closes with 4000 and its status (`_refuse`)",
        promise="a WebSocket's client learns why it is refused",
        remove=source(Socket, "_refuse", "HTTP + status if", "HTTP if"),
        checks=(
            "test_websocket_access: test_a_token_that_is_not_valid_closes_with_4401",
            "test_websocket_access: test_an_owner_may_open_so_many_sockets",
        ),
    ),
    Guard(
        name="sockets count as streams of their owner (`OpenStreams.admit`)",
        promise="a WebSocket's client is bounded",
        remove=source(
            OpenStreams, "admit", "self._counts[caller.owner] >= settings.MAX_STREAMS", "False"
        ),
        checks=("test_websocket_access: test_an_owner_may_open_so_many_sockets",),
    ),
    Guard(
        name="a socket that has ended counts no more (`Socket.open`)",
        promise="a WebSocket's client may come back",
        remove=lambda patch: patch.setattr(OpenStream, "close", lambda _: None),
        checks=("test_websocket_access: test_an_owner_may_open_so_many_sockets",),
    ),
    Guard(
        name="a socket resumes after the last id (`cursor_of`)",
        promise="1, no repeat and no gap over a WebSocket",
        remove=lambda patch: patch.setattr(websocket_api, "cursor_of", lambda *_: None),
        checks=("test_websocket_access: test_a_socket_resumes_after_the_last_id",),
    ),
    Guard(
        name="the handshake's `Last-Event-ID` counts (`Socket._handshake`)",
        promise="1, no repeat and no gap over a WebSocket",
        remove=source(Socket, "_handshake", 'if field[0] == b"last-event-id"', "if False"),
        checks=("test_websocket_access: test_a_socket_resumes_after_the_last_id",),
    ),
    Guard(
        name="one tick a process wakes the readers whose deadline has passed (`tick`)",
        promise="3.2, heartbeats and the maximum age",
        remove=lambda patch: patch.setattr(ChannelBuffer, "tick", lambda *_: None),
        checks=(
            "test_delivery: test_a_silent_stream_sends_heartbeats_and_ends_at_its_maximum_age",
        ),
    ),
    Guard(
        name="a heartbeat that finds a lost event has all readers read (`Follower._heartbeat`)",
        promise="1, a silent subscription is noticed within seconds",
        remove=lambda patch: patch.setattr(Follower, "_heartbeat", read_for_oneself),
        checks=("test_delivery: test_the_heartbeat_that_finds_a_lost_event_tells_all_readers",),
    ),
    Guard(
        name="an append checks the fence",
        promise="5, one writer",
        remove=script(
            ("if refused then return {refused} end\n", ""),
        ),
        checks=(
            "test_event_log: test_a_delta_without_a_fence_is_refused",
            "test_event_log: test_one_run_cannot_append_for_another",
        ),
    ),
    Guard(
        name="an older attempt is refused",
        promise="5, nothing of an older attempt after a newer one",
        remove=script(("tonumber(fence) ~= attempt or sealed", "sealed")),
        checks=(
            "test_event_log: test_a_superseded_attempt_is_refused_and_the_newer_one_starts_over",
            "test_publishing: TestFence.test_an_older_attempt_appends_nothing_after_a_newer_one",
        ),
    ),
    Guard(
        name="a sealed run takes no delta",
        promise="5 and 7, nothing after the final event",
        remove=script(("tonumber(fence) ~= attempt or sealed", "tonumber(fence) ~= attempt")),
        checks=("test_event_log: test_nothing_follows_a_seal_or_a_final_event",),
    ),
    Guard(
        name="a repeated delta gets the same id",
        promise="1, no repeat when a response of Redis is lost",
        remove=script(
            ("if index <= last then return {'ok', id_of_piece(data, last - index)} end\n", "")
        ),
        checks=("test_event_log: test_a_repeated_append_gets_the_same_id_and_adds_nothing",),
    ),
    Guard(
        name="a repeated message or run.queued gets the same id",
        promise="6, a message is published once",
        remove=script(
            ("local before = once ~= '' and field(run .. ':' .. once)", "local before = nil")
        ),
        checks=(
            "test_event_log: test_a_repeated_append_gets_the_same_id_and_adds_nothing",
            "test_publishing: TestAcceptedMessages.test_killed_between_append_and_the_rows_update",
        ),
    ),
    Guard(
        name="a retry's message is not as new as its run (`NewRun.alone`)",
        promise="6, a message is published once",
        remove=lambda patch: patch.setattr(
            NewRun, "alone", property(lambda new: not new.before.unpublished)
        ),
        checks=(
            "test_publishing: TestAcceptedMessages.test_a_retry_does_not_publish_its_message_again",
        ),
    ),
    Guard(
        name="a message comes after all that is unpublished before it (`NewRun.alone`)",
        promise="1, in order",
        remove=lambda patch: patch.setattr(NewRun, "alone", property(lambda new: new.asks_anew)),
        checks=(
            "test_interrupting: test_the_final_events_of_interrupted_runs_come_before_the_message",
        ),
    ),
    Guard(
        name="a repeated final event gets the same id",
        promise="4, exactly one final event",
        remove=script(("local before = field(run .. ':final')", "local before = nil")),
        checks=(
            "test_event_log: test_a_repeated_append_gets_the_same_id_and_adds_nothing",
            "test_event_log: test_a_released_run_gets_no_second_final_event",
        ),
    ),
    Guard(
        name="a final event publishes the stored text first if the log differs",
        promise="4, the invariant",
        remove=missing_events_of(lambda run, sealed: []),
        checks=("test_event_log: test_the_published_text_is_the_stored_text",),
    ),
    Guard(
        name="a lost tail begins a new epoch",
        promise="2, never another epoch's events after an old cursor",
        remove=script(("at > 0 and at >= min_head", "at > 0")),
        checks=("test_event_log: test_a_lost_tail_is_never_continued",),
    ),
    Guard(
        name="the recorded head is compared with the log (`recorded_head`)",
        promise="2, a loss is reported also without a writer",
        remove=lambda patch: patch.setattr(replay, "recorded_head", lambda _: 0),
        checks=(a_final_event_lost_by_a_failover_is_reported,),
    ),
    Guard(
        name="an epoch begins above every published id",
        promise="2, with the clock set back",
        remove=script(("math.max(now, above + MARGIN + now % MARGIN)", "now")),
        checks=(
            "test_event_log: test_an_epoch_begins_above_published_ids_with_the_clock_set_back",
        ),
    ),
    Guard(
        name="two epochs never begin at the same id",
        promise="2, when the log is lost twice within a second",
        remove=script((" + now % MARGIN", "")),
        checks=("test_event_log: test_two_epochs_never_begin_at_the_same_id",),
    ),
    Guard(
        name="the start of an attempt on another server process begins a new epoch",
        promise="2, when worker and Redis die together",
        remove=script(("(field('server') or here) ~= here", "false")),
        checks=("test_event_log: test_an_attempt_on_another_redis_process_begins_an_epoch",),
    ),
    Guard(
        name="a log on another server process is unverified",
        promise="2, when Redis fails over during a reply",
        remove=script(
            ("if not verified or verified == server_id() then return nil end", "do return nil end")
        ),
        checks=(
            "test_event_log: test_on_another_redis_process_only_an_attempt_can_verify_the_log",
            "test_event_log: test_on_another_redis_process_a_seal_without_attempt_begins_an_epoch",
        ),
    ),
    Guard(
        name="a library asks its own process for the run_id (`server_id`)",
        promise="2, when Redis fails over during a reply",
        remove=script(("run_id = at and string.sub(info, at + 1, at + 40)", "run_id = 'any'")),
        checks=(
            "test_log_library: test_a_promoted_replica_and_a_restarted_process_are_other_processes",
        ),
    ),
    Guard(
        name="the attempt verifies the log (`EventLog.verify`)",
        promise="2, when Redis fails over during a reply",
        remove=lambda patch: patch.setattr(EventLog, "verify", lambda *_: None),
        checks=(
            "test_event_log: test_on_another_redis_process_only_an_attempt_can_verify_the_log",
            "test_event_log: test_an_attempt_that_verifies_detects_a_lost_tail",
        ),
    ),
    Guard(
        name="a delta waits until the log is verified",
        promise="2, when Redis fails over during a reply",
        remove=script(("if verified ~= server_id() then return {'unverified'} end\n", "")),
        checks=LOST_EVENTS,
    ),
    Guard(
        name="the verification uses the recorded head (`verify`)",
        promise="2, when Redis fails over during a reply",
        remove=lambda patch: patch.setattr(log_writer, "verify", lambda r: the_log().verify(r)),
        checks=LOST_EVENTS,
    ),
    Guard(
        name="a final event waits if another reply's tail may be lost",
        promise="2, when Redis fails over during a reply",
        remove=script(("if open and open ~= run then return {'unverified'} end\n", "")),
        checks=("test_lost_history: TestOtherEvents.test_events_never_get_the_ids_of_a_lost_tail",),
    ),
    Guard(
        name="the start after an abandoned attempt begins a new epoch",
        promise="2, when worker and Redis die together",
        remove=script(("(abandoned or at ~= min_head)", "at ~= min_head")),
        checks=(
            "test_lost_history: TestOtherEvents.test_an_attempt_after_a_dead_worker_reuses_no_id",
        ),
    ),
    Guard(
        name="a final event publishes a missing start first",
        promise="5, nothing of an attempt before its start",
        remove=missing_events_of(without_the_start),
        checks=("test_lost_history: test_a_cancel_between_claim_and_start_is_published_in_order",),
    ),
    Guard(
        name="a final event is refused if the log holds another reply than was sealed (`token`)",
        promise="4, the invariant",
        remove=script(("if token() ~= seen then return {'changed'} end\n", "")),
        checks=(
            "test_log_parts: test_a_final_event_for_another_reply_than_the_log_holds_is_refused",
        ),
    ),
    Guard(
        name="a new open slot moves the one before it into the hash (`open`)",
        promise="4, the invariant",
        remove=script(("  if before then\n", "  if false then\n")),
        checks=("test_log_parts: test_the_log_keeps_the_parts_that_a_reader_folds",),
    ),
    Guard(
        name="a new epoch at a seal keeps the reply (`seal`)",
        promise="7, a cancel keeps the published reply",
        remove=script(("begin_epoch(head(), run)", "begin_epoch(head())")),
        checks=("test_log_parts: test_a_new_epoch_at_a_seal_keeps_all_parts",),
    ),
    Guard(
        name="a cursor before the epoch is a gap",
        promise="2, a loss is reported",
        remove=script(("elseif cursor < epoch_start - 1 then", "elseif false then")),
        checks=(
            "test_event_log: test_an_epoch_begins_above_published_ids_with_the_clock_set_back",
        ),
    ),
    Guard(
        name="a cursor before the first kept event is a gap",
        promise="2, a loss is reported",
        remove=script(("elseif cursor < first - 1 then", "elseif false then")),
        checks=("test_event_log: test_a_trimmed_log_reports_expired_and_its_rest_is_readable",),
    ),
    Guard(
        name="pieces renew the expiries of a long reply's log",
        promise="2, a cursor stays good",
        remove=script(("  if now >= (tonumber(renew_at) or 0) then renew_expiries() end\n", "")),
        checks=(
            "test_log_library:"
            " test_a_piece_renews_the_expiries_once_in_a_64th_of_their_time_and_an_ending_does",
        ),
    ),
    Guard(
        name="a missing library is loaded (`_is_function_missing`)",
        promise="1, also after a restart of Redis without its data",
        remove=lambda patch: patch.setattr(servers, "_is_function_missing", lambda _: False),
        checks=("test_event_log: test_a_library_that_redis_has_lost_is_loaded_again",),
    ),
    Guard(
        name="a deleted conversation stays deleted",
        promise="8, a deleted conversation is never written again",
        remove=script(("if field('deleted') then return {'deleted'} end", "")),
        checks=("test_event_log: test_a_deleted_conversation_is_never_written_again",),
    ),
    Guard(
        name="ids of sixteen digits are written in full",
        promise="1, ids ascend by one",
        remove=script(("string.format('%.0f', n)", "tostring(n)")),
        checks=("test_event_log: test_ids_ascend_by_one_from_the_clock_and_have_all_digits",),
    ),
    Guard(
        name="a sweep counts the queued tasks (`queue_length`)",
        promise="9, one task per waiting run",
        remove=lambda patch: patch.setattr(sweep, "queue_length", lambda _: 0),
        checks=(
            "test_dispatch: test_without_a_worker_the_queue_holds_one_task_per_waiting_run",
            "test_dispatch: test_a_sweep_sends_as_many_tasks_as_are_missing_oldest_first",
        ),
    ),
    Guard(
        name="a conditional update decides which process sends a task (`_dispatch_waiting`)",
        promise="9, one task per waiting run",
        remove=lambda patch: patch.setattr(sweep, "passed", lambda *_: Q()),
        checks=(
            "test_dispatch: test_a_task_sent_by_another_process_during_a_sweep_is_not_sent_again",
        ),
    ),
    Guard(
        name="a claim is refused beyond its owner's share (`has_room`)",
        promise="9, owners get places in turn",
        remove=lambda patch: patch.setattr(lease, "has_room", lambda *_, **__: True),
        checks=(
            "test_fair_share: test_a_new_owner_gets_a_place_beside_one_with_many_runs",
            "test_fair_share: test_a_refused_run_is_dispatched_as_soon_as_one_of_its_owners_ends",
        ),
    ),
    Guard(
        name="an ended run dispatches refused runs (`dispatch_refused`)",
        promise="9, owners get places in turn",
        remove=lambda patch: patch.setattr(finish, "dispatch_refused", lambda _: None),
        checks=(
            "test_fair_share: test_a_refused_run_is_dispatched_as_soon_as_one_of_its_owners_ends",
        ),
    ),
    Guard(
        name="a task of an ended run starts a waiting one (`next_without_place`)",
        promise="9, outdated tasks delay no run",
        remove=lambda patch: patch.setattr(lease, "next_without_place", lambda _: None),
        checks=("test_dispatch: test_a_task_of_an_ended_run_starts_a_waiting_run",),
    ),
    Guard(
        name="a process claims only the names that it has (`names`)",
        promise="9, agents take no places of models",
        remove=lambda patch: patch.setattr(
            lease, "names", lambda _: [*names(Kind.AGENT), *names(Kind.MODEL)]
        ),
        checks=("test_agent_names: test_a_process_claims_runs_of_its_own_kind_alone",),
    ),
    Guard(
        name="a run that has called a tool is not claimed (`retryable`)",
        promise="10, no tool twice",
        remove=lambda patch: patch.setattr(lease, "retryable", lambda: Q(attempt__lt=9)),
        checks=(
            "test_agent_runs: test_a_run_that_has_called_a_tool_is_never_claimed_again_and_ends",
        ),
    ),
    Guard(
        name="only the attempt that holds the run stores a call (`mark_called`)",
        promise="10, no tool twice",
        remove=lambda patch: patch.setattr(lease, "mark_called", lambda _: True),
        checks=("test_agent_runs: test_an_attempt_that_has_lost_its_run_cannot_store_a_call",),
    ),
    Guard(
        name="a lease lasts at most its length (`leases`)",
        promise="6, with any change of the clock",
        remove=lambda patch: patch.setattr(leases, "_latest_end", lambda: from_now(1e6)),
        checks=("test_leases: test_a_lease_that_ends_later_than_it_could_has_ended",),
    ),
    Guard(
        name="held text precedes another part (`ReplyWriter.append`)",
        promise="1, in order",
        remove=source(ReplyWriter, "append", "self.flush()", "pass"),
        checks=("test_delta_window: test_another_kind_of_part_comes_after_what_waits",),
    ),
    Guard(
        name="held text is of one kind (`HeldText.takes`)",
        promise="4, the invariant",
        remove=source(HeldText, "takes", "kind is self._kind and", ""),
        checks=("test_delta_window: test_another_kind_of_part_comes_after_what_waits",),
    ),
    Guard(
        name="the end of a reply flushes held text (`ReplyWriter.confirm`)",
        promise="4, a completed reply is whole",
        remove=source(ReplyWriter, "confirm", "self.flush()", "pass"),
        checks=("test_delta_window: test_the_end_of_the_reply_comes_after_what_waits",),
    ),
    Guard(
        name="a run that takes too long flushes held text (`Attempt.write`)",
        promise="4, a failed reply keeps its text",
        remove=source(Attempt, "write", "self.writer.flush()", "pass"),
        checks=("test_delta_window: test_a_run_that_takes_too_long_keeps_what_waits",),
    ),
    Guard(
        name="a stop drops held text (`ReplyWriter.stop`)",
        promise="7, a cancel keeps the published reply",
        remove=source(ReplyWriter, "stop", "self._held.take()", "pass"),
        checks=(
            "test_delta_window: test_a_cancelled_reply_drops_what_waits",
            "test_delta_window: test_a_released_reply_drops_what_waits",
        ),
    ),
    Guard(
        name="text is not published into a lost log (`ReplyWriter.flush`)",
        promise="1, all parts come before the next delta",
        remove=source(ReplyWriter, "flush", "if not self._refused:", "if True:"),
        checks=(
            "test_delta_window: "
            "test_text_that_becomes_due_before_a_lost_log_is_restored_comes_with_all_parts",
        ),
    ),
    Guard(
        name="nothing is held while a lost log is restored (`ReplyWriter._restore`)",
        promise="1, all parts come before the next delta",
        remove=source(ReplyWriter, "_restore", "self.flush()", "pass"),
        checks=("test_delta_window: test_all_parts_come_before_text_that_becomes_due_meanwhile",),
    ),
    Guard(
        name="text is held until the window is over (`HeldText.due`)",
        promise="7, text waits for a bounded time",
        remove=source(ReplyWriter, "_append_text", "self._window.time() >= held.due", "False"),
        checks=(
            "test_delta_window: test_a_piece_after_a_longer_pause_goes_at_once",
            "test_delta_window: test_without_a_window_each_piece_is_an_event",
        ),
    ),
    Guard(
        name="the timer flushes held text (`DeltaWindow.flush_later`)",
        promise="no token waits longer than the window",
        remove=source(
            ReplyWriter, "_append_text", "self._window.flush_later(held, self.flush)", "pass"
        ),
        checks=("test_delta_window: test_no_piece_waits_longer_than_the_window_and_one_tick",),
    ),
]


def place_of(check: Check) -> str:
    """The module and the name of the check, as docs/proofs.md writes them."""
    module, _, name = (
        check.partition(": ")
        if isinstance(check, str)
        else (__name__.rpartition(".")[2], "", check.__qualname__)
    )
    return f"{module}: {name.rpartition('.')[2]}"


STORIES = [check for guard in GUARDS for check in guard.checks if not isinstance(check, str)]
PAIRS = [(guard, check) for guard in GUARDS for check in guard.checks]


async def carry_out(
    check: Check,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
) -> None:
    """Run the check with the fixtures that it names, as pytest would."""
    test = find_test(check) if isinstance(check, str) else check
    wanted = inspect.signature(test).parameters
    brought: dict[str, Any] = {"valkey": valkey, "monkeypatch": monkeypatch, "settings": settings}
    brought["tmp_path"] = tmp_path
    if "story" in wanted:
        async with following(valkey, monkeypatch) as story:
            await test(story)
        return
    if "logged" in wanted:
        brought["logged"] = LoggedRun(valkey)
    if "crowd" in wanted:
        brought["crowd"] = OpenStreams()
    if "replies" in wanted:
        settings.DELTA_WINDOW = 0.02
        with SteppedReplies() as brought["replies"]:
            await sync_to_async(test)(**{name: brought[name] for name in wanted})
        return
    if "process" in wanted:
        with worker_process(settings) as brought["process"]:
            await sync_to_async(test)(**{name: brought[name] for name in wanted})
        return
    given = {name: brought[name] for name in wanted}
    try:
        if inspect.iscoroutinefunction(test):
            await test(**given)
        else:
            await sync_to_async(partial(test, **given))()
    finally:
        if "crowd" in given:
            await given["crowd"].close()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_every_story_passes_with_all_guards(
    story: Check,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
) -> None:
    await carry_out(story, valkey, monkeypatch, settings, tmp_path)


@pytest.mark.parametrize(
    ("guard", "check"), PAIRS, ids=[f"{guard.name}, {place_of(check)}" for guard, check in PAIRS]
)
async def test_the_check_fails_without_its_guard(
    guard: Guard,
    check: Check,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
) -> None:
    guard.remove(monkeypatch)
    with pytest.raises(FAILURES):
        await carry_out(check, valkey, monkeypatch, settings, tmp_path)


def test_the_table_in_the_documents_is_up_to_date() -> None:
    if os.environ.get("WRITE_PROOFS") == "1":
        PROOFS.write_text(TABLE.sub(lambda _: table(), PROOFS.read_text()))
    assert TABLE.findall(PROOFS.read_text()) == [table()]


def table() -> str:
    """The table of docs/proofs.md."""
    lines = []
    for guard in GUARDS:
        checks = "<br>".join(f"`{place_of(check)}`" for check in guard.checks)
        lines.append(f"| {guard.promise} | {guard.name} | {checks} |\n")
    return HEAD + "".join(lines)
