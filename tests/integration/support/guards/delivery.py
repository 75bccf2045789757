"""The guards of streams.delivery: the events that a reader receives, and its number of streams."""

from __future__ import annotations

from streams.delivery import replay
from streams.delivery.channel_buffer import ChannelBuffer
from streams.delivery.channel_reader import ChannelReader
from streams.delivery.deadline_timer import NEVER, DeadlineTimer
from streams.delivery.follower import Follower
from streams.delivery.open_streams import OpenStream, OpenStreams
from streams.protocol.sse import encode_frame
from streams.protocol.stream_frames import Heartbeat
from tests.integration.support import stories
from tests.integration.support.guards.guard import Guard, source


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


GUARDS = [
    Guard(
        name="the comparison of ids (`ChannelBuffer.after`)",
        promise="1, no repeat where replay and live meet",
        remove=lambda patch: patch.setattr(ChannelBuffer, "after", deliver_every_frame),
        checks=(stories.late_messages_are_not_delivered_twice,),
    ),
    Guard(
        name="a gap is read from the log (`ChannelBuffer.after`)",
        promise="1, no gap",
        remove=lambda patch: patch.setattr(ChannelBuffer, "after", ignore_a_gap),
        checks=(
            stories.a_lost_message_is_recovered_at_the_next_one,
            "test_follower: test_a_lost_message_is_read_from_the_log_at_the_next_one",
        ),
    ),
    Guard(
        name="a new subscription reads the log (`ChannelBuffer.subscribed`)",
        promise="1, over every loss of the subscription",
        remove=lambda patch: patch.setattr(
            ChannelBuffer, "subscribed", reconnect_without_a_new_subscription
        ),
        checks=(stories.events_during_a_lost_subscription_are_delivered_afterwards,),
    ),
    Guard(
        name="a heartbeat compares the head (`Follower._heartbeat`)",
        promise="1, a silent subscription is noticed within seconds",
        remove=lambda patch: patch.setattr(Follower, "_heartbeat", send_an_unchecked_heartbeat),
        checks=(stories.a_lost_last_message_is_recovered_at_the_heartbeat,),
    ),
    Guard(
        name="an event is written at once only to a reader that lacks just it (`is_next`)",
        promise="1, no repeat and no gap where events are written as they arrive",
        remove=lambda patch: patch.setattr(ChannelReader, "is_next", take_any_event),
        checks=(
            stories.late_messages_are_not_delivered_twice,
            stories.a_lost_message_is_recovered_at_the_next_one,
        ),
    ),
    Guard(
        name="the recorded head is compared with the log (`recorded_head`)",
        promise="2, a loss is reported also without a writer",
        remove=lambda patch: patch.setattr(replay, "recorded_head", lambda _: 0),
        checks=(stories.a_final_event_lost_by_a_failover_is_reported,),
    ),
    Guard(
        name="one timer a process wakes the readers whose deadline has passed (`tick`)",
        promise="3.2, heartbeats and the maximum age",
        remove=lambda patch: patch.setattr(ChannelBuffer, "tick", lambda *_: NEVER),
        checks=(
            "test_heartbeats: test_a_silent_stream_sends_heartbeats_and_ends_at_its_maximum_age",
        ),
    ),
    Guard(
        name="a wait with an earlier deadline than all others sets the timer (`wake_at`)",
        promise="3.2, heartbeats and the maximum age",
        remove=lambda patch: patch.setattr(DeadlineTimer, "wake_at", lambda *_: None),
        checks=(
            "test_heartbeats: test_a_silent_stream_sends_heartbeats_and_ends_at_its_maximum_age",
        ),
    ),
    Guard(
        name="one follower of a channel reads the log for a heartbeat (`may_check`)",
        promise="3.2, what a waiting stream costs",
        remove=lambda patch: patch.setattr(ChannelBuffer, "may_check", lambda *_: True),
        checks=("test_heartbeats: test_of_many_waiting_streams_one_wakes_for_a_heartbeat",),
    ),
    Guard(
        name="no heartbeat waits for a log that cannot be read (`may_check`)",
        promise="3.2, heartbeats while Redis is away",
        remove=source(ChannelBuffer, "may_check", "not self.unreadable", "True"),
        checks=("test_heartbeats: test_all_streams_send_heartbeats_while_the_log_cannot_be_read",),
    ),
    Guard(
        name="a heartbeat that finds a lost event has all readers read (`Follower._heartbeat`)",
        promise="1, a silent subscription is noticed within seconds",
        remove=lambda patch: patch.setattr(Follower, "_heartbeat", read_for_oneself),
        checks=("test_heartbeats: test_the_heartbeat_that_finds_a_lost_event_tells_all_readers",),
    ),
    Guard(
        name="sockets count as streams of their owner (`OpenStreams.reserve`)",
        promise="a WebSocket's client is bounded",
        remove=source(
            OpenStreams, "reserve", "self._counts[owner] >= settings.MAX_STREAMS", "False"
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
        name="what fails for one stream wakes only that one (`Follower._has_written`)",
        promise="1, no gap: a fault of one stream is no other's",
        remove=source(Follower, "_has_written", "except Exception:", "except TimeoutError:"),
        checks=(
            "test_delivery: test_a_stream_that_cannot_be_written_to_keeps_nothing_from_the_others",
        ),
    ),
    Guard(
        name="other runs' events delay no comment of another wire (`Follower._delay_heartbeat`)",
        promise="a stream of another wire is silent for 10 s at most",
        remove=source(Follower, "_delay_heartbeat", "if not self._is_regular:", "if True:"),
        checks=("test_heartbeats: test_a_regular_heartbeat_comes_also_between_events",),
    ),
]
