"""The WebSocket behind each proxy of docs/deploy: a message and its reply pass unchanged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from tests.dialects.conftest import Stacks
from tests.support.caddy import caddy_before
from tests.support.nginx import nginx_before
from tests.support.ports import HOST
from tests.support.pushpin_stack import PushpinStack
from tests.support.socket_client import SocketFollower, opened
from tests.support.visitor import Visitor, script

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def check_passes(through: Visitor, origin: str = "") -> None:
    """Ask and follow over a socket through what is in front of the web process."""
    asked = await through.ask(script(tokens=60, rate=40))
    async with opened(through, asked.conversation, origin=origin) as client:
        answer = await client.ask(script(tokens=3), when_busy="queue")
        await client.wait_for_end(answer.data["response"]["run"])
    tip = (await through.conversation(asked.conversation))["cursor"]
    for _ in range(20):
        reader = SocketFollower(
            through, asked.conversation, port=through.port, cursor=asked.cursor, origin=origin
        )
        async with asyncio.timeout(60):
            recording = await reader.follow()
        ids = [one.block.id for one in recording.received() if one.block.id]
        assert ids == list(range(int(asked.cursor or 0) + 1, tip + 1))
    async with opened(through, str(uuid4()), origin=origin) as client:
        assert await client.closed() == (4404, "Not Found")  # Pushpin drops the frame before it


async def test_a_socket_passes_nginx(visitor: Visitor, tmp_path: Path) -> None:
    nginx, port = await nginx_before(visitor.port, tmp_path / "nginx")
    try:
        await check_passes(visitor.at(port), origin=f"http://{HOST}")  # nginx passes no port on
    finally:
        nginx.kill()


async def test_a_socket_passes_caddy(visitor: Visitor, tmp_path: Path) -> None:
    caddy, port = await caddy_before(visitor.port, tmp_path / "caddy")
    try:
        await check_passes(visitor.at(port))
    finally:
        caddy.kill()


async def test_a_socket_passes_pushpin_unheld(stacks: Stacks) -> None:
    chosen = PushpinStack.shared_settings()
    async with stacks(also=chosen) as stack, PushpinStack(stack, chosen) as pushpin:
        await check_passes((await stack.visitor(stack.web)).at(pushpin.port))
