"""The fields of one chunk, in the shapes that servers send."""

from typing import Any

import pytest

from streams.protocol.events import Usage
from workers.generators.chunks import read_chunk


def fields(**delta: Any) -> tuple[str, str]:
    chunk = read_chunk({"choices": [{"index": 0, "delta": delta}]})
    return chunk.text, chunk.reasoning


TEXT = {"type": "text", "text": "Hello"}
DEEP: list[Any] = ["Hm."]
for _ in range(900):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("delta", "text", "reasoning"),
    [
        ({"content": "Hello"}, "Hello", ""),
        ({"content": None}, "", ""),
        ({"content": [TEXT]}, "Hello", ""),
        ({"content": TEXT}, "Hello", ""),
        ({"content": ["Hel", "lo"]}, "Hello", ""),
        ({"content": [{"type": "text", "text": {"value": 1}}]}, "", ""),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}, TEXT]}, "Hello", ""),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]},
            "",
            "Hm.",
        ),
        ({"content": [{"type": "thinking", "thinking": "Hm."}, TEXT]}, "Hello", "Hm."),
        ({"content": "", "refusal": "No."}, "No.", ""),
        ({"content": None, "refusal": [{"type": "refusal", "refusal": "No."}]}, "No.", ""),
        ({"reasoning_content": "Hm."}, "", "Hm."),
        ({"reasoning_content": [{"type": "text", "text": "Hm."}]}, "", "Hm."),
        ({"reasoning_content": [], "reasoning": "Hm."}, "", "Hm."),
        ({"reasoning_content": "Hm.", "reasoning": "Hm."}, "", "Hm."),
        ({"reasoning": {"content": "Hm."}}, "", "Hm."),
        ({"reasoning": {"text": "Hm."}}, "", "Hm."),
        ({"reasoning": {"effort": "high"}, "content": "Hello"}, "Hello", ""),
        ({"reasoning": True, "content": "Hello"}, "Hello", ""),
        ({"reasoning": 7, "content": "Hello"}, "Hello", ""),
        ({"reasoning": DEEP}, "", ""),
    ],
)
def test_text_and_reasoning_are_read_in_each_shape(delta: Any, text: str, reasoning: str) -> None:
    assert fields(**delta) == (text, reasoning)


@pytest.mark.parametrize(
    ("counts", "read", "written", "total"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 12}, 7, 3, 12),
        ({"prompt_tokens": 7, "completion_tokens": 3}, 7, 3, 10),
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": -1}, 7, 3, 10),
        ({"input_tokens": 5, "output_tokens": 2}, 5, 2, 7),
        ({"prompt_tokens": None, "input_tokens": 5, "output_tokens": 2}, 5, 2, 7),
        ({"prompt_tokens": 5, "completion_tokens": 0}, 5, 0, 5),
    ],
)
def test_token_counts_are_read_under_each_name(
    counts: Any, read: int, written: int, total: int
) -> None:
    usage = Usage(input_tokens=read, output_tokens=written, total_tokens=total, estimated=False)
    assert read_chunk({"choices": [], "usage": counts}).usage == usage


@pytest.mark.parametrize("wrong", [None, 1.5, "7", [1], {}, -1, True, 10**19, 12345678901234567890])
def test_an_invalid_count_is_none(wrong: Any) -> None:
    for name in ("prompt_tokens", "completion_tokens"):
        counts = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, name: wrong}
        assert read_chunk({"choices": [], "usage": counts}).usage is None


@pytest.mark.parametrize(
    "counts",
    [
        {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
        {"prompt_tokens_details": {"cached_tokens": 1}},
        {},
        [],
        "7",
        7,
        True,
        [1],
    ],
)
def test_a_usage_without_counts_is_none(counts: Any) -> None:
    assert read_chunk({"choices": [], "usage": counts}).usage is None
    choice = {"delta": {"content": "Hello"}}
    chunk = read_chunk({"choices": [choice], "usage": counts})
    assert (chunk.text, chunk.usage) == ("Hello", None)


@pytest.mark.parametrize(
    ("reason", "read"),
    [
        *[("stop", "stop"), ("length", "length"), (1, "1"), ("null", None), ("None", None)],
        *[("", None), (None, None), (False, None), (True, None), ({"type": "x"}, None)],
    ],
)
def test_a_finish_reason_is_a_string_or_none(reason: Any, read: str | None) -> None:
    assert read_chunk({"choices": [{"delta": {}, "finish_reason": reason}]}).finish_reason == read


@pytest.mark.parametrize("reason", ["error", "abort", "network_error"])
def test_a_finish_reason_may_be_an_error(reason: str) -> None:
    chunk = read_chunk({"choices": [{"delta": {"content": "Half"}, "finish_reason": reason}]})
    assert (chunk.text, chunk.finish_reason) == ("Half", None)
    assert chunk.error
