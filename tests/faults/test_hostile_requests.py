"""Requests that are made to cost much: what a web process keeps of them."""

from __future__ import annotations

import asyncio
from itertools import cycle, islice

import psutil
import pytest

from tests.faults.conftest import Stacks
from tests.support.hostile_requests import BODIES
from tests.support.stack import Stack
from tests.support.visitor import Visitor

BEGIN = "/api/conversations/"
JSON = {"Content-Type": "application/json"}
COUNT = 50
GROWTH = 20 * 1024 * 1024  # bytes


async def refused(visitor: Visitor, bodies: list[bytes], *, at_once: int) -> set[int]:
    """The statuses of posts of these bodies."""
    gate = asyncio.Semaphore(at_once)

    async def post(body: bytes) -> int:
        async with gate:
            return (await visitor.http.post(BEGIN, content=body, headers=JSON)).status_code

    return set(await asyncio.gather(*(post(body) for body in bodies)))


def memory(stack: Stack) -> int:
    """The bytes of memory that the web process keeps."""
    size: int = psutil.Process(stack.web.pid).memory_info().rss
    return size


@pytest.mark.parametrize("at_once", [1, 8])
async def test_a_refused_body_leaves_no_memory_behind(stacks: Stacks, at_once: int) -> None:
    async with stacks(workers=0) as stack:
        visitor = await stack.visitor()
        small = [b'{"message": [{}]}'] * 200  # every thread is there, and has answered
        assert await refused(visitor, small, at_once=100) == {422}
        before = memory(stack)
        bodies = list(islice(cycle(BODIES.values()), COUNT))
        assert await refused(visitor, bodies, at_once=at_once) <= {400, 422}
        assert memory(stack) - before < GROWTH
