"""Redis loses its data: readers get a reset, a new epoch begins, and replies complete."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.many_followers import delta, dropping_readers, following, wait_for_all
from tests.support.outages import LOSSES
from tests.support.recording import Received
from tests.support.stack import Stack
from tests.support.visitor import script

CLOCK = Path(__file__).with_name("clock")
either_clock = pytest.mark.parametrize("back", [False, True], ids=["clock right", "clock back"])


@asynccontextmanager
async def clocked(stacks: Stacks, directory: Path) -> AsyncIterator[tuple[Stack, Path]]:
    """A stack whose clock is a second back for as long as the file is there."""
    file = directory / "clock-is-back"
    clock = {"PYTHONPATH": str(CLOCK), "CLOCK_BACK_WHILE": str(file)}
    async with stacks(also=clock) as stack:
        yield stack, file


@either_clock
async def test_a_log_lost_during_a_reply_resets_the_streams(
    stacks: Stacks,
    judge: Judge,
    size: Size[int],
    chance: random.Random,
    tmp_path: Path,
    back: bool,
) -> None:
    async with clocked(stacks, tmp_path) as (stack, clock):
        visitor = await stack.visitor()
        for number in range(size(2, 10)):
            asked, followers = await dropping_readers(visitor, chance, 5, seed=number)
            async with following(followers, within=60):
                await wait_for_all(followers, delta(chance.randrange(20, 80)), within=30)
                if back:
                    clock.touch()
                await LOSSES[number % 2](stack, chance)
            report = await judge(visitor, asked, followers, resets_allowed=True)
            assert report.clean, report
            runs = [await visitor.run(one.run) for one in asked]
            assert [run["status"] for run in runs] == ["completed"] * len(runs)
            clock.unlink(missing_ok=True)


@either_clock
async def test_a_log_lost_while_idle_resets_the_streams(
    stacks: Stacks,
    judge: Judge,
    size: Size[int],
    chance: random.Random,
    tmp_path: Path,
    back: bool,
) -> None:
    async with clocked(stacks, tmp_path) as (stack, clock):
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
            await wait_for_all(stayed, lambda h: h.block.event == "run.completed", within=30)
            if back:
                clock.touch()
            await LOSSES[number % 2](stack, chance)
            again = [
                await visitor.send(one.conversation, script(tokens=30, seed=f"x{number}-{n}"))
                for n, one in enumerate(asked)
            ]
            returned = [
                visitor.follower(one.conversation, cursor=old.recording.cursor())
                for one, old in zip(asked, gone, strict=True)
            ]
            async with following(returned, within=30):
                pass
            for follower, one in zip(stayed, again, strict=True):
                await follower.wait_for(mentions(one.run), within=30)
                follower.stop()
            await asyncio.gather(*staying)
            followers = [*stayed, *returned]
            report = await judge(visitor, [*asked, *again], followers, resets_allowed=True)
            assert report.clean, report
            assert report.resets, "nothing was lost: this has shown nothing"
            clock.unlink(missing_ok=True)


def mentions(run: str) -> Callable[[Received], bool]:
    """True of anything that names the run: an event of its own, or a snapshot."""
    return lambda heard: run.encode() in heard.block.raw
