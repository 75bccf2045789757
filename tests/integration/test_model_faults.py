"""The model's faults: each one's code, what is retried, and what is given up."""

import asyncio
import json
import logging
import socket
import time
from contextlib import suppress
from typing import Any

import pytest

from tests.integration.support.model_calls import (
    KEY,
    SECRET,
    become,
    hear,
    hear_until_fault,
    script,
)
from tests.support.openai_server import Running, pieces
from workers.generators import sse_lines
from workers.generators.base import ModelError

pytestmark = pytest.mark.usefixtures("called_model")


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
    model: Running, fault: str, code: str, transient: bool
) -> None:
    before = model.stats()["requests"]
    said, caught = await hear_until_fault(script(fault=fault))
    assert (said, caught.code, caught.transient) == ([], code, transient)
    tries = 3 if transient else 1
    assert model.stats()["requests"] - before == tries + (fault == "refuse")


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
    model: Running, settings: Any, fault: str, code: str
) -> None:
    settings.MODEL_READ_TIMEOUT = 1.3
    told = script(tokens=9, fault=fault, fault_at=4)
    before = model.stats()["requests"]
    said, caught = await hear_until_fault(told)
    assert said == pieces(told)[:4]
    assert caught.code == code
    assert model.stats()["requests"] - before == 1
    await become(lambda: model.stats()["streaming"], 0)


@pytest.mark.parametrize("fault", ["refuse", "429", "500", "reset", "truncated", "silence"])
async def test_a_transient_fault_before_the_first_chunk_is_retried(
    model: Running, settings: Any, fault: str, request: pytest.FixtureRequest
) -> None:
    settings.MODEL_READ_TIMEOUT = 0.5
    told = script(tokens=5, fault=fault, times=2, seed=request.node.name)
    before = model.stats()["requests"]
    assert (await hear(told))[:-1] == pieces(told)
    assert model.stats()["requests"] - before == 3


async def test_requests_on_closed_kept_connections_are_repeated_at_once(settings: Any) -> None:
    """Also if the server has closed more connections than a request has tries."""
    asked, answered, writers = 0, 0, list[asyncio.StreamWriter]()
    together = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a connection's first request, promise to keep it, and close it at the second."""
        nonlocal asked, answered
        writers.append(writer)
        for request in range(2):
            with suppress(asyncio.IncompleteReadError):  # a connection that the client closes
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
            if request == 0:
                asked += 1
                if asked == 5:
                    together.set()
                await together.wait()
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
        replies = await asyncio.gather(*[hear("hello") for _ in range(5)])
        replies += [await hear("hello") for _ in range(2)]
        assert [reply[0] for reply in replies] == ["Hi"] * 7
        assert answered == 7
        for writer in writers:  # otherwise the server waits until the client gives them up
            writer.close()


async def test_the_retry_waits_for_retry_after(request: pytest.FixtureRequest) -> None:
    began = time.monotonic()
    await hear(script(fault="429", retry_after=1, times=1, seed=request.node.name))
    assert time.monotonic() - began >= 1


async def test_a_retry_after_that_is_too_long_ends_the_run(model: Running) -> None:
    before = model.stats()["requests"]
    _, fault = await hear_until_fault(script(fault="429", retry_after=3600))
    assert (fault.code, fault.retry_after) == ("model_rate_limited", 3600)
    assert model.stats()["requests"] - before == 1


async def test_a_server_that_does_not_listen_is_unreachable(settings: Any) -> None:
    settings.OPENAI_BASE_URL = "http://127.0.0.1:1/v1"
    _, fault = await hear_until_fault("hello")
    assert fault.code == "model_unreachable"


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
