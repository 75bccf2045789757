"""AG-UI's own client ends with what is stored, however it is cut."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.dialects.conftest import Installed
from tests.support.ag_ui import ALL_KINDS, PACKAGES, SCRIPT, TOOLS, AgUiPage, kinds
from tests.support.ports import HOST
from tests.support.procfile import CHECKOUT
from tests.support.script import expected
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


async def test_turns_and_another_reply_end_with_what_is_stored(
    client: VendorProcess, visitor: Visitor
) -> None:
    page = await AgUiPage.open(client, visitor)
    first = await page.send(script(tokens=20, seed=1, reasoning=3))
    assert (first["error"], first["returns"]) == (None, 0)
    assert first["end"]["outcome"] == {"type": "success"}
    assert first["end"]["usage"][0]["model"] == "scripted"
    assert kinds(await page.check()) == ["reasoning", "text"]
    second = await page.send(script(tokens=20, seed=2))
    assert second["types"] == ["RUN_STARTED", "RUN_FINISHED"]  # the client has the thread
    await page.check()
    again = await page.do("regenerate")
    assert again["run"] != second["run"]
    assert len(again["messages"]) == len(second["messages"])
    await page.check()


async def test_every_kind_of_part_is_there_live_and_after_a_reload(
    client: VendorProcess, visitor: Visitor
) -> None:
    page = await AgUiPage.open(client, visitor, props=TOOLS)
    assert (await page.send(ALL_KINDS))["end"]["outcome"] == {"type": "success"}
    parts = await page.check()
    calls = ["tool_call", "tool_result"] * 2
    assert kinds(parts) == ["reasoning", "text", *calls, "data", "source", "text"]
    other = await AgUiPage.open(client, visitor, thread=page.thread)
    connected = await other.do("connect")
    assert connected["messages"] == (await page.do("look"))["messages"]
    assert await other.check() == parts


async def test_a_page_cut_at_random_bytes_ends_with_what_is_stored(
    client: VendorProcess,
    stack: Stack,
    visitor: Visitor,
    size: Callable[[int, int], int],
    chance: random.Random,
) -> None:
    async def once(number: int) -> None:
        async with Proxy((HOST, stack.ports[stack.web.name])) as proxy:
            for _ in range(chance.randint(1, 4)):
                cut = chance.choice((chance.randint(1, 800), chance.randint(800, 9_000)))
                proxy.cut_next_answer_after(cut, reset=chance.random() < 0.5)
            with_tools = number % 2
            page = await AgUiPage.open(
                client, visitor, port=proxy.port, props=TOOLS if with_tools else {}
            )
            asked = script(tokens=50, seed=number, rate=80, reasoning=number % 3)
            told = await page.send(ALL_KINDS if with_tools else asked)
            assert told["end"]["outcome"] == {"type": "success"}, told["error"]
            await page.check()
            assert (await page.send(script(tokens=5) if not with_tools else ALL_KINDS))["end"]
            await page.check()

    await asyncio.gather(*(once(number) for number in range(size(8, 80))))


async def test_a_page_that_is_reloaded_in_mid_reply_ends_with_what_is_stored(
    client: VendorProcess, visitor: Visitor
) -> None:
    page = await AgUiPage.open(client, visitor)
    sending = asyncio.create_task(page.send(script(tokens=80, seed=3, rate=40, reasoning=2)))
    heard = await page.do("heard", count=40)
    reloaded = await AgUiPage.open(client, visitor, thread=page.thread)
    told = await reloaded.do("connect")
    assert (told["end"]["runId"], told["returns"]) == (heard["runId"], 0)
    await sending
    assert await page.check() == await reloaded.check()
    late = await AgUiPage.open(client, visitor, thread=page.thread)
    assert (await late.do("connect"))["end"]["outcome"] == {"type": "success"}
    assert await late.check() == await page.check()
    # The same name again, when the run has ended, has it once more.
    assert (await page.do("join"))["types"][-1] == "RUN_FINISHED"
    await page.check()


async def test_a_page_that_left_in_mid_reply_has_the_whole_thread_with_its_next_turn(
    client: VendorProcess, stack: Stack, visitor: Visitor
) -> None:
    async with Proxy((HOST, stack.ports[stack.web.name])) as proxy:
        page = await AgUiPage.open(client, visitor, port=proxy.port)
        asked = script(tokens=60, seed=4, hold_at=30, reasoning=2)
        sending = asyncio.create_task(page.send(asked, stay=True))
        await page.do("heard", count=40)
        proxy.reset()
        left = await sending
        assert left["error"]
        assert left["end"] is None
        stack.model.release(asked)
        while (await visitor.run(left["run"]))["status"] != "completed":
            await asyncio.sleep(0.05)
        told = await page.send(script(tokens=20, seed=5))
        assert "MESSAGES_SNAPSHOT" in told["types"]
        await page.check()


async def test_a_new_turn_interrupts_the_reply_and_both_are_stored(
    client: VendorProcess, visitor: Visitor
) -> None:
    page = await AgUiPage.open(client, visitor)
    sending = asyncio.create_task(page.send(script(tokens=5000, seed=6, rate=50), stay=True))
    heard = await page.do("heard", count=40)
    await page.do("abort")  # closes the connection alone
    await sending
    assert (await visitor.run(heard["run"]))["status"] == "running"
    assert (await page.send(script(tokens=20, seed=7)))["end"]["outcome"] == {"type": "success"}
    assert (await visitor.run(heard["run"]))["status"] == "cancelled"
    await page.check()


async def test_a_cancelled_reply_keeps_its_text(client: VendorProcess, visitor: Visitor) -> None:
    page = await AgUiPage.open(client, visitor)
    sending = asyncio.create_task(page.send(script(tokens=5000, seed=8, rate=50)))
    await page.do("heard", count=40)
    await page.stop()
    told = await sending
    assert told["end"]["outcome"] == {"type": "cancelled"}
    assert await page.check()
    other = await AgUiPage.open(client, visitor, thread=page.thread)
    assert (await other.do("connect"))["end"]["outcome"] == {"type": "cancelled"}
    await other.check()


async def test_two_readers_and_one_of_the_services_own_stream_end_alike(
    client: VendorProcess, stack: Stack, visitor: Visitor
) -> None:
    async with Proxy((HOST, stack.ports[stack.web.name])) as proxy:
        page = await AgUiPage.open(client, visitor)
        asked = script(tokens=100, seed=10, rate=40, hold_at=80)
        sending = asyncio.create_task(page.send(asked))
        heard = await page.do("heard", count=10)
        other = await AgUiPage.open(client, visitor, thread=page.thread, port=proxy.port)
        following = asyncio.create_task(other.do("connect"))
        conversation = (await visitor.run(heard["run"]))["conversation"]
        own = asyncio.create_task(visitor.follower(conversation).follow())
        for count in (100, 200, 300):
            await other.do("heard", count=count)
            proxy.reset()
        stack.model.release(asked)
        assert (await following)["returns"] >= 1
        await asyncio.gather(sending, own)
        parts = await page.check()
        assert parts == await other.check()
        assert parts == [{"type": "text", "text": expected(asked)}]


async def test_a_refusal_reads_as_a_sentence(client: VendorProcess, visitor: Visitor) -> None:
    page = await AgUiPage.open(client, visitor, props={"model": "gone"})
    told = await page.send("Hello")
    assert told["error"] == {
        "name": "Error",
        "message": "HTTP 422: No model or agent of this name is offered."
        " GET /api/models/ lists them.",
        "status": 422,
    }
    empty = await AgUiPage.open(client, visitor)
    connected = await empty.do("connect")
    assert (connected["error"], connected["messages"]) == (None, [])


PAGE = (CHECKOUT / "docs/dialects.md").read_text().partition("## AG-UI")[2].partition("\n## ")[0]


async def test_the_example_of_the_document_shows_the_reply(
    project: Path, stack: Stack, visitor: Visitor
) -> None:
    example, connecting = re.findall(r"^```js\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert connecting in SCRIPT.read_text()  # which the other tests run
    asked = "What is a river?"
    headers = visitor.write_credentials()
    async with Proxy((HOST, stack.ports[stack.web.name])) as proxy:
        given = {"headers": headers, "threadId": "from-the-docs"}
        prelude = "process.on('unhandledRejection', () => {})\n" + "".join(
            f"const {name} = {json.dumps(one)}\n" for name, one in given.items()
        )
        shown = "console.log(JSON.stringify(agent.messages))\n"
        program = project / "example.mjs"
        code = example.replace("'/ag-ui'", f"'http://{HOST}:{proxy.port}/ag-ui'")
        program.write_text(prelude + code + shown)
        for cut, reset in ((900, True), (400, False), (1_500, True)):
            proxy.cut_next_answer_after(cut, reset=reset)
        process = await asyncio.create_subprocess_exec(
            *("node", str(program)), stdout=asyncio.subprocess.PIPE
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0
    messages = json.loads(out.decode().splitlines()[-1])
    assert [one["content"] for one in messages] == [asked, expected(asked)]
