"""The timer of waiting followers ends at the earliest deadline, and never without one."""

import asyncio
from time import monotonic

from streams.delivery.deadline_timer import NEVER, TICK, DeadlineTimer


class Deadlines:
    """Deadlines as buffers keep them: each pass takes those that have come."""

    def __init__(self) -> None:
        self.passes = 0
        self.late: list[float] = []
        self.timer = DeadlineTimer(self.take)
        self.empty = asyncio.Event()
        self._waiting: list[float] = []

    def wait(self, seconds: float) -> None:
        self._waiting.append(monotonic() + seconds)
        self.timer.wake_at(self._waiting[-1])

    def take(self, now: float) -> float:
        self.passes += 1
        self.late += [now - at for at in self._waiting if at <= now]
        self._waiting = [at for at in self._waiting if at > now]
        if not self._waiting:
            self.empty.set()
        return min(self._waiting, default=NEVER)


async def test_each_deadline_passes_within_a_tick_whatever_their_order() -> None:
    deadlines = Deadlines()
    for seconds in (0.5, 0.05, 0.3, 0.7, 0.31, 0.32):
        deadlines.wait(seconds)
    async with asyncio.timeout(10):
        await deadlines.empty.wait()
    assert len(deadlines.late) == 6
    assert min(deadlines.late) >= 0
    assert deadlines.passes <= 6


async def test_deadlines_within_one_tick_share_one_pass() -> None:
    deadlines = Deadlines()
    begin = (monotonic() // TICK + 3) * TICK  # the whole of one tick is ahead
    for n in range(50):
        deadlines.wait(begin + (n + 1) * TICK / 60 - monotonic())
    async with asyncio.timeout(10):
        await deadlines.empty.wait()
    assert (deadlines.passes, len(deadlines.late)) == (1, 50)


async def test_a_deadline_that_is_set_while_others_pass_is_not_forgotten() -> None:
    seen: list[int] = []
    done = asyncio.Event()

    def again(now: float) -> float:
        seen.append(len(seen))
        if len(seen) == 3:
            done.set()
            return NEVER
        timer.wake_at(now)  # as a follower that waits for another one's read
        return now

    timer = DeadlineTimer(again)
    begun = monotonic()
    timer.wake_at(begun)
    async with asyncio.timeout(10):
        await done.wait()
    assert monotonic() - begun >= TICK  # it does not spin
    assert seen == [0, 1, 2]


async def test_a_closed_timer_ends_no_more() -> None:
    deadlines = Deadlines()
    deadlines.wait(0.05)
    deadlines.timer.close()
    other = Deadlines()
    other.wait(0.2)
    async with asyncio.timeout(10):
        await other.empty.wait()
    assert deadlines.passes == 0


async def test_after_a_fault_the_next_deadlines_are_passed() -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    passed = asyncio.Event()

    def fail_once(_: float) -> float:
        if not faults:
            raise OSError("one stream cannot be written to")
        passed.set()
        return NEVER

    DeadlineTimer(fail_once).wake_at(monotonic())
    async with asyncio.timeout(10):
        await passed.wait()
    assert len(faults) == 1
