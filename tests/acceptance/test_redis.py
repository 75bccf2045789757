"""Redis away, for moments and for longer: streams stay, and everybody goes on when it is back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine

from tests.acceptance.conftest import Judge, Size, Stacks
from tests.acceptance.crowd import all_hear, delta, following, lateness, numbered_since, share
from tests.acceptance.follower import Follower
from tests.acceptance.recording import Heard
from tests.acceptance.stack import Stack
from tests.acceptance.visitor import Asked, Visitor, script

BACK_WITHIN = 10.0  # seconds after the return of Redis
LONG = 20_000  # tokens: a reply that goes on until it is cancelled
Outage = Callable[[Stack, float], Coroutine[None, None, None]]


async def killed(stack: Stack, seconds: float) -> None:
    stack.valkey.kill()
    await asyncio.sleep(seconds)
    stack.valkey.start()
    await stack.valkey.answers()


async def restarted(stack: Stack, seconds: float) -> None:
    stack.valkey.terminate()
    await stack.valkey.ended(within=20)
    await asyncio.sleep(seconds)
    stack.valkey.start()
    await stack.valkey.answers()


async def stalled(stack: Stack, seconds: float) -> None:
    stack.valkey.freeze()
    await asyncio.sleep(seconds)
    stack.valkey.thaw()


async def unreachable(stack: Stack, seconds: float) -> None:
    for proxy in (stack.web_redis, stack.worker_redis):
        proxy.refuse()
        proxy.reset()
    await asyncio.sleep(seconds)
    for proxy in (stack.web_redis, stack.worker_redis):
        await proxy.accept()


async def swallowed(stack: Stack, seconds: float) -> None:
    """A black hole: connections are taken and nothing is answered, then all are reset."""
    for proxy in (stack.web_redis, stack.worker_redis):
        proxy.stall()
    await asyncio.sleep(seconds)
    for proxy in (stack.web_redis, stack.worker_redis):
        proxy.reset()
        proxy.flow()


OUTAGES: tuple[Outage, ...] = (killed, restarted, stalled, unreachable, swallowed)


async def test_redis_away_and_back_loses_nothing(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    rounds = size(10, 60)
    long_ones = -(-rounds // 3)
    seconds = [chance.uniform(8, 20) for _ in range(long_ones)]
    seconds += [chance.uniform(0.2, 8) for _ in range(rounds - long_ones)]
    outages = [OUTAGES[n % len(OUTAGES)] for n in range(rounds)]
    chance.shuffle(outages)
    async with stacks(proxied=True) as stack:
        visitor = await stack.visitor()
        asked = [await visitor.ask(script(tokens=LONG, rate=20, seed=n)) for n in range(2)]
        followers = [
            visitor.follower(one.conversation, cursor=one.cursor)
            for one in asked
            for _ in range(10)
        ]
        lasting = [*followers]
        returns: list[float] = []
        async with following(followers, within=30):
            await all_hear(followers, delta(0), within=30)
            for number, (outage, length) in enumerate(zip(outages, seconds, strict=True)):
                away = asyncio.create_task(outage(stack, length))
                await asyncio.sleep(length / 2)
                asked.append(await visitor.ask(script(tokens=20, rate=50, seed=1000 + number)))
                followers.append(visitor.follower(asked[-1].conversation))
                late = asyncio.create_task(followers[-1].follow())
                await away
                returns.append(time.monotonic())
                await all_hear(lasting, numbered_since(returns[-1]), within=30)
                async with asyncio.timeout(30):
                    await late
            for one in asked[:2]:
                await visitor.cancel(one.run)
        report = await judge(visitor, asked, lasting, broken_at=returns)
        assert report.clean, report
        assert report.recovery(1) <= BACK_WITHIN, report
        newcomers = await judge(visitor, asked, followers[len(lasting) :])
        assert newcomers.clean, newcomers
        assert all(part.running for part in (*stack.webs, *stack.workers))


async def test_cutting_the_subscription_again_and_again_loses_nothing(
    stacks: Stacks, judge: Judge, chance: random.Random
) -> None:
    rate, cuts = 50, 50
    async with stacks() as stack:
        visitor = await stack.visitor()
        asked = await visitor.ask(script(tokens=LONG, rate=rate, seed=1))
        followers = [visitor.follower(asked.conversation, cursor=asked.cursor) for _ in range(20)]
        async with following(followers, within=30):
            heard = 0
            for _ in range(cuts):
                heard += chance.randrange(5, 20)
                await all_hear(followers, delta(heard), within=30)
                await stack.valkey.cut_subscriptions()
            await all_hear(followers, delta(heard + rate), within=30)
            await visitor.cancel(asked.run)
        report = await judge(visitor, [asked], followers)
        assert report.clean, report
        late = lateness([follower.recording for follower in followers], rate)
        assert share(late, 0.95) <= 2.0


async def test_a_history_that_is_lost_in_mid_reply_is_said_to_be_lost(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    async with stacks() as stack:
        visitor = await stack.visitor()
        for number in range(size(2, 10)):
            asked, followers = await begun(visitor, chance, seed=number)
            async with following(followers, within=60):
                await all_hear(followers, delta(chance.randrange(20, 80)), within=30)
                if number % 2:
                    stack.valkey.kill()
                    stack.valkey.lose(chance.randrange(500, 20_000))
                    stack.valkey.start()
                    await stack.valkey.answers()
                else:
                    await stack.valkey.client.flushall()
            report = await judge(visitor, asked, followers, resets_allowed=True)
            assert report.clean, report
            runs = [await visitor.run(one.run) for one in asked]
            assert [run["status"] for run in runs] == ["completed"] * len(runs)


async def begun(
    visitor: Visitor, chance: random.Random, *, seed: int
) -> tuple[list[Asked], list[Follower]]:
    """Five replies of eight seconds, each with readers who stay and readers who come and go."""
    asked = [await visitor.ask(script(tokens=400, rate=50, seed=f"{seed}-{n}")) for n in range(5)]
    followers = [
        visitor.follower(
            one.conversation,
            cursor=one.cursor,
            cuts=[chance.randrange(30_000) for _ in range(drops)],
        )
        for one in asked
        for drops in (0, 0, 2, 4)
    ]
    return asked, followers


async def test_a_history_that_is_lost_while_nothing_runs_is_said_to_be_lost(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    async with stacks() as stack:
        visitor = await stack.visitor()
        for number in range(size(2, 8)):
            asked = [await visitor.ask(script(tokens=30, seed=f"{number}-{n}")) for n in range(5)]
            gone = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
            async with following(gone, within=30):
                pass
            stayed = [
                visitor.follower(one.conversation, cursor=0, until_idle=False) for one in asked
            ]
            staying = [asyncio.create_task(follower.follow()) for follower in stayed]
            await all_hear(stayed, lambda h: h.block.event == "run.completed", within=30)
            if number % 2:
                stack.valkey.kill()
                stack.valkey.lose(chance.randrange(500, 5_000))
                stack.valkey.start()
                await stack.valkey.answers()
            else:
                await stack.valkey.client.flushall()
            again = [
                await visitor.say(one.conversation, script(tokens=30, seed=f"x{number}-{n}"))
                for n, one in enumerate(asked)
            ]
            back = [
                visitor.follower(one.conversation, cursor=old.recording.cursor())
                for one, old in zip(asked, gone, strict=True)
            ]
            async with following(back, within=30):
                pass
            for follower, one in zip(stayed, again, strict=True):
                await follower.hears(mentions(one.run), within=30)
                follower.stop()
            await asyncio.gather(*staying)
            followers = [*stayed, *back]
            report = await judge(visitor, [*asked, *again], followers, resets_allowed=True)
            assert report.clean, report


def mentions(run: str) -> Callable[[Heard], bool]:
    """True of anything that names the run: an event of its own, or a snapshot."""
    return lambda heard: run.encode() in heard.block.raw
