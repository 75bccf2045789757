"""OpenAI's own client at `/v1/chat/completions` ends with what is stored, or with an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.dialects.conftest import Stacks
from tests.support.openai_client import User
from tests.support.ports import HOST
from tests.support.script import expected
from tests.support.tcp_proxy import Proxy
from tests.support.visitor import script
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


def messages(*texts: str) -> Any:
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]


async def streamed(client: AsyncOpenAI, text: str, **also: Any) -> tuple[str, list[Any]]:
    """The text of a streamed completion, and its chunks."""
    stream = await client.chat.completions.create(
        model="scripted", messages=messages(text), stream=True, **also
    )
    chunks = [chunk async for chunk in stream]
    deltas = [one.choices[0].delta.content or "" for one in chunks if one.choices]
    return "".join(deltas), chunks


async def test_the_models_are_listed(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["scripted", "tools"]
    assert (await client.models.retrieve("scripted")).object == "model"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def test_a_completion_is_the_stored_reply(user: User, client: AsyncOpenAI) -> None:
    asked = script(tokens=30, seed=1, reasoning=3)
    whole = await client.chat.completions.create(model="scripted", messages=messages(asked))
    assert whole.choices[0].message.content == expected(asked)
    assert whole.choices[0].finish_reason == "stop"
    stored = await user.stored(whole.id)
    assert stored["text"] == expected(asked)
    assert whole.usage
    assert whole.usage.completion_tokens == stored["usage"]["output_tokens"]


async def test_a_streamed_completion_is_the_stored_reply(user: User, client: AsyncOpenAI) -> None:
    asked = script(tokens=30, seed=2, reasoning=3, rate=100)
    text, chunks = await streamed(client, asked, stream_options={"include_usage": True})
    assert text == expected(asked)
    stored = await user.stored(chunks[0].id)
    assert text == stored["text"]
    assert chunks[-1].usage.total_tokens == stored["usage"]["total_tokens"]
    reasons = [one.choices[0].finish_reason for one in chunks if one.choices]
    assert reasons[-1] == "stop"
    assert set(reasons[:-1]) == {None}


async def test_the_history_of_a_call_reaches_the_model_and_no_list(
    user: User, client: AsyncOpenAI
) -> None:
    told = [{"role": "system", "content": "Be kind."}, *messages("One?", "One.", "Two?")]
    listed = await user.visitor.conversations()
    await client.chat.completions.create(model="scripted", messages=told)
    assert await user.visitor.conversations() == listed
    last = user.stack.model.last()
    assert last["messages"] == told


async def test_the_reply_of_a_call_can_be_had_as_a_response(client: AsyncOpenAI) -> None:
    text, chunks = await streamed(client, "Why?")
    response = await client.responses.retrieve(f"resp_{chunks[0].id.removeprefix('chatcmpl-')}")
    assert response.output_text == text


@pytest.mark.parametrize("reset", [False, True])
async def test_a_completion_whose_connection_breaks_is_repeated_and_joined(
    user: User, reset: bool
) -> None:
    asked = script(tokens=20, seed=f"again {reset}", rate=20)
    begun = user.stack.model.stats()["requests"]
    async with Proxy((HOST, user.stack.ports[user.stack.web.name])) as proxy:
        proxy.cut_next_answer_after(30, reset=reset)
        async with user.client(port=proxy.port, retries=2) as client:
            whole = await client.chat.completions.create(model="scripted", messages=messages(asked))
    assert whole.choices[0].message.content == expected(asked)
    assert user.stack.model.stats()["requests"] == begun + 1


async def test_equal_calls_at_once_get_a_reply_each(user: User, client: AsyncOpenAI) -> None:
    calls = [
        client.chat.completions.create(model="scripted", messages=messages("The same?"))
        for _ in range(4)
    ]
    assert len({one.id for one in await asyncio.gather(*calls)}) == 4


@pytest.mark.parametrize("reset", [False, True])
async def test_a_stream_that_is_cut_raises(user: User, reset: bool) -> None:
    async with Proxy((HOST, user.stack.ports[user.stack.web.name])) as proxy:
        proxy.cut_next_answer_after(2_000, reset=reset)
        async with user.client(port=proxy.port) as client:
            with pytest.raises(openai.APIConnectionError):
                await streamed(client, script(tokens=60, seed=f"cut {reset}", rate=60))


async def ended(user: User, run: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        stored = await user.stored(run)
        return stored if stored["status"] not in ("queued", "running") else None

    return await eventually(look)


async def eventually(look: Callable[[], Awaitable[Any]], *, within: float = 30) -> Any:
    async with asyncio.timeout(within):
        while not (found := await look()):
            await asyncio.sleep(0.1)
    return found


async def test_a_client_that_leaves_ends_the_run(user: User, client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="scripted", messages=messages(script(tokens=10_000, rate=20)), stream=True
    )
    first = await anext(aiter(stream))
    await stream.close()
    assert (await ended(user, first.id))["status"] == "cancelled"


async def test_a_failed_reply_raises(client: AsyncOpenAI) -> None:
    asked = script(tokens=10, fault="error", fault_at=5)
    with pytest.raises(openai.APIError):
        await streamed(client, asked)
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(model="scripted", messages=messages(asked))


async def test_what_is_not_offered_is_refused(user: User, client: AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": {}}}
    ask = client.chat.completions.create
    with pytest.raises(openai.BadRequestError, match="tools"):
        await ask(model="scripted", messages=messages("Hello?"), tools=[tool])
    with pytest.raises(openai.UnprocessableEntityError):
        await ask(model="other", messages=messages("Hello?"))
    with pytest.raises(openai.UnprocessableEntityError):
        await ask(model="scripted", messages=messages("Hello?", "Hello."))
    async with AsyncOpenAI(base_url=client.base_url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(model="scripted", messages=messages("Hello?"))


async def test_a_second_attempt_is_an_error_in_a_stream_and_none_in_a_whole_reply(
    stacks: Stacks,
) -> None:
    async with stacks(workers=1, also={"RUN_LEASE": "4"}) as stack:
        user = await User.of(stack)
        asked = script(tokens=60, seed=3, rate=30, hold_at=30)
        async with user.client() as client:
            whole = asyncio.create_task(
                client.chat.completions.create(model="scripted", messages=messages(asked))
            )
            stream = await client.chat.completions.create(
                model="scripted", messages=messages(asked), stream=True
            )
            while not (await anext(stream)).choices[0].delta.content:
                pass
            await until(
                lambda: stack.model.stats()["streaming"] == 2, within=30, what="both replies"
            )
            stack.worker.kill()
            stack.model.release(asked)
            await stack.add_worker()
            with pytest.raises(openai.APIError, match="written anew"):
                _ = [chunk async for chunk in stream]
            assert (await whole).choices[0].message.content == expected(asked)
        await user.visitor.close()
