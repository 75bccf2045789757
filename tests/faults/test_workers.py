"""Workers that are killed, frozen, ended or rung twice: each run is written once, to its end."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.faults.conftest import RELEASE, Judge, Size, Stacks
from tests.support.follower import Follower
from tests.support.many_followers import delta, following, started, wait_for_all
from tests.support.visitor import AcceptedRun, Visitor, script

LEASE = 10.0 if RELEASE else 4.0  # seconds; twice of it is what a frozen worker sleeps
TAKEN_UP_WITHIN = LEASE + 15.0  # seconds after a worker's death
HANDED_OVER_WITHIN = 5.0  # seconds after SIGTERM
LEASED = {"RUN_LEASE": str(LEASE)}
LONG_LEASE = {"RUN_LEASE": "120"}  # longer than a test waits: only a released run is taken up
AT_ONCE = 10  # replies
FILLED_WITHIN = 5.0  # seconds in which two places write twenty short replies


def held(tokens: int) -> dict[str, object]:
    """The model holds back the last piece in its first answer.

    So the first attempt cannot end before the test ends its worker, however long that takes.
    """
    return {"tokens": tokens, "fault": "silence", "fault_at": tokens - 1, "times": 1}


WINDOWS = pytest.mark.parametrize("window", ["0", "0.2"])  # each token an event, and several


async def speaking(
    visitor: Visitor, count: int, *, seed: object, **wishes: object
) -> tuple[list[AcceptedRun], list[Follower]]:
    """Some replies, each with one reader that stays and one without a cursor."""
    asked = [await visitor.ask(script(rate=20, seed=f"{seed}-{n}", **wishes)) for n in range(count)]
    followers = [
        visitor.follower(one.conversation, cursor=cursor)
        for one in asked
        for cursor in (one.cursor, None)
    ]
    return asked, followers


async def each_at(followers: list[Follower], chance: random.Random, most: int) -> None:
    """Wait until the first of them is at a random token, and all have started."""
    await wait_for_all(followers, delta(0), within=30)
    await followers[0].wait_for(delta(chance.randrange(most)), within=30)


@pytest.mark.long
@WINDOWS
async def test_the_replies_of_a_killed_worker_are_written_by_another(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random, window: str
) -> None:
    async with stacks(also={**LEASED, "DELTA_WINDOW": window}) as stack:
        visitor = await stack.visitor()
        for wave in range(size(1, 30)):
            asked, followers = await speaking(visitor, AT_ONCE, seed=wave, **held(120))
            async with following(followers, within=90):
                await each_at(followers, chance, 80)
                killed_at = time.monotonic()
                stack.worker.kill()
                stack.workers.pop(0)
                await stack.add_worker(ready=False)
                taken = await wait_for_all(followers, started(2), within=60)
            report = await judge(visitor, asked, followers, broken_at=[killed_at])
            assert report.clean, report
            assert max(heard.at for heard in taken) - killed_at <= TAKEN_UP_WITHIN
            runs = [await visitor.run(one.run) for one in asked]
            assert {(run["status"], run["attempt"]) for run in runs} == {("completed", 2)}


async def test_a_running_worker_takes_over_the_runs_of_a_killed_one(
    stacks: Stacks, judge: Judge, chance: random.Random
) -> None:
    async with stacks(also=LEASED) as stack:
        visitor = await stack.visitor()
        asked, followers = await speaking(visitor, AT_ONCE, seed=1, **held(160))
        async with following(followers, within=90):
            await wait_for_all(followers, delta(0), within=30)
            await stack.add_worker()
            killed_at = time.monotonic()
            stack.worker.kill()
            taken = await wait_for_all(followers, started(2), within=60)
        report = await judge(visitor, asked, followers, broken_at=[killed_at])
        assert report.clean, report
        assert max(heard.at for heard in taken) - killed_at <= TAKEN_UP_WITHIN


@pytest.mark.long
@WINDOWS
async def test_a_frozen_worker_that_wakes_up_publishes_nothing_more(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random, window: str
) -> None:
    async with stacks(also={**LEASED, "DELTA_WINDOW": window}) as stack:
        visitor = await stack.visitor()
        for wave in range(size(1, 10)):
            asked, followers = await speaking(visitor, AT_ONCE, seed=wave, **held(size(300, 500)))
            async with following(followers, within=120):
                await each_at(followers, chance, 60)
                await stack.add_worker()
                frozen_at = time.monotonic()
                stack.worker.freeze()
                await wait_for_all(followers, started(2), within=60)
                await asyncio.sleep(max(0.0, frozen_at + 2 * LEASE - time.monotonic()))
                stack.worker.thaw()
            report = await judge(visitor, asked, followers)
            assert report.clean, report
            runs = [await visitor.run(one.run) for one in asked]
            assert {(run["status"], run["attempt"]) for run in runs} == {("completed", 2)}
            stack.workers.pop(0).kill()


async def test_a_terminated_worker_releases_all_its_runs(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    async with stacks(also=LONG_LEASE) as stack:
        visitor = await stack.visitor()
        for wave in range(size(1, 5)):
            asked, followers = await speaking(visitor, AT_ONCE, seed=wave, **held(300))
            async with following(followers, within=60):
                await each_at(followers, chance, 60)
                await stack.add_worker()
                told_at = time.monotonic()
                stack.worker.terminate()
                taken = await wait_for_all(followers, started(2), within=30)
                await stack.workers.pop(0).ended(within=30)
            report = await judge(visitor, asked, followers, broken_at=[told_at])
            assert report.clean, report
            assert max(heard.at for heard in taken) - told_at <= HANDED_OVER_WITHIN


async def test_a_task_delivered_five_times_at_once_runs_once(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    count = size(50, 90)
    async with stacks(workers=0) as stack:
        visitor = await stack.visitor()
        for wave in range(size(1, 6)):
            asked, followers = await speaking(visitor, count, seed=wave, tokens=20)
            rings = await stack.valkey.queued_tasks()
            assert len(rings) >= count
            again = rings * 4
            chance.shuffle(again)
            for queue, task in again:
                await stack.valkey.redeliver(queue, task)
            before = stack.model.stats()["requests"]
            async with following(followers, within=60):
                for _ in range(2):
                    await stack.add_worker(ready=False)
            report = await judge(visitor, asked, followers)
            assert report.clean, report
            runs = [await visitor.run(one.run) for one in asked]
            assert {(run["status"], run["attempt"]) for run in runs} == {("completed", 1)}
            assert stack.model.stats()["requests"] - before == count
            for worker in stack.workers:
                worker.kill()
            stack.workers.clear()


@pytest.mark.alone
async def test_a_freed_place_is_taken_at_once(stacks: Stacks) -> None:
    async with stacks(also={"WORKER_CONCURRENCY": "2"}) as stack:
        visitor = await stack.visitor()
        begun = time.monotonic()
        asked = await asyncio.gather(*(visitor.ask(script(tokens=1, seed=n)) for n in range(20)))
        while {(await visitor.run(one.run))["status"] for one in asked} != {"completed"}:
            assert time.monotonic() - begun < FILLED_WITHIN
