"""OpenAI's own client for Python at `/v1/responses` ends with what is stored, however it is cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.openai_client import User
from tests.support.ports import HOST
from tests.support.response_loop import CUT, ResponseLoop, check, in_background
from tests.support.script import expected
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_response_is_the_stored_reply(user: User, client: AsyncOpenAI) -> None:
    asked = script(tokens=30, seed=1, reasoning=3)
    response = await client.responses.create(model="scripted", input=asked)
    assert response.status == "completed"
    assert response.output_text == expected(asked)
    stored = await user.stored(response.id)
    assert stored["text"] == response.output_text
    assert response.usage
    assert response.usage.total_tokens == stored["usage"]["total_tokens"]
    assert await client.responses.retrieve(response.id) == response


async def test_a_response_without_a_stream_is_polled(client: AsyncOpenAI) -> None:
    asked = script(tokens=10, seed=2)
    response = await client.responses.create(model="scripted", input=asked, background=True)
    while response.status in ("queued", "in_progress"):
        response = await client.responses.retrieve(response.id)
    assert (response.status, response.output_text) == ("completed", expected(asked))


async def test_a_plain_loop_has_the_stored_reply(user: User, client: AsyncOpenAI) -> None:
    asked = script(tokens=30, seed=3, reasoning=2, rate=100)
    loop = ResponseLoop()
    await loop.read(await client.responses.create(model="scripted", input=asked, stream=True))
    await check(user, loop, asked)


async def test_a_loop_that_is_cut_at_random_bytes_has_the_stored_reply(
    user: User, size: Callable[[int, int], int], chance: random.Random
) -> None:
    async def once(number: int) -> None:
        asked = script(tokens=40, seed=f"cut {number}", rate=60, reasoning=number % 3)
        async with (
            Proxy((HOST, user.stack.ports[user.stack.web.name])) as proxy,
            user.client(port=proxy.port) as client,
        ):
            loop = ResponseLoop()
            # The first frame of one has its id.
            proxy.cut_next_answer_after(chance.randint(3_000, 8_000), reset=chance.random() < 0.5)
            for _ in range(4):
                proxy.cut_next_answer_after(chance.randint(1, 6_000), reset=chance.random() < 0.5)
            try:
                await loop.read(await in_background(client, asked))
            except CUT:
                await loop.read_again(client)
            await check(user, loop, asked)

    await asyncio.gather(*(once(number) for number in range(size(6, 60))))


async def test_a_loop_that_comes_late_or_after_the_last_frame(
    user: User, client: AsyncOpenAI
) -> None:
    asked = script(tokens=20, seed=4)
    response = await client.responses.create(model="scripted", input=asked)
    loop = ResponseLoop()
    await loop.read(await client.responses.retrieve(response.id, stream=True))
    await check(user, loop, asked)
    told = await client.responses.retrieve(
        response.id, stream=True, starting_after=loop.numbers[-1]
    )
    assert [event async for event in told] == []


async def test_the_accumulator_has_the_stored_reply(user: User, client: AsyncOpenAI) -> None:
    asked = script(tokens=30, seed=5, reasoning=2, rate=100)
    async with client.responses.stream(model="scripted", input=asked) as stream:
        final = await stream.get_final_response()
    assert final.output_text == expected(asked)
    async with client.responses.stream(response_id=final.id, starting_after=2) as stream:
        again = await stream.get_final_response()
    assert again.output_text == expected(asked)


async def test_a_second_turn_builds_on_the_first(user: User, client: AsyncOpenAI) -> None:
    first = await client.responses.create(
        model="scripted", input="One?", instructions="Be kind.", metadata={"page": "7"}
    )
    assert first.metadata == {"page": "7"}
    second = await client.responses.create(
        model="scripted", input="Two?", previous_response_id=first.id
    )
    assert user.stack.model.last()["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "Two?"},
    ]
    assert second.conversation
    assert first.conversation
    assert second.conversation.id == first.conversation.id
    third = await client.responses.create(
        model="scripted", input="Three?", conversation=second.conversation.id
    )
    assert third.conversation == second.conversation
    with pytest.raises(openai.ConflictError):
        await client.responses.create(
            model="scripted", input="Two again?", previous_response_id=first.id
        )


async def test_a_turn_whose_connection_breaks_is_repeated_and_joined(user: User) -> None:
    async with (
        Proxy((HOST, user.stack.ports[user.stack.web.name])) as proxy,
        user.client(port=proxy.port, retries=2) as client,
    ):
        first = await client.responses.create(model="scripted", input="One?")
        begun = user.stack.model.stats()["requests"]
        asked = script(tokens=40, seed=6, rate=20)
        asking = asyncio.create_task(
            client.responses.create(model="scripted", input=asked, previous_response_id=first.id)
        )
        await until(
            lambda: user.stack.model.stats()["requests"] > begun, within=30, what="the model"
        )
        proxy.reset()
        response = await asking
    assert (response.status, response.output_text) == ("completed", expected(asked))
    assert user.stack.model.stats()["requests"] == begun + 1


async def test_a_response_in_the_background_is_cancelled(user: User, client: AsyncOpenAI) -> None:
    stream = await in_background(client, script(tokens=10_000, rate=20))
    loop = ResponseLoop()
    reading = asyncio.create_task(loop.read(stream))
    await until(lambda: loop.text(), within=30, what="some text")
    cancelled = await client.responses.cancel(loop.id)
    assert cancelled.status == "cancelled"
    await reading
    assert loop.final.status == "cancelled"
    assert loop.text() == loop.final.output_text == (await user.stored(loop.id))["text"]
    assert (await client.responses.cancel(loop.id)).status == "cancelled"


async def test_a_client_that_leaves_ends_the_run_unless_another_joins(
    user: User, client: AsyncOpenAI
) -> None:
    left, joined = ResponseLoop(), ResponseLoop()
    for loop, tokens in ((left, 10_000), (joined, 200)):
        asked = script(tokens=tokens, rate=20, seed=tokens)
        stream = await client.responses.create(model="scripted", input=asked, stream=True)
        async for event in stream:
            loop.numbers.append(event.sequence_number)
            loop.id = loop.id or event.response.id
            break
        await stream.close()
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(joined.id)
    await joined.read_again(client)
    assert joined.final.status == "completed"
    assert joined.text() == (await user.stored(joined.id))["text"]
    await left.read_again(client)
    assert left.final.status == "cancelled"


async def test_a_failed_response_says_why(client: AsyncOpenAI) -> None:
    asked = script(tokens=10, fault="error", fault_at=5)
    response = await client.responses.create(model="scripted", input=asked)
    assert response.status == "failed"
    assert response.error
    loop = ResponseLoop()
    await loop.read(await client.responses.retrieve(response.id, stream=True))
    assert loop.final.error == response.error


async def test_what_is_not_offered_is_refused(client: AsyncOpenAI) -> None:
    ask = client.responses.create
    tool: Any = {"type": "function", "name": "look", "parameters": {}, "strict": False}
    with pytest.raises(openai.BadRequestError):
        await ask(model="scripted", input="Hello?", tools=[tool])
    image: Any = [{"type": "input_image", "image_url": "https://example.org/"}]
    with pytest.raises(openai.UnprocessableEntityError):
        await ask(model="scripted", input=[{"role": "user", "content": image}])
    for id in ("resp_x", "resp_00000000-0000-4000-8000-000000000000"):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(id)
    response = await ask(model="scripted", input="Hello?")
    with pytest.raises(openai.BadRequestError):
        await client.responses.retrieve(response.id, stream=True, starting_after=2**53)
