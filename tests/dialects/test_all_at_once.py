"""One run followed at the same time in every wire, each reader cut ten times, the worker killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.dialects.conftest import Installed, Stacks
from tests.support.openai_client import User
from tests.support.ports import HOST
from tests.support.run_readers import READERS, OneRun, RunReader
from tests.support.script import expected
from tests.support.tcp_proxy import Proxy
from tests.support.vendors import VendorProcess
from tests.support.visitor import script
from tests.support.waiting import until

CUTS = 10
FARTHEST = 1_500  # bytes of a response, head and all, before which it is cut
ENDED_WITHIN = 120.0  # seconds


@asynccontextmanager
async def clients(installed: Installed) -> AsyncIterator[dict[str, VendorProcess]]:
    """The vendors' processes, by the names of the readers that have one."""
    async with AsyncExitStack() as stack:
        yield {
            one.name: await stack.enter_async_context(
                VendorProcess(one.script, installed(one.packages))
            )
            for one in READERS
            if one.script
        }


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:Reconnecting without a Last-Event-ID")  # LangGraph's SDK
async def test_readers_of_all_wires_end_equal_to_the_database(
    stacks: Stacks, installed: Installed, chance: random.Random
) -> None:
    async with (
        clients(installed) as processes,
        stacks(also={"RUN_LEASE": "4", "MAX_STREAMS": "100"}) as stack,
        AsyncExitStack() as proxies,
    ):
        user = await User.of(stack)
        asked = await user.visitor.ask(script(tokens=500, seed=1, rate=20, reasoning=3))
        fronts: dict[str, Proxy] = {}

        async def read(reader: RunReader) -> str:
            front = Proxy((HOST, stack.ports[stack.web.name]))
            fronts[reader.name] = await proxies.enter_async_context(front)
            for _ in range(CUTS + 1):  # the service itself breaks useChat 5 at the second attempt
                at, reset = chance.randint(1, FARTHEST), chance.random() < 0.5
                front.cut_next_answer_after(at, reset=reset)
            run = OneRun(asked=asked, user=user, port=front.port)
            return await reader.read(run, processes.get(reader.name))

        reading = [asyncio.create_task(read(reader)) for reader in READERS]
        await until(
            lambda: (
                any(one.done() for one in reading)
                or (len(fronts) == len(READERS) and min(_cuts(fronts)) >= 2)
            ),
            within=60,
            what="two cuts of each reader",
        )
        stack.worker.kill()
        await stack.add_worker()
        async with asyncio.timeout(ENDED_WITHIN):
            texts = await asyncio.gather(*reading)
        stored = await user.visitor.run(asked.run)
        assert (stored["status"], stored["attempt"]) == ("completed", 2)
        assert stored["text"] == expected(asked.script)
        names = [reader.name for reader in READERS]
        assert dict(zip(names, texts, strict=True)) == dict.fromkeys(names, stored["text"])
        assert {name: front.cuts_made >= CUTS for name, front in fronts.items()} == dict.fromkeys(
            names, True
        )
        await user.visitor.close()


def _cuts(fronts: dict[str, Proxy]) -> list[int]:
    return [front.cuts_made for front in fronts.values()]
