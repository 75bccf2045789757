"""docs/clients.md: each example as it stands there, with its connections cut in mid-reply."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.browser.support.chromium import chromium
from tests.faults.conftest import Stacks
from tests.support.ports import HOST, essentials
from tests.support.procfile import CHECKOUT
from tests.support.replayer import Replayer
from tests.support.script import expected
from tests.support.sse_blocks import Splitter
from tests.support.stack import Stack
from tests.support.stack_fixtures import shared_stack
from tests.support.tcp_proxy import Proxy
from tests.support.waiting import until

PAGE = (CHECKOUT / "docs/clients.md").read_text()
REPLY = expected("What is a river?")
SLOW = 1_000  # bytes a second: the reply's two kilobytes take about two seconds
CUTS = 3
AWAY = 2.0  # seconds without any response, after those
ENDED_WITHIN = 60.0  # seconds
LINES = 20  # that an example may have, each of them
WIDTH = 100  # characters


def example(language: str, port: int) -> str:
    """The page's example in this language, at the address where the service is for the test."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    return blocks[0].replace("http://127.0.0.1:8000", f"http://{HOST}:{port}")


def queued(stack: Stack) -> bool:
    metrics = httpx.get(f"http://{HOST}:{stack.ports['web0']}/metrics", trust_env=False).text
    return 'unspool_live_runs{status="queued"} 1.0' in metrics


async def cut_in_mid_reply(stack: Stack, proxy: Proxy) -> None:
    """Once the question is there, let it be answered, over connections that are bad."""
    await until(lambda: queued(stack), within=ENDED_WITHIN, what="the question")
    proxy.throttle(SLOW)
    stack.worker.thaw()
    for _ in range(CUTS):
        passage = await until(lambda: proxy.open[:], within=ENDED_WITHIN, what="a connection")
        await asyncio.sleep(0.5)  # a quarter of the reply, on this line
        proxy.reset()
        await asyncio.gather(*(one.over.wait() for one in passage))
    proxy.refuse()  # as while the service restarts
    proxy.reset()
    await asyncio.sleep(AWAY)
    await proxy.accept()
    proxy.throttle(None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(stacks: Stacks) -> AsyncIterator[Stack]:
    also = {"DELTA_WINDOW": "0"}  # a delta for each token, so that there is a middle to cut in
    async with shared_stack(stacks, also=also) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module")
async def proxy(service: Stack) -> AsyncIterator[Proxy]:
    """A proxy before the service, whose worker is frozen until `cut_in_mid_reply`."""
    async with Proxy((HOST, service.ports[service.web.name])) as proxy:
        service.worker.freeze()
        yield proxy
        service.worker.thaw()


async def run(stack: Stack, proxy: Proxy, place: Path, *command: str) -> str:
    """What the program writes, whose connections are cut."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        cwd=place,
        env=essentials() | {"TMPDIR": str(place)},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(2 * ENDED_WITHIN):
            cutting = asyncio.create_task(cut_in_mid_reply(stack, proxy))
            out, _ = await process.communicate()
            await cutting
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0
    return out.decode()


@pytest.mark.parametrize("language", ["js", "python"])
def test_an_example_is_read_at_a_glance(language: str) -> None:
    lines = example(language, 8000).splitlines()
    assert len(lines) <= LINES
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.asyncio(loop_scope="module")
async def test_the_python_example_prints_the_reply(
    service: Stack, proxy: Proxy, tmp_path: Path
) -> None:
    program = tmp_path / "example.py"
    program.write_text(example("python", proxy.port))
    assert await run(service, proxy, tmp_path, sys.executable, str(program)) == REPLY + "\n"


@pytest.mark.asyncio(loop_scope="module")
async def test_the_curl_example_prints_every_event_once(
    service: Stack, proxy: Proxy, tmp_path: Path
) -> None:
    program = tmp_path / "example.sh"
    program.write_text(example("sh", proxy.port))
    out = await run(service, proxy, tmp_path, "sh", str(program))
    blocks = [block for block in Splitter().feed(out.encode()) if block.event]
    ids = [block.id for block in blocks if block.id]
    told = Replayer()
    assert [fault for block in blocks for fault in [*block.faults, *told.apply(block)]] == []
    assert ids == list(range(ids[0], ids[0] + 16))  # message, queued, started, 12 deltas, completed
    assert [told.text(run) for run in told.runs] == [REPLY]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_javascript_example_shows_the_reply(service: Stack, proxy: Proxy) -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        logged: list[tuple[str, str]] = []
        page.on("console", lambda said: logged.append((said.type, said.text)))
        await page.goto(f"http://{HOST}:{proxy.port}/", wait_until="networkidle")
        async with asyncio.timeout(2 * ENDED_WITHIN):
            cutting = asyncio.create_task(cut_in_mid_reply(service, proxy))
            await page.evaluate(f"async () => {{ {example('js', proxy.port)} }}")
            await until(lambda: "log" in dict(logged), within=ENDED_WITHIN, what="the ending")
            await cutting
        pieces = REPLY.split(" ")[:-1]
        growing = ["".join(f"{piece} " for piece in pieces[:n]) for n in range(len(pieces) + 1)]
    assert [text for type, text in logged if type == "debug"] == growing
    assert [text for type, text in logged if type == "log"] == [REPLY]
