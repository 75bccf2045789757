"""Faults of Redis: outages, and losses of its data."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from tests.support.ports import HOST
from tests.support.stack import Stack
from tests.support.valkey import Valkey

Outage = Callable[[Stack, float], Coroutine[None, None, None]]
Loss = Callable[[Stack, random.Random], Coroutine[None, None, None]]


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
    cut_off(stack)
    await asyncio.sleep(seconds)
    for proxy in (stack.web_redis, stack.worker_redis):
        await proxy.accept()


async def swallowed(stack: Stack, seconds: float) -> None:
    """The proxies accept connections and answer nothing, then reset all of them."""
    for proxy in (stack.web_redis, stack.worker_redis):
        proxy.stall()
    await asyncio.sleep(seconds)
    for proxy in (stack.web_redis, stack.worker_redis):
        proxy.reset()
        proxy.flow()


async def full(stack: Stack, seconds: float) -> None:
    """Redis is out of memory. It answers, but refuses every write."""
    await stack.valkey.client.config_set("maxmemory", 1)
    await asyncio.sleep(seconds)
    await stack.valkey.client.config_set("maxmemory", 0)


async def emptied(stack: Stack, chance: random.Random) -> None:
    await stack.valkey.client.flushall()


async def tail_lost(stack: Stack, chance: random.Random) -> None:
    """The last writes are lost, as after a failover to a replica that lagged."""
    stack.valkey.kill()
    stack.valkey.cut_tail(chance.randrange(500, 20_000))
    stack.valkey.start()
    await stack.valkey.answers()


@asynccontextmanager
async def replica_of(stack: Stack) -> AsyncIterator[Valkey]:
    """A replica of the stack's Valkey that has copied everything and continues to copy."""
    replica = Valkey(stack.directory, stack.logs / "replica.log", name="replica")
    replica.start()
    try:
        await replica.answers()
        await replica.replicate(stack.valkey)
        yield replica
    finally:
        await replica.client.aclose()
        replica.kill()


def cut_off(stack: Stack) -> None:
    """Cut all connections of the service to Redis, so that it receives no more writes."""
    for proxy in (stack.web_redis, stack.worker_redis):
        proxy.refuse()
        proxy.reset()


async def taken_over(stack: Stack, replica: Valkey) -> None:
    """Kill the primary, and let the service's proxies lead to its former replica."""
    stack.valkey.kill()
    await replica.promote()
    for proxy in (stack.web_redis, stack.worker_redis):
        proxy.upstreams = [(HOST, replica.port)]
        await proxy.accept()


OUTAGES: tuple[Outage, ...] = (killed, restarted, stalled, unreachable, swallowed, full)
LOSSES: tuple[Loss, ...] = (emptied, tail_lost)
