"""The newest frames of one channel, encoded once for all its readers in this process.

A reader keeps only its cursor, and takes the frames after it from the buffer. If the buffer does
not reach back to the cursor, the reader reads the log. So a slow reader costs no memory.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from streams.delivery.deadline_timer import NEVER

T = TypeVar("T")
Deliver = Callable[[int, int, bytes], bool]  # first id, last id, frames → goes on waiting
Pass = Callable[[float], float | None]  # `monotonic()` → the next deadline
BATCH_BYTES = 64 * 1024  # limit for one batch; for a longer one, the followers wake and write it
KEPT_BYTES = 1024 * 1024  # limit for one channel's frames, because a follower may take all at once
CHECK = 0.5  # seconds that one follower may take to read the log for all


class Wait(NamedTuple):
    """A follower that waits for a change, or for its deadline.

    `deliver` returns whether the follower goes on waiting. `pass_deadline` returns the next
    deadline, or None if the follower must wake.
    """

    deadline: float
    future: asyncio.Future[None]
    deliver: Deliver | None
    pass_deadline: Pass | None


class ChannelBuffer:
    """The newest frames of one channel, as they arrive in this process."""

    def __init__(self, keep: int, wake_at: Callable[[float], None]) -> None:
        """`wake_at` is called with each new earliest deadline, and must then call `tick`."""
        self.connected = False  # subscribed, so events that are published from now on arrive
        self.subscription = 0  # grows with each subscription; followers then read the log again
        self.version = 0  # grows with each change; a follower that was busy then must not wait
        self.deleted = False
        self.log_end: tuple[int | None, float] = (None, 0.0)  # the log's last id, and when read
        self.unreadable = False  # the log could not be read when it was last tried
        self.last_final = 0
        self.listeners = 0
        self._keep = keep
        self._wake_at = wake_at
        self._first = 0
        self._blocks: list[bytes] = []
        self._bytes = 0  # total size of these blocks
        self._waiting: list[Wait] = []
        self._due = NEVER  # the earliest of their deadlines, or an earlier time
        self._check_began = -CHECK
        self._batch_after = 0  # the id before the first event of this batch
        self._batch_open = False  # whether a call of `_deliver_batch` is scheduled
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
        """Add the frame of event `id`, and let the waiting followers deliver it.

        Events that arrive together are delivered together, so under load one write has several.
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
        """Begin again, because events that were published before may be missing."""
        self.connected = True
        self.distrust()

    def distrust(self) -> None:
        """Make each follower read the log again, because an event may be missing."""
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

    def tick(self, now: float) -> float:
        """Let followers whose deadline is over pass it, or wake them. Returns the next deadline."""
        if now < self._due:
            return self._due
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
        return self._due

    def may_check(self, now: float) -> bool:
        """Whether the caller must read the log for all followers.

        While the log can be read, this is True for one follower at a time.
        """
        is_sound = self.connected and not self.unreadable
        if is_sound and now < self._check_began + CHECK:
            return False
        self._check_began = now
        return True

    def _wait(self, wait: Wait) -> None:
        self._waiting.append(wait)
        if wait.deadline < self._due:
            self._due = wait.deadline
            self._wake_at(self._due)

    def _go_through(self, stays: Callable[[Wait], bool]) -> None:
        """Wake the waiting followers, except those for which `stays` returns True."""
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

        When Redis is back, all followers read at once. A read is shared within one `version` only,
        because a read that began before a new event may lack this event. The follower that the
        event woke would then wait for the next event.
        """
        key = (self.version, cursor)
        future: asyncio.Future[T] | None = self._in_flight.get(key)
        if future is None:
            future = self._in_flight[key] = asyncio.ensure_future(read())
            future.add_done_callback(partial(self._landed, key))
        return await asyncio.shield(future)  # others need it if the first follower is cancelled

    def _landed(self, key: tuple[int, int | None], read: asyncio.Future[Any]) -> None:
        del self._in_flight[key]
        if not read.cancelled():
            read.exception()  # otherwise asyncio reports it if no follower waits any more

    async def wait_for_change(
        self, deadline: float, deliver: Deliver | None = None, pass_deadline: Pass | None = None
    ) -> None:
        """Wait for a change, or for the first tick after the deadline (`monotonic()`).

        The wait goes on after an event for which `deliver` returns True, and after a deadline for
        which `pass_deadline` returns the next one.
        """
        future = asyncio.get_running_loop().create_future()
        self._wait(Wait(deadline, future, deliver, pass_deadline))
        await future
