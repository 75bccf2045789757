"""The limits of one owner: reported when they are reached, and freed when a run ends."""

from __future__ import annotations

import time

from tests.faults.conftest import Judge, Stacks
from tests.support.many_followers import delta, final_event, following, started, wait_for_all
from tests.support.visitor import script

RUNS = 5
LEASE = 4  # seconds, so that three deaths are not half a minute
ATTEMPTS = 3
LOST_WITHIN = 25.0  # seconds after the last worker's death


async def test_replies_lost_by_three_workers_fail_and_free_their_places(
    stacks: Stacks, judge: Judge
) -> None:
    settings = {"MAX_LIVE_RUNS": str(RUNS), "RUN_LEASE": str(LEASE)}
    async with stacks(also=settings) as stack:
        visitor, neighbour = await stack.visitor(), await stack.visitor()
        asked = [await visitor.ask(script(tokens=20_000, rate=20, seed=n)) for n in range(RUNS)]
        followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
        one_more = {"message": script(tokens=5)}
        async with following(followers, within=60):
            for attempt in range(1, ATTEMPTS + 1):
                await wait_for_all(followers, started(attempt), within=60)
                refused = await visitor.http.post("/api/conversations/", json=one_more)
                assert refused.status_code == 429
                assert refused.json()["code"] == "too_many_runs"
                assert int(refused.headers["Retry-After"]) > 0
                if attempt < ATTEMPTS:
                    await stack.add_worker()
                stack.workers.pop(0).kill()
                killed_at = time.monotonic()
            ends = await wait_for_all(followers, final_event(), within=60)
        report = await judge(visitor, asked, followers)
        assert report.clean, report
        assert max(end.at for end in ends) - killed_at <= LOST_WITHIN
        assert {end.block.event for end in ends} == {"run.failed"}
        assert {end.block.payload["code"] for end in ends} == {"worker_lost"}
        assert all(end.block.payload["reason"] for end in ends)
        await stack.add_worker()
        for owner in (visitor, neighbour):
            more = [await owner.ask(script(tokens=5, seed=n)) for n in range(RUNS)]
            readers = [owner.follower(one.conversation) for one in more]
            async with following(readers, within=60):
                pass
            report = await judge(owner, more, readers)
            assert report.clean, report


async def test_a_limit_applies_per_owner_and_a_cancel_frees_a_place(
    stacks: Stacks, judge: Judge
) -> None:
    async with stacks(also={"MAX_LIVE_RUNS": str(RUNS)}) as stack:
        visitor, neighbour = await stack.visitor(), await stack.visitor()
        asked = [await visitor.ask(script(tokens=20_000, rate=20, seed=n)) for n in range(RUNS)]
        followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
        async with following(followers, within=30):
            await wait_for_all(followers, delta(0), within=30)
            full = await visitor.http.post("/api/conversations/", json={"message": "One more?"})
            assert full.status_code == 429
            theirs = await neighbour.ask(script(tokens=5))
            await visitor.cancel(asked[0].run)
            asked.append(await visitor.ask(script(tokens=5)))
            followers.append(visitor.follower(asked[-1].conversation))
            await followers[-1].follow()
            for one in asked[1:RUNS]:
                await visitor.cancel(one.run)
        report = await judge(visitor, asked, followers)
        assert report.clean, report
        reader = neighbour.follower(theirs.conversation)
        await reader.follow()
        report = await judge(neighbour, [theirs], [reader])
        assert report.clean, report
