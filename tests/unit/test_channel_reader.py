"""When a channel reader wants to be asked again."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from streams.delivery import channel_reader
from streams.delivery.channel_buffer import ChannelBuffer
from streams.delivery.channel_reader import ChannelReader
from streams.delivery.deadline_timer import NEVER
from streams.delivery.replay import ReplayPage
from streams.log.errors import LogUnavailable


@pytest.fixture
def buffer(monkeypatch: pytest.MonkeyPatch) -> ChannelBuffer:
    """A subscribed buffer; blocking reads run in this thread."""

    async def at_once(ask: Any, **_: Any) -> Any:
        return ask()

    monkeypatch.setattr(channel_reader, "in_thread", at_once)
    buffer = ChannelBuffer(4, lambda _: None)
    buffer.subscribed()
    return buffer


def away(conversation: UUID) -> ReplayPage:
    raise LogUnavailable


async def test_a_failed_read_is_repeated_soon_but_not_while_the_subscription_is_lost(
    buffer: ChannelBuffer,
) -> None:
    reader = ChannelReader(UUID(int=1), None, buffer, start=away)
    assert await reader.read() is None
    assert reader.due(until_idle=True) - asyncio.get_running_loop().time() < 60
    assert not reader.caught_up
    buffer.disconnected()  # otherwise the reader's owner would ask all the time
    assert reader.due(until_idle=True) == NEVER


async def test_after_a_page_with_more_to_come_the_log_is_read_on(buffer: ChannelBuffer) -> None:
    pages = [
        ReplayPage(frames=[b"1"], cursor=1, has_final=False, last=False),
        ReplayPage(frames=[b"2"], cursor=2, has_final=False, last=True),
    ]
    reader = ChannelReader(UUID(int=1), None, buffer, start=lambda _: pages.pop(0))
    assert await reader.read()
    assert reader.live() is None
    reader.cursor = None  # so that `start` gives the next page too
    assert await reader.read()
    assert (reader.live(), reader.cursor) == ([], 2)
