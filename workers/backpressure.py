"""Back-pressure: how much of one reply may wait for the log before its model is read no further.

While Redis answers that is little: what waits there is late, and takes memory. While Redis is
away it is more, so that a short outage does not stop the model.
"""

import asyncio
from collections.abc import Callable

WAITING = 64  # pieces
WAITING_BYTES = 256 * 1024  # of text, in any case
LOOK = 0.5  # seconds without an answer, after which the writer is asked whether Redis is away
WAITING_AWAY = 2000  # pieces, while Redis is away


class Backpressure:
    """The pieces of one reply that the log has not answered. For one event loop."""

    def __init__(self, away: Callable[[], bool]) -> None:
        self._away = away
        self._pieces = 0
        self._bytes = 0
        self._limit = WAITING
        self._heard = asyncio.Event()

    def __bool__(self) -> bool:
        return self._pieces > 0

    def add(self, size: int) -> None:
        """Count a piece of so many bytes, which is on its way."""
        self._pieces += 1
        self._bytes += size

    def confirmed(self, size: int) -> None:
        """Count it no longer."""
        self._pieces -= 1
        self._bytes -= size
        self._limit = WAITING
        self._heard.set()

    async def wait_for_result(self) -> None:
        """Wait for the next answer."""
        self._heard.clear()
        await self._heard.wait()

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
