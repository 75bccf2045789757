"""The model behind a reply, against a server that does what real ones do on their bad days."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from streams.protocol.events import Usage
from streams.protocol.parts import ReasoningPart
from tests.support.openai_server import Running, expected, pieces, serving
from workers.generators import retry, sse_lines
from workers.generators.base import ModelError, generate
from workers.generators.openai import close_client
from workers.prompt.messages import PromptMessage
from workers.reply_items import Completion, ReplyItem

KEY = "sk-never-say-this"
SECRET = "a secret prompt"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
async def line(
    server: Running, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    settings.EMBEDDED_MODEL = False
    settings.OPENAI_BASE_URL = server.url
    settings.OPENAI_API_KEY = KEY
    settings.MODEL_READ_TIMEOUT = 5.0
    settings.MODEL_MAX_TRIES = 3
    settings.MODEL_TEMPERATURE = None
    settings.DELTA_WINDOW = 0  # what arrives together is not joined
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    yield
    await close_client()


def script(**wishes: Any) -> str:
    return json.dumps(wishes)


def ask(message: str) -> list[PromptMessage]:
    return [PromptMessage("system", SECRET), PromptMessage("user", message)]


async def hear(message: str) -> list[ReplyItem]:
    return [said async for said in generate(ask(message), model="test")]


async def hear_until_fault(message: str) -> tuple[list[ReplyItem], ModelError]:
    said: list[ReplyItem] = []
    try:
        async for one in generate(ask(message), model="test"):
            said.append(one)  # noqa: PERF401 - what came before the fault is wanted too
    except ModelError as fault:
        return said, fault
    pytest.fail("it came to its end")


async def become(fact: Callable[[], Any], expectation: Any, seconds: float = 2.0) -> None:
    """Wait for a fact that the server alone knows."""
    deadline = time.monotonic() + seconds
    while (now := await asyncio.to_thread(fact)) != expectation:
        assert time.monotonic() < deadline, f"{now} is not {expectation}"
        await asyncio.sleep(0.01)


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


async def test_the_request_has_the_history_and_the_question(server: Running, settings: Any) -> None:
    settings.MODEL_TEMPERATURE = 0.5
    turns = [*ask("one"), PromptMessage("assistant", "two"), PromptMessage("user", "three")]
    assert [said async for said in generate(turns, model="m-1")]
    assert server.last() == {
        "model": "m-1",
        "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": settings.MAX_OUTPUT_TOKENS,
    }


async def test_the_embedded_model_is_called_at_its_current_port(
    server: Running, settings: Any, tmp_path: Path
) -> None:
    settings.EMBEDDED_MODEL = True
    settings.OPENAI_API_KEY = settings.OPENAI_BASE_URL = None
    settings.MODEL_URL_FILE = tmp_path / "model.url"
    settings.MODEL_CONNECT_TIMEOUT = 0.3
    said, fault = await hear_until_fault("hello")
    assert (said, fault.code, fault.transient) == ([], "model_unreachable", True)
    settings.MODEL_CONNECT_TIMEOUT, settings.MODEL_MAX_TRIES = 5.0, 1
    loading = threading.Timer(1, settings.MODEL_URL_FILE.write_text, [server.url + "\n"])
    loading.start()
    assert (await hear("hello"))[0] == pieces("hello")[0]
    body = server.last()
    asked = {name: body[name] for name in ("temperature", "max_tokens", "repeat_penalty")}
    assert asked == {"temperature": 0.3, "max_tokens": 512, "repeat_penalty": 1.05}


@pytest.mark.parametrize(
    ("fault", "code", "transient"),
    [
        ("refuse", "model_unreachable", True),  # once more at once, on another connection
        ("401", "model_unauthorized", False),
        ("403", "model_unauthorized", False),
        ("404", "model_unknown", False),
        ("400", "model_refused", False),
        ("context", "context_too_long", False),
        ("413", "context_too_long", False),
        ("429", "model_rate_limited", True),
        ("500", "model_error", True),
        ("503", "model_error", True),
        ("reset", "model_interrupted", True),
        ("cut", "model_interrupted", True),
        ("truncated", "model_interrupted", True),
        ("no_finish", "model_interrupted", True),
        ("error", "model_error", True),
    ],
)
async def test_each_fault_before_the_first_chunk_has_its_code(
    server: Running, fault: str, code: str, transient: bool
) -> None:
    before = server.stats()["requests"]
    said, caught = await hear_until_fault(script(fault=fault))
    assert (said, caught.code, caught.transient) == ([], code, transient)
    tries = 3 if transient else 1
    assert server.stats()["requests"] - before == tries + (fault == "refuse")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("reset", "model_interrupted"),
        ("cut", "model_interrupted"),
        ("truncated", "model_interrupted"),
        ("no_finish", "model_interrupted"),
        ("error", "model_error"),
        ("silence", "model_silent"),
        ("drip", "model_silent"),
    ],
)
async def test_a_fault_during_the_stream_keeps_the_text_and_is_not_retried(
    server: Running, settings: Any, fault: str, code: str
) -> None:
    settings.MODEL_READ_TIMEOUT = 1.3
    told = script(tokens=9, fault=fault, fault_at=4)
    before = server.stats()["requests"]
    said, caught = await hear_until_fault(told)
    assert said == pieces(told)[:4]
    assert caught.code == code
    assert server.stats()["requests"] - before == 1
    await become(lambda: server.stats()["streaming"], 0)


@pytest.mark.parametrize("fault", ["no_done", "empty_choices", "big", "half_surrogate"])
async def test_an_odd_stream_is_read_to_its_end(fault: str) -> None:
    told = script(tokens=9, fault=fault, fault_at=4)
    *said, finish = await hear(told)
    texts = [piece for piece in said if isinstance(piece, str)]
    assert (len(texts), "".join(texts)) == (len(pieces(told)), expected(told))
    assert isinstance(finish, Completion)
    assert finish.finish_reason == "stop"


@pytest.mark.parametrize("fault", ["refuse", "429", "500", "reset", "truncated", "silence"])
async def test_a_transient_fault_before_the_first_chunk_is_retried(
    server: Running, settings: Any, fault: str, request: pytest.FixtureRequest
) -> None:
    settings.MODEL_READ_TIMEOUT = 0.5
    told = script(tokens=5, fault=fault, times=2, seed=request.node.name)
    before = server.stats()["requests"]
    assert (await hear(told))[:-1] == pieces(told)
    assert server.stats()["requests"] - before == 3


async def test_a_request_on_a_closed_pooled_connection_is_repeated_at_once(settings: Any) -> None:
    answered = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a connection's first request, promise to keep it, and close it at the second."""
        nonlocal answered
        for request in range(2):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
            if request == 0:
                answered += 1
                chunk = {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}
                body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
                )
        writer.close()

    closing = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with closing:
        port = closing.sockets[0].getsockname()[1]
        settings.OPENAI_BASE_URL, settings.MODEL_MAX_TRIES = f"http://127.0.0.1:{port}/v1", 1
        for _ in range(3):
            assert (await hear("hello"))[0] == "Hi"
        assert answered == 3


async def test_the_retry_waits_for_retry_after(request: pytest.FixtureRequest) -> None:
    began = time.monotonic()
    await hear(script(fault="429", retry_after=1, times=1, seed=request.node.name))
    assert time.monotonic() - began >= 1


async def test_a_retry_after_that_is_too_long_ends_the_run(server: Running) -> None:
    before = server.stats()["requests"]
    _, fault = await hear_until_fault(script(fault="429", retry_after=3600))
    assert (fault.code, fault.retry_after) == ("model_rate_limited", 3600)
    assert server.stats()["requests"] - before == 1


async def test_a_server_that_does_not_listen_is_unreachable(settings: Any) -> None:
    settings.OPENAI_BASE_URL = "http://127.0.0.1:1/v1"
    _, fault = await hear_until_fault("hello")
    assert fault.code == "model_unreachable"


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
    server: Running, wishes: dict[str, Any]
) -> None:
    told = script(**wishes, seed="cancelled")
    closed = len(server.stats()["closed_by_client"])
    fourth = asyncio.Event()

    async def listen() -> None:
        async for one in generate(ask(told), model="test"):
            if one == pieces(told)[3]:
                fourth.set()

    listening = asyncio.ensure_future(listen())
    if "first" in wishes:
        await become(lambda: server.last()["messages"][-1]["content"], told)
    else:
        await asyncio.wait_for(fourth.wait(), 5)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await become(lambda: len(server.stats()["closed_by_client"]), closed + 1)


async def test_a_consumer_that_stops_closes_the_models_request(server: Running) -> None:
    closed = len(server.stats()["closed_by_client"])
    async with aclosing(generate(ask(script(tokens=9999, rate=50)), model="test")) as said:
        assert await anext(said) == pieces(script())[0]
    await become(lambda: len(server.stats()["closed_by_client"]), closed + 1)


async def test_hostile_text_passes_and_invalid_characters_are_replaced() -> None:
    hostile = ["\n\r\n", "data: [DONE]\n\n", "\x00", "\ud83d", "\ude00"]
    hostile += ["\ude00", "\u2028\x85", '😀%,:"\\']
    told = script(text=hostile)
    said = await hear(told)
    assert said[:-1] == [
        *["\n\r\n", "data: [DONE]\n\n", "\ufffd", "😀", "\ufffd", "\u2028\x85", '😀%,:"\\']
    ]


@pytest.mark.parametrize("fault", ["401", "context", "400", "404", "429", "500", "reset", "error"])
async def test_neither_key_nor_prompt_is_in_a_reason_or_a_log(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, caught = await hear_until_fault(script(fault=fault, seed=SECRET))
    try:
        raise caught
    except ModelError:
        logging.getLogger("workers.test").exception("as the attempt's own log would write it")
    assert caught.code in caplog.text
    for never in (KEY, SECRET, "Bearer"):
        assert never not in caplog.text
        assert never not in f"{caught} {caught!r} {caught.reason} {vars(caught)}"


async def test_sixty_four_concurrent_replies_do_not_mix() -> None:
    scripts = [script(tokens=50, rate=100, seed=n) for n in range(64)]

    async def whole(told: str) -> str:
        return "".join([one for one in await hear(told) if isinstance(one, str)])

    assert await asyncio.gather(*map(whole, scripts)) == [expected(told) for told in scripts]


async def test_a_line_without_an_end_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse_lines, "LONGEST_LINE", 500_000)
    _, fault = await hear_until_fault(script(fault="big"))
    assert fault.code == "model_interrupted"


async def test_a_model_without_a_connection_is_given_up_soon(settings: Any) -> None:
    """After MODEL_CONNECT_TIMEOUT. After MODEL_READ_TIMEOUT, the model would count as silent."""
    settings.MODEL_CONNECT_TIMEOUT, settings.MODEL_MAX_TRIES = 0.2, 1
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):  # its queue has room for one
            settings.OPENAI_BASE_URL = f"http://127.0.0.1:{address[1]}/v1"
            _, fault = await hear_until_fault("hello")
    assert fault.code == "model_unreachable"


async def test_a_local_connection_is_not_kept_open(server: Running) -> None:
    for message in ("one", "another"):
        await hear(message)
        await become(lambda: server.stats()["open"], 1)  # the one that asks
