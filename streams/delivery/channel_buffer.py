"""The newest frames of one channel, encoded once for all its readers in this process.

A reader keeps only its cursor, and takes the frames after it from the buffer. Where the buffer does
not reach back to the cursor, the reader reads the log. So a slow reader costs no memory.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Deliver = Callable[[int, int, bytes], bool]  # first and last id of events, and their frames
Pass = Callable[[float], float | None]  # `monotonic()` → the next deadline
BATCH_BYTES = 64 * 1024  # limit for what is written at once: more waits until its reader reads
KEPT_BYTES = 1024 * 1024  # limit for the frames of one channel: a follower may get them at once
CHECK = 0.5  # seconds that one follower may take to read the log for all
NEVER = float("inf")


class Wait(NamedTuple):
    """A follower that waits for a change, or for its deadline.

    `deliver` returns whether it goes on waiting, `pass_deadline` until when; None: it must wake.
    """

    deadline: float
    future: asyncio.Future[None]
    deliver: Deliver | None
    pass_deadline: Pass | None


class ChannelBuffer:
    """The newest frames of one channel, as they arrive in this process."""

    def __init__(self, keep: int) -> None:
        self.connected = False  # subscribed: events published from now on arrive
        self.subscription = 0  # counts subscriptions: after each, followers must read the log again
        self.version = 0  # counts changes: a follower that was busy during one must not wait
        self.deleted = False
        self.log_end: tuple[int | None, float] = (None, 0.0)  # the last id there, and when read
        self.unreadable = False  # the log could not be read when it was last tried
        self.last_final = 0
        self.listeners = 0
        self._keep = keep
        self._first = 0
        self._blocks: list[bytes] = []
        self._bytes = 0  # total size of these blocks
        self._waiting: list[Wait] = []
        self._due = NEVER  # the earliest of their deadlines, or before it
        self._check_began = -CHECK
        self._batch_after = 0  # the id before the first event of this batch
        self._batch_open = False  # whether `_deliver_batch` is still to come
        self._in_flight: dict[tuple[int, int | None], asyncio.Future[Any]] = {}

    @property
    def last(self) -> int:
        """The id of the newest frame; `_first - 1` if there is none."""
        return self._first + len(self._blocks) - 1

    def after(self, cursor: int) -> list[bytes] | None:
        """The frames after the cursor; None if the buffer lacks some and the log must be read."""
        if not self._blocks or cursor >= self.last:
            return []
        if cursor < self._first - 1:
            return None
        return self._blocks[cursor + 1 - self._first :]

    def push(self, id: int, frame: bytes) -> None:
        """Add the frame of event `id`, and have the followers that wait deliver it.

        Events that arrive together are delivered together: under load, one write for several.
        """
        if id != self.last + 1 or not self._blocks:
            self._drop(len(self._blocks))  # events were missed, or a new epoch has begun
            self._first = id
            self._batch_after = id - 1
        elif len(self._blocks) >= 2 * self._keep:
            self._drop(self._keep)
        self._blocks.append(frame)
        self._bytes += len(frame)
        while self._bytes > KEPT_BYTES and len(self._blocks) > 1:
            self._drop(len(self._blocks) // 2)
        self.version += 1
        if self._waiting and not self._batch_open:
            self._batch_after, self._batch_open = id - 1, True
            asyncio.get_running_loop().call_soon(self._deliver_batch)

    def _deliver_batch(self) -> None:
        self._batch_open = False
        first, last = self._batch_after + 1, self.last
        joined = b"".join(self.after(first - 1) or ())
        if not joined or len(joined) > BATCH_BYTES:
            self._go_through(lambda _: False)
            return
        self._go_through(lambda wait: bool(wait.deliver and wait.deliver(first, last, joined)))

    def _drop(self, count: int) -> None:
        self._bytes -= sum(map(len, self._blocks[:count]))
        del self._blocks[:count]
        self._first += count

    def subscribed(self) -> None:
        """Start anew: events published before this subscription may be missing."""
        self.connected = True
        self.distrust()

    def distrust(self) -> None:
        """Have each follower read the log again: an event of this subscription was lost."""
        self.subscription += 1
        self._drop(len(self._blocks))
        self.wake()

    def disconnected(self) -> None:
        self.connected = False
        self.wake()

    def delete(self) -> None:
        """Record that the conversation was deleted."""
        self.deleted = True
        self.wake()

    def wake(self) -> None:
        """Wake every follower that waits for a change."""
        self.version += 1
        self._go_through(lambda _: False)

    def tick(self, now: float) -> None:
        """Have the followers pass their deadline, or wake. `Hubs` calls it every `TICK` seconds."""
        if now < self._due:
            return
        waiting, self._waiting, self._due = self._waiting, [], NEVER
        for wait in waiting:
            if wait.future.done():
                continue  # its follower was cancelled
            due: float | None = wait.deadline
            if now >= wait.deadline:
                due = wait.pass_deadline(now) if wait.pass_deadline else None
            if due is None:
                wait.future.set_result(None)
            else:
                self._wait(wait if due == wait.deadline else wait._replace(deadline=due))

    def may_check(self, now: float) -> bool:
        """Whether the caller is to read the log for all followers. One at a time is, if it can."""
        is_sound = self.connected and not self.unreadable
        if is_sound and now < self._check_began + CHECK:
            return False
        self._check_began = now
        return True

    def _wait(self, wait: Wait) -> None:
        self._waiting.append(wait)
        self._due = min(self._due, wait.deadline)

    def _go_through(self, stays: Callable[[Wait], bool]) -> None:
        """Wake the followers that wait, except those that stay."""
        waiting, self._waiting = self._waiting, []
        for wait in waiting:
            if wait.future.done():
                continue  # its follower was cancelled
            if stays(wait):
                self._waiting.append(wait)
            else:
                wait.future.set_result(None)

    async def single_flight(self, cursor: int | None, read: Callable[[], Awaitable[T]]) -> T:
        """The result of `read`, shared by all followers at this cursor that read at the same time.

        When Redis is back, all followers read at once. A read is shared within one `version` only.
        One that began before a new event may lack it. A follower that this event woke would then
        wait for the next event.
        """
        key = (self.version, cursor)
        future: asyncio.Future[T] | None = self._in_flight.get(key)
        if future is None:
            future = self._in_flight[key] = asyncio.ensure_future(read())
            future.add_done_callback(partial(self._landed, key))
        return await asyncio.shield(future)  # the follower that began it may be cancelled first

    def _landed(self, key: tuple[int, int | None], read: asyncio.Future[Any]) -> None:
        del self._in_flight[key]
        if not read.cancelled():
            read.exception()  # taken note of, even if all that waited for it have left

    async def wait_for_change(
        self, deadline: float, deliver: Deliver | None = None, pass_deadline: Pass | None = None
    ) -> None:
        """Wait for a change, or for the first tick after the deadline (`monotonic()`).

        It waits on after an event for which `deliver` returns True, and after a deadline for which
        `pass_deadline` returns the next one. A timer for each wait would cost more than all else
        that a follower does for an event.
        """
        future = asyncio.get_running_loop().create_future()
        self._wait(Wait(deadline, future, deliver, pass_deadline))
        await future
