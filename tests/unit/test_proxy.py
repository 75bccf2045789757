"""The tests' proxy causes exactly the chosen faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.ports import HOST, free_port
from tests.support.tcp_proxy import Proxy

ANSWER = bytes(range(256)) * 40
PATIENCE = 10.0  # seconds


@asynccontextmanager
async def echo(*, proxied_with: int | None = None) -> AsyncIterator[Proxy]:
    """A proxy before a server that answers each line with ANSWER."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(speak, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    upstreams = [(HOST, port)] if proxied_with is None else [(HOST, proxied_with), (HOST, port)]
    async with server, Proxy(*upstreams) as proxy:
        yield proxy


async def ask(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"say it\n")
    return reader, writer


async def test_it_passes_both_ways() -> None:
    async with echo() as proxy, asyncio.timeout(PATIENCE):
        reader, writer = await ask(proxy)
        assert await reader.readexactly(len(ANSWER)) == ANSWER
        writer.write(b"again\n")
        assert await reader.readexactly(len(ANSWER)) == ANSWER
        writer.close()


@pytest.mark.parametrize("cut", [1, 255, 256, 4096, len(ANSWER) - 1])
async def test_it_cuts_after_an_exact_number_of_bytes(cut: int) -> None:
    async with echo() as proxy, asyncio.timeout(PATIENCE):
        proxy.cut_next_answer_after(cut)
        reader, writer = await ask(proxy)
        assert await reader.read() == ANSWER[:cut]
        writer.close()
        reader, writer = await ask(proxy)
        assert await reader.readexactly(len(ANSWER)) == ANSWER
        writer.close()


async def test_it_holds_all_bytes_while_stalled() -> None:
    async with echo() as proxy, asyncio.timeout(PATIENCE):
        proxy.stall()
        reader, writer = await ask(proxy)
        answer = asyncio.create_task(reader.readexactly(len(ANSWER)))
        done, _ = await asyncio.wait({answer}, timeout=0.1)
        assert not done
        proxy.flow()
        assert await answer == ANSWER
        writer.close()


async def test_it_resets_open_connections() -> None:
    async with echo() as proxy, asyncio.timeout(PATIENCE):
        reader, writer = await ask(proxy)
        await reader.readexactly(len(ANSWER))
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_it_refuses_until_it_accepts_again_on_the_same_port() -> None:
    async with echo() as proxy, asyncio.timeout(PATIENCE):
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await ask(proxy)
        await proxy.accept()
        reader, writer = await ask(proxy)
        assert await reader.readexactly(len(ANSWER)) == ANSWER
        writer.close()


async def test_it_limits_the_rate() -> None:
    async with echo() as proxy, asyncio.timeout(PATIENCE):
        proxy.throttle(4 * len(ANSWER))
        clock = asyncio.get_running_loop().time
        begun = clock()
        reader, writer = await ask(proxy)
        assert await reader.readexactly(len(ANSWER)) == ANSWER
        assert 0.2 < clock() - begun < PATIENCE
        writer.close()


async def test_it_takes_the_next_upstream_when_one_is_down() -> None:
    async with echo(proxied_with=free_port()) as proxy, asyncio.timeout(PATIENCE):
        for _ in range(3):
            reader, writer = await ask(proxy)
            assert await reader.readexactly(len(ANSWER)) == ANSWER
            writer.close()
