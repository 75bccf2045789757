"""What a web process keeps of one channel is bounded by count and by bytes, and has no holes."""

import asyncio
import gc
from typing import Any

import pytest

from streams.delivery.channel_buffer import KEPT_BYTES, ChannelBuffer


def feed(*frames: bytes, keep: int = 512) -> ChannelBuffer:
    made = ChannelBuffer(keep)
    made.subscribed()
    for id, frame in enumerate(frames, 1):
        made.push(id, frame)
    return made


@pytest.mark.parametrize("length", [10, 64_000, KEPT_BYTES - 1, KEPT_BYTES + 1, 3 * KEPT_BYTES])
def test_the_frames_of_a_channel_are_bounded_in_bytes(length: int) -> None:
    frames = [b"%d " % n + b"x" * length for n in range(100)]
    made = feed(*frames)
    for cursor in range(101):
        kept = made.after(cursor)
        if kept is None:
            assert cursor < 99  # the log must be read; never for the newest frame
        else:
            assert kept == frames[cursor:]
            assert sum(map(len, kept)) <= max(KEPT_BYTES, len(frames[-1]))
    assert made.after(99) == frames[99:]


def test_the_frames_of_a_channel_are_bounded_in_number() -> None:
    made = feed(*(b"x" for _ in range(100)), keep=10)
    assert made.after(89) == [b"x"] * 11
    assert made.after(70) is None


def test_after_a_gap_the_byte_count_starts_again() -> None:
    made = feed(*[b"x" * 60_000] * 10)
    for id in range(50, 60):
        made.push(id, b"y" * 60_000)
    assert made.after(49) == [b"y" * 60_000] * 10
    assert made.after(10) is None


async def test_a_shared_read_may_fail_after_all_that_waited_for_it_have_left() -> None:
    buffer, fails = feed(), asyncio.Event()
    faults = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))

    async def read() -> None:
        await fails.wait()
        raise ValueError

    waiting = asyncio.create_task(buffer.single_flight(1, read))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    fails.set()
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    assert waiting.cancelled()
    assert faults == []
