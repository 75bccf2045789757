"""Between the log and Pushpin: says to the connections that Pushpin holds what followers hear.

It follows exactly the channels that some Pushpin wants, with the web process's own hub, and heals
itself from the log as a follower does. Each event goes out with its id and its predecessor's, so
that Pushpin finds out what it has missed; only after the last one it cannot, so that is said again.
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
AGAIN = 0.4  # seconds of silence after which the last event is said again, and the log looked at
LOOK = 1.0  # seconds until the next look while a lost event would be missed
CLOSE: Item = {b"action": b"close"}
HINT: Item = {b"action": b"hint"}  # ask what comes next


class Bridge:
    """One process's: give Pushpins its `address`, then `run` until cancelled."""

    def __init__(self, address: str) -> None:
        self._hubs = Hubs(keep=settings.STREAM_BUFFER)
        self._outlet = ZmqPublisher(address, self._subscribed)
        self._relays: dict[UUID, Relay] = {}

    async def run(self) -> None:
        self._outlet.open()
        try:
            while True:
                await asyncio.sleep(settings.ACCESS_CHECK_INTERVAL)
                self._outlet.receive()
                self._end_expired()
                await self._end_revoked()
        finally:
            for relay in list(self._relays.values()):
                self._drop(relay)
            await self._hubs.close()
            self._outlet.close()

    def _subscribed(self, channel: str, wanted: bool, again: bool) -> None:
        hold = parse_hold(channel)
        conversation = hold.conversation if hold else conversation_of(channel)
        if conversation is None:
            return  # what is said aside needs no following
        relay = self._relays.get(conversation)
        if relay is None:
            if not wanted:
                return
            relay = self._relays[conversation] = Relay(conversation, doubted=again)
            relay.task = asyncio.create_task(self._relay(relay))
        if hold and wanted:
            relay.holds[channel] = hold
        elif hold:
            relay.holds.pop(channel, None)
        else:
            # Some Pushpin wants it already: this is another, or it was away meanwhile.
            relay.doubted |= wanted and (again or relay.wanted)
            relay.wanted = wanted
        relay.idle_at = 0.0
        if not relay.wanted and not relay.holds:
            self._drop(relay)
        elif relay.feed:
            relay.feed.wake()

    def _drop(self, relay: Relay) -> None:
        del self._relays[relay.conversation]
        if relay.task:
            relay.task.cancel()

    async def _relay(self, relay: Relay) -> None:
        with self._hubs.listen(relay.channel) as relay.feed:
            while True:
                turn = relay.feed.version
                try:
                    await self._attend(relay, relay.feed)
                except LogUnavailable:
                    relay.look_at = relay.idle_at = monotonic() + SOON
                except Superseded:
                    relay.feed.deleted = True  # deleted before we came
                except Exception:
                    logger.exception("conversation %s", relay.conversation)
                    relay.look_at = relay.idle_at = monotonic() + LOOK
                due = relay.beat_at
                if relay.feed.connected:  # else nothing can be asked
                    due = min(due, relay.look_at, relay.idle_at)
                if relay.feed.version == turn:  # else it woke nobody: we were asking the log
                    await relay.feed.wait_for_change(max(0.01, due - monotonic()))

    async def _attend(self, relay: Relay, feed: ChannelBuffer) -> None:
        if feed.deleted:
            relay.look_at = relay.idle_at = NEVER
            relay.beat_at = monotonic() + LOOK
            for hold in list(relay.holds.values()):
                self._end(hold, GONE)
            return
        if relay.beat_at == NEVER:
            relay.beat_at = monotonic() + settings.STREAM_HEARTBEAT
        if monotonic() >= relay.beat_at:  # before Redis is asked: it may be heard, and not answer
            await self._heartbeat(relay, feed)
        if feed.connected:
            await self._pass_on(relay, feed)
            await self._end_idle(relay)

    async def _pass_on(self, relay: Relay, feed: ChannelBuffer) -> None:
        """Say what nobody was told yet. Raises `LogUnavailable`."""
        live = None
        if relay.last is not None and relay.epoch == feed.subscription:
            live = feed.after(relay.last)
        if live:
            self._publish(relay, live, ending=feed.last_final > (relay.last or 0))
        if live is None or (not live and monotonic() >= relay.look_at):
            await self._look(relay, feed)

    async def _look(self, relay: Relay, feed: ChannelBuffer) -> None:
        """Look in the log for what was not heard, and say again what may not have been."""
        relay.doubted |= 0 < relay.epoch != feed.subscription
        epoch, channel, last = feed.subscription, relay.channel, relay.last
        if last is not None:
            fresh = relay.epoch != epoch  # while nothing was heard, Redis may have lost its last
            known = await in_thread(lambda: recorded_head(relay.conversation)) if fresh else 0
            ask = partial(the_log().read_after, channel, last, min_head=known, count=PAGE_SIZE)
            page = await in_thread(ask, of=channel)
            if isinstance(page, CursorGap):
                logger.info("conversation %s goes on elsewhere: %s", relay.conversation, page)
                self._hint(relay.holds.values())
                relay.last, relay.frame, relay.doubted = None, b"", True  # the hint may be lost
            else:
                frames = [encode_event(type, data, id) for id, type, data in page.entries]
                self._publish(relay, frames, ending=any(e[1] in ENDINGS for e in page.entries))
                if not page.last:
                    relay.look_at = monotonic()  # the rest follows at once
                    return
        if relay.last is None or (relay.doubted and not relay.frame):
            tail = await in_thread(lambda: the_log().last(channel), of=channel)
            relay.doubted |= tail is None  # the first that will be said is somebody's news
            if tail:
                relay.last, relay.idle_at = tail[0], 0.0  # an ending may have been passed over
                relay.frame = encode_event(tail[1], tail[2], tail[0]) if relay.doubted else b""
        self._hint(hold for hold in relay.holds.values() if not hold.begun)
        if relay.frame and (relay.doubted or relay.lively):
            self._publish_event(relay)
        relay.doubted &= not relay.frame
        relay.epoch = epoch
        relay.look_at = monotonic() + (LOOK if relay.lively else settings.STREAM_HEARTBEAT)

    def _publish(self, relay: Relay, frames: list[bytes], *, ending: bool) -> None:
        if not frames or relay.last is None:
            return
        for relay.frame in frames:
            relay.last += 1  # within one life of the log they ascend by one
            self._publish_event(relay)
        relay.said_at = monotonic()
        relay.look_at = relay.said_at + AGAIN
        relay.beat_at = relay.said_at + settings.STREAM_HEARTBEAT
        if ending:
            relay.idle_at = 0.0

    def _publish_event(self, relay: Relay) -> None:
        if relay.last is not None:
            place = {"id": str(relay.last), "after": str(relay.last - 1)}
            self._outlet.publish(relay.channel, {b"content": relay.frame}, **place)

    async def _heartbeat(self, relay: Relay, feed: ChannelBuffer) -> None:
        """A sign of life, after whatever a deaf subscription has kept from us."""
        head = None
        if feed.connected and relay.last is not None:
            try:
                await self._look(relay, feed)
                head = relay.last
            except LogUnavailable:
                head = None
        first = monotonic() - relay.said_at < 1.5 * settings.STREAM_HEARTBEAT
        beat, now = (
            encode_frame(Heartbeat(head=head)),
            int(time.time() // settings.STREAM_HEARTBEAT),
        )
        for hold in list(relay.holds.values()):
            self._outlet.publish(hold.aside, {b"content": beat}, id=f"heartbeat-{head}-{now}")
        if first and relay.frame:
            # Pushpin keeps a hundred events for a reader that does not take them, and drops the
            # rest, of which the last would never be found missing.
            self._hint(relay.holds.values())
        relay.beat_at = monotonic() + settings.STREAM_HEARTBEAT

    async def _end_idle(self, relay: Relay) -> None:
        """End the holds of those who stay until all is said, once it is and they are past it."""
        staying = [hold for hold in relay.holds.values() if hold.until_idle and hold.begun]
        last = relay.last
        if not staying or last is None:
            relay.idle_at = NEVER  # until somebody stays, and something was said
        if last is None or monotonic() < relay.idle_at:
            return
        match await in_thread(lambda: pending(relay.conversation, last)):
            case "idle":
                for hold in staying:
                    self._end(hold, b"")
                relay.idle_at = monotonic() + LOOK  # somebody may have come while we asked
            case "busy":
                relay.idle_at = NEVER  # until the next ending is said
            case "ending":
                relay.idle_at = monotonic() + SOON

    async def _end_revoked(self) -> None:
        out = await revoked({(hold.caller, hold.conversation) for _, hold in self._holds()})
        for _, hold in self._holds():
            if farewell := out.get((hold.caller, hold.conversation)):
                self._end(hold, farewell)

    def _end_expired(self) -> None:
        for relay, hold in self._holds():
            if hold.ends_at * 60 <= time.time():
                beat = encode_frame(Heartbeat(head=relay.last))
                self._end(hold, retry_field(*settings.STREAM_RETRY) + beat)

    def _holds(self) -> list[tuple[Relay, Hold]]:
        # A list: while one is told something, Pushpins are heard, and others come and go.
        return [(relay, hold) for relay in self._relays.values() for hold in relay.holds.values()]

    def _end(self, hold: Hold, farewell: bytes) -> None:
        # Said again while the hold lasts: one that was just asking what comes next may not have
        # heard. Two bridges say it in the same words.
        now = int(time.time() / LOOK)
        if farewell:
            self._outlet.publish(hold.aside, {b"content": farewell}, id=f"farewell-{now}")
        self._outlet.publish(hold.aside, CLOSE, id=f"close-{now}")

    def _hint(self, holds: Iterable[Hold]) -> None:
        for hold in list(holds):
            self._outlet.publish(hold.aside, HINT, id=f"hint-{int(time.time() / LOOK)}")
