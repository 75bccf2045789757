"""What ends a reply, and what fails it."""

from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from tests.unit.support.model_response import (
    DONE,
    HELLO,
    STOP,
    WHOLE,
    Part,
    Reply,
    chunk,
    content_chunk,
    event,
    line_reader,
    read,
)
from workers.generators import reply_stream, sse_lines
from workers.generators.errors import ModelError
from workers.generators.reply_stream import ReplyStream

BROKEN = aiohttp.ClientPayloadError()
HALF = b'data: {"choices":[{"ind'


@pytest.mark.parametrize(
    ("parts", "reply"),
    [
        ([WHOLE, DONE], Reply("Hello", finish_reason="stop")),
        ([WHOLE], Reply("Hello", finish_reason="stop")),
        ([WHOLE, BROKEN], Reply("Hello", finish_reason="stop")),
        ([WHOLE, event({"error": "late"}), DONE], Reply("Hello", finish_reason="stop")),
        ([WHOLE, b"data: nonsense\n\n", DONE], Reply("Hello", finish_reason="stop")),
        ([WHOLE, HALF], Reply("Hello", finish_reason="stop")),
        (
            [WHOLE, DONE, content_chunk("never"), b"data: x\n\n"],
            Reply("Hello", finish_reason="stop"),
        ),
        (
            [content_chunk("Hello", "stop"), b"data: nonsense\n\n"],
            Reply("Hello", finish_reason="stop"),
        ),
        ([content_chunk("Hello", "stop"), b"data: nonsense\n\n", DONE], Reply("Hello", "", "stop")),
        ([HELLO, DONE], Reply("Hello")),
        ([HELLO], Reply("Hello", code="model_interrupted")),
        ([HELLO, BROKEN], Reply("Hello", code="model_interrupted")),
        ([HELLO, HALF], Reply("Hello", code="model_interrupted")),
        ([HELLO, b"data: nonsense\n\n", DONE], Reply("Hello", code="model_interrupted")),
        ([content_chunk("Hello", "null")], Reply("Hello", code="model_interrupted")),
        (
            [content_chunk("Hello", "stop"), BROKEN],
            Reply("Hello", "", "stop", code="model_interrupted"),
        ),
        (
            [content_chunk("Hel", "stop"), event({"error": "out of memory"})],
            Reply("Hel", "", "stop", code="model_error"),
        ),
        (
            [content_chunk("Hel", "stop"), content_chunk("lo", "stop"), b"data: nonsense\n\n"],
            Reply("Hello", "", "stop", code="model_interrupted"),
        ),
    ],
)
async def test_a_reply_ends_at_done_or_a_finish_reason(parts: list[Part], reply: Reply) -> None:
    assert await read(*parts) == reply


PAUSE = 0.3  # seconds, far above LAST_WORDS here


@pytest.mark.parametrize("reason", ["stop", "null", "length"])
@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="at once"),
        pytest.param([chunk(role="assistant", content="")], id="after a role"),
        pytest.param([chunk("stop", role="assistant", content="")], id="after a role with stop"),
        pytest.param(
            [content_chunk("", "stop"), PAUSE, content_chunk("", "stop")], id="after empty chunks"
        ),
    ],
)
async def test_a_finish_reason_with_text_does_not_end_the_reply(
    reason: str, before: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_stream, "LAST_WORDS", PAUSE / 6)
    first, last = content_chunk("The answer is ", reason), content_chunk("42.", reason)
    reply = await read(
        *before, PAUSE, first, PAUSE, content_chunk("", reason), PAUSE, last, PAUSE, DONE
    )
    assert (reply.text, reply.code) == ("The answer is 42.", None)


async def test_text_after_a_finish_reason_gets_the_full_timeout_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reply_stream, "LAST_WORDS", PAUSE / 6)
    reply = await read(
        content_chunk("Hel"), STOP, content_chunk("l"), PAUSE, content_chunk("o"), PAUSE, DONE
    )
    assert (reply.text, reply.code) == ("Hello", None)


async def test_a_finish_reason_before_any_text_does_not_bound_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reply_stream, "LAST_WORDS", PAUSE / 6)
    reply = await read(content_chunk(""), STOP, PAUSE, content_chunk("Hello"), DONE)
    assert (reply.text, reply.code) == ("Hello", None)


async def test_a_finish_reason_alone_ends_the_reply_despite_comments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reply_stream, "LAST_WORDS", 0.1)
    pings: list[Part] = [0.02, b": ping\n\n"]
    assert await read(WHOLE, *pings * 1000) == Reply("Hello", finish_reason="stop")  # 20 s of them


async def test_silence_after_an_untrusted_finish_reason_is_a_timeout() -> None:
    silent = await read(content_chunk("The answer is ", "stop"), 60, patience=0.1)
    assert silent == Reply("The answer is ", finish_reason="stop", code="model_silent")


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"index": 0, "delta": {"content": "Half"}, "finish_reason": "error"}]},
        {
            "choices": [
                {
                    "delta": {"content": "Half"},
                    "finish_reason": "error",
                    "error": {"message": "provider", "code": 502},
                }
            ]
        },
        {"choices": [{"delta": {"content": "Half"}, "error": {"message": "x"}}]},
        {"choices": [{"delta": {"content": "Half"}}], "error": {"message": "x"}},
    ],
)
@pytest.mark.parametrize("before", [b"", content_chunk("One ", "stop"), content_chunk("One ")])
async def test_an_error_with_text_keeps_the_text(before: bytes, body: Any) -> None:
    reply = await read(before, event(body), DONE)
    assert (reply.text, reply.code) == ("One " * bool(before) + "Half", "model_error")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"object": "error", "message": "CUDA error", "code": 500}, "model_error"),
        ({"text": "NETWORK ERROR", "error_code": 50001}, "model_error"),
        (
            {"choices": None, "error_type": "overloaded", "error_message": "busy"},
            "model_rate_limited",
        ),
        ({"code": 500, "message": "no"}, "model_error"),
        ({"detail": "Internal Server Error"}, "model_error"),
        ({"type": "error", "error": {"type": "overloaded_error"}}, "model_rate_limited"),
        ([{"error": {"code": 400, "status": "INVALID_ARGUMENT"}}], "model_refused"),
        ({"error": "a string"}, "model_error"),
    ],
)
@pytest.mark.parametrize("before", [b"", HELLO])
async def test_an_error_without_choices_fails_the_reply(
    before: bytes, body: Any, code: str
) -> None:
    reply = await read(before, event(body), DONE)
    assert (reply.text, reply.code) == ("Hello" * bool(before), code)


@pytest.mark.parametrize(
    "data", [b'{"message":"x"}', b"Bad Gateway", b"null", b'{"error":{"a":1}}']
)
async def test_an_event_named_error_fails_the_reply(data: bytes) -> None:
    body = b"event: error\ndata: " + data + b"\n\n"
    assert await read(HELLO, body, DONE) == Reply("Hello", code="model_error")


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"type": "ping"},
        {"code": 0, "msg": "ok"},
        {"choices": [{"delta": {}}], "error": None},
        {"choices": [{"delta": {}, "error": {}}], "error": {"message": "", "code": None}},
        {"choices": [{"delta": None}]},
    ],
)
async def test_a_field_that_only_looks_like_an_error_is_ignored(body: Any) -> None:
    assert await read(HELLO, event(body), STOP, DONE) == Reply("Hello", finish_reason="stop")


async def chunks_of(*parts: Part) -> list[tuple[str, str]]:
    """The text and reasoning of each chunk that holds any, also of one before an error."""
    read = list[tuple[str, str]]()
    with suppress(ModelError):
        async for one in ReplyStream(line_reader(parts)).read():
            read.append((one.text, one.reasoning))
    return [(text, reasoning) for text, reasoning in read if text or reasoning]


def words(*texts: str) -> bytes:
    return b"".join(content_chunk(text) for text in texts)


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        ([words("a", "b"), words("c"), STOP, DONE], [("ab", ""), ("c", "")]),
        ([words("a", "b") + STOP + DONE], [("ab", "")]),
        ([words("a", "b") + event({"error": "late"})], [("ab", "")]),
        ([words("a", "b") + b"data: nonsense\n\n"], [("ab", "")]),
        ([words("a", "b") + (b"data: " + b"x" * 200 + b"\n") * 2], [("ab", "")]),  # too long
        (
            [words("a", "b") + chunk(reasoning_content="c") * 2 + words("d", "e") + DONE],
            [("ab", ""), ("", "cc"), ("de", "")],
        ),
    ],
)
async def test_texts_that_arrive_together_are_one_chunk(
    parts: list[Part], joined: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse_lines, "LONGEST_LINE", 300)
    assert await chunks_of(*parts) == joined


async def test_without_a_delta_window_each_chunk_stays_one(settings: Any) -> None:
    settings.DELTA_WINDOW = 0
    assert await chunks_of(words("a", "b"), DONE) == [("a", ""), ("b", "")]
