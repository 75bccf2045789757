"""The model behind a reply, against a server that does what real ones do on their bad days."""

import asyncio
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from streams.protocol.events import Usage
from streams.protocol.parts import ReasoningPart
from tests.integration.support.model_calls import (
    ask,
    become,
    hear,
    hear_until_fault,
    script,
)
from tests.support.openai_server import Running, expected, pieces
from workers.generators.base import generate
from workers.prompt.messages import PromptMessage
from workers.reply_items import Completion

pytestmark = pytest.mark.usefixtures("called_model")


async def test_each_chunk_is_yielded_as_it_was_sent() -> None:
    told = script(tokens=30, reasoning=2, seed=1)
    *said, finish = await hear(told)
    thoughts, texts = said[:2], said[2:]
    assert texts == pieces(told)
    assert all(isinstance(piece, ReasoningPart) and piece.text for piece in thoughts)
    usage = Usage(input_tokens=7, output_tokens=32, total_tokens=39, estimated=False)
    assert finish == Completion("stop", usage)


async def test_a_provider_without_token_counts_gives_no_usage() -> None:
    assert (await hear(script(tokens=2, usage=False)))[-1] == Completion("stop", None)


async def test_the_request_has_the_history_and_the_question(model: Running, settings: Any) -> None:
    settings.MODEL_TEMPERATURE = 0.5
    turns = [*ask("one"), PromptMessage("assistant", "two"), PromptMessage("user", "three")]
    assert [said async for said in generate(turns, model="m-1")]
    assert model.last() == {
        "model": "m-1",
        "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": settings.MAX_OUTPUT_TOKENS,
    }


async def test_the_embedded_model_is_called_at_its_current_port(
    model: Running, settings: Any, tmp_path: Path
) -> None:
    settings.EMBEDDED_MODEL = True
    settings.OPENAI_API_KEY = settings.OPENAI_BASE_URL = None
    settings.MODEL_URL_FILE = tmp_path / "model.url"
    settings.MODEL_CONNECT_TIMEOUT = 0.3
    said, fault = await hear_until_fault("hello")
    assert (said, fault.code, fault.transient) == ([], "model_unreachable", True)
    settings.MODEL_CONNECT_TIMEOUT, settings.MODEL_MAX_TRIES = 5.0, 1
    loading = threading.Timer(1, settings.MODEL_URL_FILE.write_text, [model.url + "\n"])
    loading.start()
    assert (await hear("hello"))[0] == pieces("hello")[0]
    body = model.last()
    asked = {name: body[name] for name in ("temperature", "max_tokens", "repeat_penalty")}
    assert asked == {"temperature": 0.3, "max_tokens": 512, "repeat_penalty": 1.05}


@pytest.mark.parametrize("fault", ["no_done", "empty_choices", "big", "half_surrogate"])
async def test_an_odd_stream_is_read_to_its_end(fault: str) -> None:
    told = script(tokens=9, fault=fault, fault_at=4)
    *said, finish = await hear(told)
    texts = [piece for piece in said if isinstance(piece, str)]
    assert (len(texts), "".join(texts)) == (len(pieces(told)), expected(told))
    assert isinstance(finish, Completion)
    assert finish.finish_reason == "stop"


async def test_a_slow_model_is_not_a_silent_model(settings: Any) -> None:
    settings.MODEL_READ_TIMEOUT = 0.6
    told = script(tokens=4, rate=4, first=0.4)
    assert (await hear(told))[:-1] == pieces(told)


async def test_a_slow_consumer_does_not_count_as_the_models_silence(settings: Any) -> None:
    settings.MODEL_READ_TIMEOUT = 0.3
    told = script(tokens=3, rate=50)
    said = []
    async for one in generate(ask(told), model="test"):
        said.append(one)
        await asyncio.sleep(0.5)  # the reader's own delay, which is what is tested
    assert said[:-1] == pieces(told)


@pytest.mark.parametrize(
    "wishes",
    [
        pytest.param({"first": 60}, id="before the first piece"),
        pytest.param({"tokens": 9999, "rate": 50}, id="in the middle"),
        pytest.param({"fault": "silence", "fault_at": 4}, id="in silence"),
    ],
)
async def test_a_cancelled_reply_closes_the_models_request(
    model: Running, wishes: dict[str, Any]
) -> None:
    told = script(**wishes, seed="cancelled")
    closed = len(model.stats()["closed_by_client"])
    fourth = asyncio.Event()

    async def listen() -> None:
        async for one in generate(ask(told), model="test"):
            if one == pieces(told)[3]:
                fourth.set()

    listening = asyncio.ensure_future(listen())
    if "first" in wishes:
        await become(lambda: model.last().get("messages", [{}])[-1].get("content"), told)
    else:
        await asyncio.wait_for(fourth.wait(), 5)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await become(lambda: len(model.stats()["closed_by_client"]), closed + 1)


async def test_a_consumer_that_stops_closes_the_models_request(model: Running) -> None:
    closed = len(model.stats()["closed_by_client"])
    async with aclosing(generate(ask(script(tokens=9999, rate=50)), model="test")) as said:
        assert await anext(said) == pieces(script())[0]
    await become(lambda: len(model.stats()["closed_by_client"]), closed + 1)


async def test_hostile_text_passes_and_invalid_characters_are_replaced() -> None:
    hostile = ["\n\r\n", "data: [DONE]\n\n", "\x00", "\ud83d", "\ude00"]
    hostile += ["\ude00", "\u2028\x85", '😀%,:"\\']
    told = script(text=hostile)
    said = await hear(told)
    assert said[:-1] == [
        *["\n\r\n", "data: [DONE]\n\n", "\ufffd", "😀", "\ufffd", "\u2028\x85", '😀%,:"\\']
    ]


async def test_sixty_four_concurrent_replies_do_not_mix() -> None:
    scripts = [script(tokens=50, rate=100, seed=n) for n in range(64)]

    async def whole(told: str) -> str:
        return "".join([one for one in await hear(told) if isinstance(one, str)])

    assert await asyncio.gather(*map(whole, scripts)) == [expected(told) for told in scripts]


async def test_replies_one_after_the_other_share_a_connection(model: Running) -> None:
    for message in ("one", "another"):
        await hear(message)
        assert model.stats()["open"] == 2  # with the one that asks
