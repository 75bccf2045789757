"""A response goes on when its worker, its web process or its log is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.dialects.conftest import Stacks
from tests.support.openai_client import User
from tests.support.pushpin_stack import PushpinStack
from tests.support.response_loop import CUT, ResponseLoop, check, in_background
from tests.support.script import expected
from tests.support.visitor import script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_second_attempt_leaves_the_text_of_the_last_one(stacks: Stacks) -> None:
    async with stacks(also={"RUN_LEASE": "4"}) as stack:
        user = await User.of(stack)
        asked = script(tokens=60, seed=7, rate=30, hold_at=30, reasoning=3)
        async with user.client() as client:
            follows, comes_back = ResponseLoop(), ResponseLoop()
            reading = asyncio.create_task(follows.read(await in_background(client, asked)))
            await until(lambda: follows.text(), within=30, what="some text")
            comes_back.id = follows.id
            stream = await client.responses.retrieve(follows.id, stream=True)
            async for event in stream:
                comes_back.numbers.append(event.sequence_number)
                if event.type == "response.output_text.delta":
                    comes_back.texts[event.item_id] = event.delta
                    break
            await stream.close()
            stack.worker.kill()
            stack.model.release(asked)
            await stack.add_worker()
            await reading
            await comes_back.read_again(client)
            for loop in (follows, comes_back):
                await check(user, loop, asked)
            assert (await user.stored(follows.id))["attempt"] == 2
            async with client.responses.stream(response_id=follows.id) as late:
                assert (await late.get_final_response()).output_text == expected(asked)
        await user.visitor.close()


async def test_a_response_passes_pushpin_and_goes_on_after_its_web_process_has_stopped(
    stacks: Stacks,
) -> None:
    chosen = PushpinStack.shared_settings()
    async with stacks(also=chosen) as stack, PushpinStack(stack, chosen) as pushpin:
        user = await User.of(stack)
        asked = script(tokens=300, seed=9, rate=30)
        async with user.client(port=pushpin.port) as client:
            whole = await client.responses.create(model="scripted", input="Why?")
            assert whole.output_text == expected("Why?")
            short, uncut, loop = script(tokens=20, seed=9), ResponseLoop(), ResponseLoop()
            await uncut.read(await in_background(client, short))
            await check(user, uncut, short)
            reading = asyncio.create_task(loop.read(await in_background(client, asked)))
            await until(lambda: loop.text(), within=30, what="some text")
            stack.web.terminate()
            with suppress(CUT, ValueError):  # Pushpin's last block is no JSON, if it arrives
                await reading
            assert loop.final is None
        other = await stack.add_web()
        async with user.client(port=stack.ports[other.name]) as client:
            await loop.read_again(client)
        await check(replace(user, visitor=user.visitor.at(stack.ports[other.name])), loop, asked)
        await user.visitor.close()


async def test_a_reader_that_has_more_than_is_stored_ends_with_what_is_stored(
    stacks: Stacks,
) -> None:
    async with stacks(also={"RUN_LEASE": "4"}) as stack:
        user = await User.of(stack)
        async with user.client() as client:
            loop = ResponseLoop()
            asked = script(tokens=10_000, seed=8, rate=50)
            reading = asyncio.create_task(loop.read(await in_background(client, asked)))
            await until(lambda: loop.text(), within=30, what="some text")
            stack.worker.kill()
            await stack.valkey.client.flushall()
            await client.responses.cancel(loop.id)
            with suppress(CUT):
                await reading
            await loop.read_again(client)
            stored = await user.stored(loop.id)
            assert loop.text() == loop.final.output_text == stored["text"]
            assert loop.final.status == stored["status"] == "cancelled"
        await user.visitor.close()
