"""Back-pressure: how much of a reply may wait for the log before the attempt pauses its model.

The limit is small while Redis answers, because waiting pieces are late and take memory. It is
larger while Redis is away, so that a short outage does not pause the model.
"""

import asyncio
from collections.abc import Callable

WAITING = 64  # pieces, while Redis answers
WAITING_BYTES = 256 * 1024  # of text, whether Redis answers or not
LOOK = 0.5  # seconds without a result before each check whether Redis is away
WAITING_AWAY = 2000  # pieces, while Redis is away


class Backpressure:
    """Counts the pieces of one reply that wait for the log's result. For one event loop."""

    def __init__(self, away: Callable[[], bool]) -> None:
        self._away = away
        self._pieces = 0
        self._bytes = 0
        self._limit = WAITING
        self._got_result = asyncio.Event()

    def __bool__(self) -> bool:
        return self._pieces > 0

    def add(self, size: int) -> None:
        """Count a piece of `size` bytes that was sent to the log."""
        self._pieces += 1
        self._bytes += size

    def confirmed(self, size: int) -> None:
        """Stop counting a piece of `size` bytes: the log has accepted or refused it."""
        self._pieces -= 1
        self._bytes -= size
        self._limit = WAITING
        self._got_result.set()

    async def wait_for_result(self) -> None:
        """Wait for the log's next result."""
        self._got_result.clear()
        await self._got_result.wait()

    async def wait_for_room(self) -> None:
        """Wait until another piece may be added."""
        while self._bytes > WAITING_BYTES:
            await self.wait_for_result()
        while self._pieces > self._limit:
            try:
                async with asyncio.timeout(LOOK):
                    await self.wait_for_result()
            except TimeoutError:
                self._limit = WAITING_AWAY if self._away() else WAITING
