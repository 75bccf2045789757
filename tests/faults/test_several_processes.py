"""Two of each part on PostgreSQL, behind two Pushpins, with a replica: each is lost in its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.conftest import Judge, Size
from tests.support.databases import migrate
from tests.support.follower import Follower
from tests.support.many_followers import delta, following, numbered_since, wait_for_all
from tests.support.outages import cut_off, replica_of, taken_over
from tests.support.postgresql import PostgreSQL
from tests.support.pushpin_stack import PushpinStack
from tests.support.stack import Stack
from tests.support.visitor import script

LONG = 20_000  # tokens: a reply that lasts until it is cancelled


@pytest.fixture
async def postgresql() -> AsyncIterator[PostgreSQL]:
    async with PostgreSQL.running_server() as server:
        yield server


@pytest.mark.long
async def test_with_two_of_every_process_each_can_die_in_turn(
    postgresql: PostgreSQL, tmp_path: Path, judge: Judge, size: Size[int]
) -> None:
    migrate({"DATA_DIR": str(tmp_path), "DATABASE_URL": postgresql.url})
    chosen = PushpinStack.shared_settings()
    also = {**chosen, "RUN_LEASE": "4", "RUN_ATTEMPTS": "100"}  # workers die in turn, and again
    async with (
        Stack(
            tmp_path / "stack", postgresql.url, webs=2, workers=2, proxied=True, also=also
        ) as stack,
        PushpinStack(stack, chosen, pushpins=2, bridges=2) as gripped,
        replica_of(stack) as replica,
    ):
        visitor = await stack.visitor()
        asked = [await visitor.ask(script(tokens=LONG, rate=20, seed=n)) for n in range(4)]
        readers = [
            visitor.follower(one.conversation, cursor=one.cursor, port=port, retry_at_most=0.5)
            for one in asked
            for port in gripped.ports
            for _ in range(3)
        ]
        async with following(readers, within=60):
            await wait_for_all(readers, delta(0), within=30)
            for _ in range(size(1, 5)):
                for part in (*stack.holders, *stack.webs, *stack.workers):
                    part.kill()
                    await asyncio.sleep(1)
                    part.start()
                    await all_go_on(readers)
                await postgresql.kill_all()
                await asyncio.sleep(1)
                postgresql.start()
                await postgresql.answers()
                await all_go_on(readers)
            cut_off(stack)
            await replica.replicate(stack.valkey)
            await taken_over(stack, replica)
            await all_go_on(readers)
            await gripped.ready()
            await asyncio.gather(*(visitor.cancel(one.run) for one in asked))
        report = await judge(visitor, asked, readers)
        assert report.clean, report
        assert all(part.running for part in (*stack.holders, *stack.webs, *stack.workers))


async def all_go_on(readers: list[Follower]) -> None:
    await wait_for_all(readers, numbered_since(time.monotonic() + 1), within=40)
