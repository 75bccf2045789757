"""The bridge publishes the events of the log to the connections that Pushpin holds.

It subscribes to exactly the channels that some Pushpin wants, through the same hub as a web
process. It recovers gaps from the log, as a follower does. Each item carries the id of its event
and of the event before it. So Pushpin detects a missed event once the next one arrives. Nothing
would reveal the loss of the last event, so the bridge publishes that event again.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import partial
from time import monotonic
from uuid import UUID

from django.conf import settings

from streams.chat.snapshot import recorded_head
from streams.delivery.follower import GONE, NEVER, SOON, revoked
from streams.delivery.hub import ChannelBuffer, Hubs
from streams.delivery.replay import PAGE_SIZE, pending
from streams.delivery.threads import in_thread
from streams.log.channels import conversation_of
from streams.log.errors import LogUnavailable, Superseded
from streams.log.event_log import the_log
from streams.log.values import CursorGap
from streams.protocol.events import ENDINGS, Heartbeat
from streams.protocol.sse import encode_event, encode_frame, retry_field
from streams.pushpin.hold import Hold, parse_hold
from streams.pushpin.relay import Relay
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
            # If it was wanted already, another Pushpin wants it too, or one has reconnected.
            relay.maybe_missed |= wanted and (resumed or relay.wanted)
            relay.wanted = wanted
        relay.idle_at = 0.0
        if not relay.wanted and not relay.holds:
            self._drop(relay)
        elif relay.buffer:
            relay.buffer.wake()

    def _drop(self, relay: Relay) -> None:
        del self._relays[relay.conversation]
        if relay.task:
            relay.task.cancel()

    async def _relay(self, relay: Relay) -> None:
        with self._hubs.listen(relay.channel) as relay.buffer:
            while True:
                version = relay.buffer.version
                try:
                    await self._process(relay, relay.buffer)
                except LogUnavailable:
                    relay.check_at = relay.idle_at = monotonic() + SOON
                except Superseded:
                    relay.buffer.deleted = True  # deleted before the bridge subscribed
                except Exception:
                    logger.exception("relaying conversation %s failed", relay.conversation)
                    relay.check_at = relay.idle_at = monotonic() + LOOK
                due = relay.heartbeat_at
                if relay.buffer.connected:  # otherwise Redis is away, so nothing can be read
                    due = min(due, relay.check_at, relay.idle_at)
                if relay.buffer.version == version:  # otherwise a change came during `_process`
                    await relay.buffer.wait_for_change(max(0.01, due - monotonic()))

    async def _process(self, relay: Relay, buffer: ChannelBuffer) -> None:
        if buffer.deleted:
            relay.check_at = relay.idle_at = NEVER
            relay.heartbeat_at = monotonic() + LOOK
            for hold in list(relay.holds.values()):
                self._end(hold, GONE)
            return
        if relay.heartbeat_at == NEVER:
            relay.heartbeat_at = monotonic() + settings.STREAM_HEARTBEAT
        # First, because Redis may still deliver messages while it answers no command.
        if monotonic() >= relay.heartbeat_at:
            await self._heartbeat(relay, buffer)
        if buffer.connected:
            await self._publish_new(relay, buffer)
            await self._end_idle(relay)

    async def _publish_new(self, relay: Relay, buffer: ChannelBuffer) -> None:
        """Publish the events after the last published one. Raises `LogUnavailable`."""
        live = None
        if relay.last is not None and relay.subscription == buffer.subscription:
            live = buffer.after(relay.last)
        if live:
            self._publish(relay, live, has_final=buffer.last_final > (relay.last or 0))
        if live is None or (not live and monotonic() >= relay.check_at):
            await self._check_log(relay, buffer)

    async def _check_log(self, relay: Relay, buffer: ChannelBuffer) -> None:
        """Publish events that the subscription did not deliver, and republish the last if needed.

        Raises `LogUnavailable`, and `Superseded` if the conversation was deleted.
        """
        relay.maybe_missed |= 0 < relay.subscription != buffer.subscription
        subscription, channel, last = buffer.subscription, relay.channel, relay.last
        if last is not None:
            # While no subscription existed, Redis may have lost its newest events.
            min_head = 0
            if relay.subscription != subscription:
                min_head = await in_thread(lambda: recorded_head(relay.conversation))
            read = partial(the_log().channel(channel, min_head).read_after, last, count=PAGE_SIZE)
            page = await in_thread(read, of=channel)
            if isinstance(page, CursorGap):
                logger.info(
                    "the log of conversation %s cannot continue: %s", relay.conversation, page
                )
                self._hint(relay.holds.values())
                relay.last, relay.frame = None, b""
                relay.maybe_missed = True  # the hint may get lost
            else:
                frames = [encode_event(type, data, id) for id, type, data in page.entries]
                self._publish(relay, frames, has_final=any(e[1] in ENDINGS for e in page.entries))
                if not page.last:
                    relay.check_at = monotonic()  # read the next page at once
                    return
        if relay.last is None or (relay.maybe_missed and not relay.frame):
            newest = await in_thread(lambda: the_log().channel(channel).last(), of=channel)
            relay.maybe_missed |= newest is None  # empty log: its first event is new to every hold
            if newest:
                relay.last, relay.idle_at = newest[0], 0.0  # a final event may have been skipped
                id, type, data = newest
                relay.frame = encode_event(type, data, id) if relay.maybe_missed else b""
        self._hint(hold for hold in relay.holds.values() if not hold.begun)
        if relay.frame and (relay.maybe_missed or relay.recently_published):
            self._publish_event(relay)
        relay.maybe_missed &= not relay.frame
        relay.subscription = subscription
        pause = LOOK if relay.recently_published else settings.STREAM_HEARTBEAT
        relay.check_at = monotonic() + pause

    def _publish(self, relay: Relay, frames: list[bytes], *, has_final: bool) -> None:
        if not frames or relay.last is None:
            return
        for relay.frame in frames:
            relay.last += 1  # within one epoch, ids ascend by one
            self._publish_event(relay)
        relay.published_at = monotonic()
        relay.check_at = relay.published_at + REPUBLISH_AFTER
        relay.heartbeat_at = relay.published_at + settings.STREAM_HEARTBEAT
        if has_final:
            relay.idle_at = 0.0

    def _publish_event(self, relay: Relay) -> None:
        if relay.last is not None:
            ids = {"id": str(relay.last), "after": str(relay.last - 1)}
            self._publisher.publish(relay.channel, {b"content": relay.frame}, **ids)

    async def _heartbeat(self, relay: Relay, buffer: ChannelBuffer) -> None:
        """Publish a heartbeat, after any events that the subscription did not deliver."""
        head = None
        if buffer.connected and relay.last is not None:
            try:
                await self._check_log(relay, buffer)
                head = relay.last
            except LogUnavailable:
                head = None
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

    async def _end_idle(self, relay: Relay) -> None:
        """End the `until_idle` holds once no run is pending and all events were published."""
        staying = [hold for hold in relay.holds.values() if hold.until_idle and hold.begun]
        last = relay.last
        if not staying or last is None:
            relay.idle_at = NEVER  # until an `until_idle` hold begins and an event was published
        if last is None or monotonic() < relay.idle_at:
            return
        match await in_thread(lambda: pending(relay.conversation, last)):
            case "idle":
                for hold in staying:
                    self._end(hold, b"")
                relay.idle_at = monotonic() + LOOK  # a hold may have begun during the query
            case "busy":
                relay.idle_at = NEVER  # until the next final event is published
            case "ending":
                relay.idle_at = monotonic() + SOON

    async def _end_revoked(self) -> None:
        refused = await revoked({(hold.caller, hold.conversation) for _, hold in self._holds()})
        for _, hold in self._holds():
            if frame := refused.get((hold.caller, hold.conversation)):
                self._end(hold, frame)

    def _end_expired(self) -> None:
        for relay, hold in self._holds():
            if hold.ends_at * 60 <= time.time():
                heartbeat = encode_frame(Heartbeat(head=relay.last))
                self._end(hold, retry_field(*settings.STREAM_RETRY) + heartbeat)

    def _holds(self) -> list[tuple[Relay, Hold]]:
        # A list, because `publish` also reads subscriptions, which add and remove holds.
        return [(relay, hold) for relay in self._relays.values() for hold in relay.holds.values()]

    def _end(self, hold: Hold, frame: bytes) -> None:
        # Repeated while the hold lasts: a reader whose next link was just being requested may have
        # missed it. The id is the same from two bridges, so Pushpin drops the second.
        period = int(time.time() / LOOK)
        if frame:
            self._publisher.publish(hold.aside, {b"content": frame}, id=f"farewell-{period}")
        self._publisher.publish(hold.aside, CLOSE, id=f"close-{period}")

    def _hint(self, holds: Iterable[Hold]) -> None:
        for hold in list(holds):
            self._publisher.publish(hold.aside, HINT, id=f"hint-{int(time.time() / LOOK)}")
