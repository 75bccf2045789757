"""With which parameters a model is asked, and where: once more without what its server refuses."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.integration.support.answering_server import (
    Answer,
    answering,
    error,
    hear,
    refusal,
    reply,
    stream,
)
from workers.generators import retry
from workers.generators.openai import close_client
from workers.reply_items import Completion

HELLO = ["Hello", Completion("stop", None)]


@pytest.fixture(autouse=True)
async def asked(settings: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    settings.EMBEDDED_MODEL = False
    settings.OPENAI_API_KEY = "sk-test"
    settings.MODEL_MAX_TRIES = 3
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)
    yield
    await close_client()


# The parameters that not all servers take


MISTRAL = {
    "object": "error",
    "message": {
        "detail": [
            {
                "type": "extra_forbidden",
                "loc": ["body", "stream_options", "include_usage"],
                "msg": "Extra inputs are not permitted",
                "input": True,
            }
        ]
    },
    "type": "invalid_request_error",
    "param": None,
    "code": None,
}
NEWER = error(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    "'max_completion_tokens' instead.",
    type="invalid_request_error",
    param="max_tokens",
    code="unsupported_parameter",
)
OLDER = {
    "object": "error",
    "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'max_completion_tokens'), "
    "'msg': 'Extra inputs are not permitted', 'input': 8192}]",
    "type": "BadRequestError",
    "param": None,
    "code": 400,
}


def strict(*refused: tuple[str, int, object]) -> Callable[[dict[str, Any]], Answer]:
    """A server that refuses each of these parameters, the first one that it meets."""

    def answer(body: dict[str, Any]) -> Answer:
        for name, status, words in refused:
            if name in body:
                return refusal(status, words)
        return reply()

    return answer


def optional(request: dict[str, Any]) -> set[str]:
    return request.keys() & {"stream_options", "max_tokens", "max_completion_tokens"}


@pytest.mark.parametrize(
    ("refused", "taken"),
    [
        ([("stream_options", 422, MISTRAL)], {"max_tokens"}),
        (
            [("stream_options", 400, error("property 'stream_options' is unsupported"))],
            {"max_tokens"},
        ),
        (
            [("stream_options", 400, error("Unknown parameter: 'stream_options'."))],
            {"max_tokens"},
        ),
        ([("max_tokens", 400, NEWER)], {"stream_options", "max_completion_tokens"}),
        ([("stream_options", 422, MISTRAL), ("max_tokens", 400, NEWER)], {"max_completion_tokens"}),
    ],
)
async def test_a_refused_parameter_is_left_out_and_remembered(
    settings: Any, refused: list[tuple[str, int, object]], taken: set[str]
) -> None:
    settings.MODEL_MAX_TRIES = 1  # what is asked once more is no try
    async with answering(strict(*refused)) as server:
        assert await hear(server, settings) == (HELLO, 1 + len(refused))
        assert await hear(server, settings) == (HELLO, 1)
        assert optional(server.requests[-1]) == taken
        limit = server.requests[-1][(taken - {"stream_options"}).pop()]
        assert limit == settings.MAX_OUTPUT_TOKENS
        # Another model of the same server may take what this one refuses.
        assert await hear(server, settings, name="another") == (HELLO, 1 + len(refused))


async def test_a_parameter_refused_in_a_stream_is_left_out(settings: Any) -> None:
    words = error("Unknown parameter: 'stream_options'.", code=400)
    async with answering(
        lambda body: stream(words) if "stream_options" in body else reply()
    ) as server:
        assert await hear(server, settings) == (HELLO, 2)


async def test_a_transient_fault_after_a_refused_parameter_is_retried_without_it(
    settings: Any,
) -> None:
    busy = [refusal(429, error("wait")), refusal(429, error("wait"))]

    def answer(body: dict[str, Any]) -> Answer:
        if "stream_options" in body:
            return refusal(422, MISTRAL)
        return busy.pop() if busy else reply()

    async with answering(answer) as server:
        assert await hear(server, settings) == (HELLO, 4)
        assert await hear(server, settings) == (HELLO, 1)


async def test_a_parameter_whose_removal_did_not_help_is_not_remembered(settings: Any) -> None:
    words = refusal(400, error("I echo: stream_options"))
    async with answering(lambda _: words) as server:
        assert await hear(server, settings) == ("model_refused", 2)
        server.answer = lambda _: reply()
        assert await hear(server, settings) == (HELLO, 1)
        assert optional(server.requests[-1]) == {"stream_options", "max_tokens"}


async def test_a_server_that_accepts_neither_name_is_called_with_each_once(settings: Any) -> None:
    neither = strict(("max_tokens", 400, NEWER), ("max_completion_tokens", 400, OLDER))
    async with answering(neither) as server:
        assert await hear(server, settings) == ("model_refused", 2)


@pytest.mark.parametrize(
    ("setting", "value", "refused", "sent"),
    [
        ("MODEL_STREAM_USAGE", "on", ("stream_options", 422, MISTRAL), None),
        ("MODEL_STREAM_USAGE", "off", ("stream_options", 422, MISTRAL), {"max_tokens"}),
        ("MODEL_TOKEN_LIMIT_PARAM", "max_tokens", ("max_tokens", 400, NEWER), None),
        (
            "MODEL_TOKEN_LIMIT_PARAM",
            "max_completion_tokens",
            ("max_tokens", 400, NEWER),
            {"stream_options", "max_completion_tokens"},
        ),
    ],
)
async def test_a_setting_decides_which_parameter_is_sent(
    settings: Any,
    setting: str,
    value: str,
    refused: tuple[str, int, object],
    sent: set[str] | None,
) -> None:
    setattr(settings, setting, value)
    async with answering(strict(refused)) as server:
        if sent is None:
            assert await hear(server, settings) == ("model_refused", 1)
        else:
            assert await hear(server, settings) == (HELLO, 1)
            assert optional(server.requests[-1]) == sent


@pytest.mark.parametrize(
    "message",
    ["max_tokens is too large: 4096", "Invalid max_tokens value", "max_tokens must be at most 99"],
)
async def test_a_value_that_is_refused_is_not_sent_under_another_name(
    settings: Any, message: str
) -> None:
    async with answering(strict(("max_tokens", 400, error(message)))) as server:
        assert await hear(server, settings) == ("model_refused", 1)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(
    settings: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with answering(lambda _: reply("from elsewhere")) as elsewhere:
        to = {"Location": f"{elsewhere.url}/chat/completions"}
        async with answering(lambda _: refusal(status, "", to)) as server:
            with caplog.at_level(logging.WARNING):
                assert await hear(server, settings) == ("model_redirected", 1)
        assert elsewhere.requests == []
    assert f"model_redirected at m, try 1: APIStatusError, {status}" in caplog.text
