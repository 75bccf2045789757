"""AG-UI's own client ends with what is stored though a process, the log or the model fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.dialects.conftest import Installed, Stacks
from tests.support.ag_ui import PACKAGES, SCRIPT, AgUiPage, kinds
from tests.support.ports import HOST
from tests.support.stack import Stack
from tests.support.tcp_proxy import Proxy
from tests.support.vendors import VendorProcess
from tests.support.visitor import Visitor, script

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def project(installed: Installed) -> Path:
    return installed(PACKAGES)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(project: Path) -> AsyncIterator[VendorProcess]:
    async with VendorProcess(SCRIPT, project) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def visitor(stack: Stack) -> Visitor:
    return await stack.visitor()


async def test_a_second_attempt_is_all_that_is_left(client: VendorProcess, stacks: Stacks) -> None:
    async with stacks(also={"RUN_LEASE": "4"}) as stack:
        visitor = await stack.visitor()
        web = (HOST, stack.ports[stack.web.name])
        async with Proxy(web) as proxy:
            pages = [
                await AgUiPage.open(client, visitor),
                await AgUiPage.open(client, visitor, port=proxy.port),
            ]
            message = script(tokens=80, seed=11, rate=25, hold_at=40, reasoning=3)
            sending = [asyncio.create_task(page.send(message)) for page in pages]
            for page in pages:
                await page.do("heard", count=40)
            stack.worker.kill()
            proxy.reset()
            stack.model.release(message)
            await stack.add_worker()
            told = await asyncio.gather(*sending)
        for page, one in zip(pages, told, strict=True):
            assert one["end"]["outcome"] == {"type": "success"}
            assert kinds(await page.check()) == ["reasoning", "text"]
            assert (await visitor.run(one["run"]))["attempt"] == 2
        assert told[0]["returns"] == 0  # the connection stayed
        assert told[1]["returns"] > 0


async def test_a_page_whose_web_process_stops_goes_on_at_another_one(
    client: VendorProcess, stack: Stack, visitor: Visitor
) -> None:
    web = await stack.add_web()
    async with Proxy((HOST, stack.ports[web.name])) as proxy:
        page = await AgUiPage.open(client, visitor, port=proxy.port)
        asked = script(tokens=80, seed=12, rate=40, hold_at=40)
        sending = asyncio.create_task(page.send(asked))
        await page.do("heard", count=40)
        proxy.upstreams[:] = [(HOST, stack.ports[stack.web.name])]
        web.terminate()
        await web.ended(within=30)
        stack.model.release(asked)
        told = await sending
    assert told["returns"] >= 1
    await page.check()


async def test_a_page_ends_with_the_stored_reply_though_redis_was_emptied(
    client: VendorProcess, stack: Stack, visitor: Visitor
) -> None:
    page = await AgUiPage.open(client, visitor)
    sending = asyncio.create_task(page.send(script(tokens=80, seed=13, rate=40, reasoning=2)))
    await page.do("heard", count=40)
    await stack.valkey.client.flushall()
    assert (await sending)["end"]
    await page.check()


async def test_a_page_whose_thread_is_deleted_does_not_ask_again(
    client: VendorProcess, visitor: Visitor
) -> None:
    page = await AgUiPage.open(client, visitor)
    sending = asyncio.create_task(page.send(script(tokens=5000, seed=14, rate=40)))
    heard = await page.do("heard", count=40)
    conversation = (await visitor.run(heard["run"]))["conversation"]
    await visitor.http.delete(f"/api/conversations/{conversation}/")
    told = await sending
    assert (told["end"], told["error"]["status"]) == (None, 422)
    assert not [one for one in await visitor.conversations() if '"seed": 14' in one["title"]]


async def test_a_failed_reply_is_an_error_and_keeps_its_text(
    client: VendorProcess, visitor: Visitor
) -> None:
    page = await AgUiPage.open(client, visitor)
    told = await page.send(script(tokens=30, seed=9, fault="error", fault_at=20))
    run = await visitor.run(told["run"])
    assert run["status"] == "failed"
    assert told["end"]["type"] == "RUN_ERROR"
    assert (told["end"]["code"], told["end"]["message"]) == (
        run["error"]["code"],
        run["error"]["reason"],
    )
    assert await page.check()
