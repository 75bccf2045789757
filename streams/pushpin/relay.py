"""The state of one conversation in the bridge: its place in the log, its holds, its timers."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID

from streams.delivery.channel_reader import ChannelReader
from streams.delivery.deadline_timer import NEVER
from streams.delivery.replay import ReplayPage
from streams.log.channels import channel_of
from streams.log.event_log import log_of
from streams.pushpin.hold import Hold

RECENT = 45.0  # seconds; less than the minute in which Pushpin drops a repeated id


@dataclass(slots=True)
class Relay:
    """One conversation that some Pushpin wants to receive."""

    conversation: UUID
    events: ChannelReader | None = None
    task: asyncio.Task[None] | None = None
    wanted: bool = False  # its events are wanted; holds that await a snapshot want none yet
    holds: dict[str, Hold] = field(default_factory=dict)
    frame: bytes = b""  # of the last published event; empty if this bridge has published none
    maybe_missed: bool = False  # a Pushpin may have missed the last event
    published_at: float = field(default_factory=monotonic)
    check_at: float = 0.0  # when to read the log, even if nothing arrives
    heartbeat_at: float = NEVER

    @property
    def channel(self) -> str:
        return channel_of(self.conversation)

    @property
    def recently_published(self) -> bool:
        """Whether the last event is so new that its loss may still be unnoticed."""
        return monotonic() - self.published_at < RECENT

    @property
    def idle_holds(self) -> list[Hold]:
        """The holds that end once no run is pending."""
        return [hold for hold in self.holds.values() if hold.until_idle and hold.begun]


def newest_place(conversation: UUID) -> ReplayPage:
    """An empty page at the log's newest event, because the views give Pushpin the snapshots.

    The cursor is None if the log holds no event. Raises `LogUnavailable`.
    """
    newest = log_of(conversation).last()
    cursor = newest[0] if newest else None
    return ReplayPage(frames=[], cursor=cursor, has_final=bool(newest), last=True)
