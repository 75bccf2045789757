"""The bridge publishes the events of the log to the connections that Pushpin holds.

It subscribes to exactly the channels that some Pushpin wants, and reads each with a
`ChannelReader`, as a follower does. Each item has the ids of its event and of the event before. So
Pushpin detects a missed event once the next one arrives. Nothing would reveal the loss of the last
event, so the bridge publishes that event again.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from time import monotonic
from uuid import UUID

from django.conf import settings

from streams.delivery.channel_reader import SOON, ChannelReader
from streams.delivery.deadline_timer import NEVER
from streams.delivery.hub import Hubs
from streams.delivery.stream_end import StreamEnd, closing_frames, revoked
from streams.log.channels import conversation_of
from streams.protocol.sse import encode_frame
from streams.protocol.stream_frames import Heartbeat
from streams.pushpin.hold import Hold, parse_hold
from streams.pushpin.relay import Relay, newest_place
from streams.pushpin.zmq_publisher import Item, ZmqPublisher

logger = logging.getLogger(__name__)
REPUBLISH_AFTER = 0.4  # seconds of silence until the last event is republished and the log is read
LOOK = 1.0  # seconds between reads of the log while the last event is recent, or after an error
CLOSE: Item = {b"action": b"close"}
HINT: Item = {b"action": b"hint"}  # Pushpin then requests the next link


class Bridge:
    """The bridge of one process. Pushpins connect to `address`."""

    def __init__(self, address: str) -> None:
        self._hubs = Hubs(keep=settings.STREAM_BUFFER)
        self._publisher = ZmqPublisher(address, self._subscribed)
        self._relays: dict[UUID, Relay] = {}

    async def run(self) -> None:
        """Serve the Pushpins that connect, until cancelled."""
        self._publisher.open()
        try:
            while True:
                await asyncio.sleep(settings.ACCESS_CHECK_INTERVAL)
                self._publisher.receive()
                self._end_expired()
                await self._end_revoked()
        finally:
            for relay in list(self._relays.values()):
                self._drop(relay)
            await self._hubs.close()
            self._publisher.close()

    def _subscribed(self, channel: str, wanted: bool, resumed: bool) -> None:
        hold = parse_hold(channel)
        conversation = hold.conversation if hold else conversation_of(channel)
        if conversation is None:
            return  # a channel for heartbeats and closing frames has no log
        relay = self._relays.get(conversation)
        if relay is None:
            if not wanted:
                return
            relay = self._relays[conversation] = Relay(conversation, maybe_missed=resumed)
            relay.task = asyncio.create_task(self._relay(relay))
        if hold and wanted:
            relay.holds[channel] = hold
        elif hold:
            relay.holds.pop(channel, None)
        else:
            # If the channel was wanted already, another Pushpin wants it, or one has reconnected.
            relay.maybe_missed |= wanted and (resumed or relay.wanted)
            relay.wanted = wanted
        if not relay.wanted and not relay.holds:
            self._drop(relay)
        elif relay.events:
            relay.events.idle_at = 0.0
            relay.events.buffer.wake()

    def _drop(self, relay: Relay) -> None:
        del self._relays[relay.conversation]
        if relay.task:
            relay.task.cancel()

    async def _relay(self, relay: Relay) -> None:
        with self._hubs.listen(relay.channel) as buffer:
            events = ChannelReader(relay.conversation, None, buffer, start=newest_place)
            relay.events = events
            while True:
                version = buffer.version
                try:
                    await self._process(relay, events)
                except Exception:
                    logger.exception("relaying conversation %s failed", relay.conversation)
                    relay.check_at = events.idle_at = monotonic() + LOOK
                due = min(relay.heartbeat_at, events.due(until_idle=bool(relay.idle_holds)))
                if buffer.connected:  # otherwise Redis is away, so nothing can be read
                    due = min(due, relay.check_at)
                if due <= monotonic():
                    await asyncio.sleep(0.01)
                elif buffer.version == version:  # otherwise a change came during `_process`
                    await buffer.wait_for_change(due)

    async def _process(self, relay: Relay, events: ChannelReader) -> None:
        if events.buffer.deleted:
            relay.check_at = NEVER
            relay.heartbeat_at = monotonic() + LOOK
            for hold in list(relay.holds.values()):
                self._end(hold, StreamEnd.GONE)
            return
        if relay.heartbeat_at == NEVER:
            relay.heartbeat_at = monotonic() + settings.STREAM_HEARTBEAT
        # The heartbeat comes first, because the other steps may wait for a Redis that delivers
        # messages, but answers no command.
        if monotonic() >= relay.heartbeat_at:
            await self._heartbeat(relay, events)
        if events.buffer.connected:
            await self._publish_new(relay, events)
            await self._end_idle(relay, events)

    async def _publish_new(self, relay: Relay, events: ChannelReader) -> None:
        """Publish the events after the last published one."""
        live = events.live()
        if live:
            self._publish(relay, live, events.cursor)
        elif live is None or monotonic() >= relay.check_at:
            await self._check_log(relay, events)

    async def _check_log(self, relay: Relay, events: ChannelReader) -> bool:
        """Publish events that the subscription did not deliver, and republish the last if needed.

        Returns whether the log could be read.
        """
        relay.maybe_missed |= events.resubscribed
        # Begin with the last event if a Pushpin may lack it and this bridge has not published it.
        again = relay.maybe_missed and not relay.frame and events.cursor is not None
        # Redis may have lost events before this subscription. With `min_head=None`, the page is
        # compared with the recorded head, which shows such a loss.
        page = await events.read(again=again, min_head=0 if events.caught_up else None)
        if page is None:
            relay.check_at = monotonic() + SOON
            return False
        if page.reset:
            self._hint(relay.holds.values())
            relay.frame = b""
            relay.maybe_missed = True  # the hint may get lost
        else:
            self._publish(relay, page.frames, page.cursor)
        relay.maybe_missed |= page.cursor is None  # empty log: its first event is new to every hold
        lacks_last = relay.maybe_missed and not relay.frame and page.cursor is not None
        if not page.last or (lacks_last and not again):
            relay.check_at = monotonic()  # read on at once
            return True
        self._hint(hold for hold in relay.holds.values() if not hold.begun)
        if page.cursor and relay.frame and (relay.maybe_missed or relay.recently_published):
            self._publish_event(relay, page.cursor)
        relay.maybe_missed &= not relay.frame
        pause = LOOK if relay.recently_published else settings.STREAM_HEARTBEAT
        relay.check_at = monotonic() + pause
        return True

    def _publish(self, relay: Relay, frames: list[bytes], last: int | None) -> None:
        """Publish these frames; `last` is the id of the last frame."""
        if not frames or last is None:
            return
        for id, relay.frame in enumerate(frames, last - len(frames) + 1):
            self._publish_event(relay, id)
        relay.published_at = monotonic()
        relay.check_at = relay.published_at + REPUBLISH_AFTER
        relay.heartbeat_at = relay.published_at + settings.STREAM_HEARTBEAT

    def _publish_event(self, relay: Relay, id: int) -> None:
        ids = {"id": str(id), "after": str(id - 1)}  # within one epoch, ids ascend by one
        self._publisher.publish(relay.channel, {b"content": relay.frame}, **ids)

    async def _heartbeat(self, relay: Relay, events: ChannelReader) -> None:
        """Publish a heartbeat, after any events that the subscription did not deliver."""
        read = False
        if events.buffer.connected and events.cursor is not None:
            read = await self._check_log(relay, events)
        head = events.cursor if read else None
        is_first = monotonic() - relay.published_at < 1.5 * settings.STREAM_HEARTBEAT
        frame = encode_frame(Heartbeat(head=head))
        id = f"heartbeat-{head}-{int(time.time() // settings.STREAM_HEARTBEAT)}"
        for hold in list(relay.holds.values()):
            self._publisher.publish(hold.aside, {b"content": frame}, id=id)
        if is_first and relay.frame:
            # Pushpin queues 100 events for a reader that is slow to read, and drops the rest. If it
            # dropped the last event, no later event would reveal that.
            self._hint(relay.holds.values())
        relay.heartbeat_at = monotonic() + settings.STREAM_HEARTBEAT

    async def _end_idle(self, relay: Relay, events: ChannelReader) -> None:
        """End the `until_idle` holds once no run is pending and all events were published."""
        holds = relay.idle_holds
        if holds and await events.is_idle():
            for hold in holds:
                self._end(hold, StreamEnd.IDLE)
            events.idle_at = monotonic() + LOOK  # a hold may have begun during the query

    async def _end_revoked(self) -> None:
        ends = await revoked({(hold.caller, hold.conversation) for _, hold in self._holds()})
        for _, hold in self._holds():
            if end := ends.get((hold.caller, hold.conversation)):
                self._end(hold, end)

    def _end_expired(self) -> None:
        for relay, hold in self._holds():
            if hold.ends_at * 60 <= time.time():
                self._end(hold, StreamEnd.TOO_OLD, relay.events.cursor if relay.events else None)

    def _holds(self) -> list[tuple[Relay, Hold]]:
        # A list, because `publish` also reads subscriptions, which add and remove holds.
        return [(relay, hold) for relay in self._relays.values() for hold in relay.holds.values()]

    def _end(self, hold: Hold, end: StreamEnd, head: int | None = None) -> None:
        # Repeated while the hold lasts, because a reader whose next link was just being requested
        # may have missed it. Two bridges give the item the same id, so Pushpin drops the second.
        period = int(time.time() / LOOK)
        if frames := closing_frames(end, head):
            self._publisher.publish(hold.aside, {b"content": frames}, id=f"closing-{period}")
        self._publisher.publish(hold.aside, CLOSE, id=f"close-{period}")

    def _hint(self, holds: Iterable[Hold]) -> None:
        for hold in list(holds):
            self._publisher.publish(hold.aside, HINT, id=f"hint-{int(time.time() / LOOK)}")
