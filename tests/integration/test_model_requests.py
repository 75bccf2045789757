"""How a model is asked, and what its server's refusals mean in the words of many providers."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.integration.answering import Answer, Answering, answering, refusal, reply, stream
from workers import model
from workers.model import Finish, ModelFault, Piece, Turn, speak
from workers.voice import hang_up

HELLO = [Piece("Hello"), Finish("stop", None)]


@pytest.fixture(autouse=True)
async def asked(settings: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    settings.EMBEDDED_MODEL = False
    settings.OPENAI_API_KEY = "sk-test"
    settings.MODEL_TRIES = 3
    monkeypatch.setattr(model, "FIRST_PAUSE", 0.001)
    yield
    await hang_up()


async def hear(server: Answering, settings: Any, *, name: str = "m") -> Any:
    """What `speak` gives, or the fault that it raises, and how many requests that took."""
    settings.OPENAI_BASE_URL = server.url
    before, said = len(server.requests), []
    try:
        async for one in speak([Turn("user", "hello")], model=name):
            said.append(one)  # noqa: PERF401 - what came before the fault is wanted too
    except ModelFault as fault:
        return fault.code, len(server.requests) - before
    return said, len(server.requests) - before


def error(message: str, **also: Any) -> dict[str, Any]:
    return {"error": {"message": message, **also}}


TOO_LONG = [
    error("The input (5120 tokens) is longer than the model's context length (4096 tokens)."),
    {
        "error": "Trying to keep the first 5120 tokens when context the overflows. However, the "
        "model is loaded with context length of only 4096 tokens"
    },
    [
        error(
            "The input token count (1200000) exceeds the maximum number of tokens allowed "
            "(1048575).",
            code=400,
            status="INVALID_ARGUMENT",
        )
    ],
    error("Input length 877338 exceeds the maximum allowed input length of 639968 tokens"),
    error("This model's maximum prompt length is 131072 but the request contains 150000 tokens."),
    error("`inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000 `inputs` tokens"),
    error("Input is too long for requested model."),
    error("Your request exceeded model token limit: 131072 (requested: 140000)"),
    error("prompt too long; exceeded max context length by 1000 tokens"),
    error("maximum context length is 4096 tokens"),
    error("no words", type="exceed_context_size_error"),
    # Beyond those of the issue.
    error("prompt is too long: 213462 tokens > 200000 maximum"),
    error("input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"),
    error("prompt token count of 70000 exceeds the limit of 64000", code="invalid_request_body"),
    error("the request exceeds the available context size, try increasing it"),
    error("Please reduce the length of the messages or completion."),
    error("Requested tokens (5000) exceed context window of 4096"),
    {"object": "error", "message": "Input tokens exceed the configured limit of 272000 tokens."},
    {"detail": "This model's maximum context length is 4096 tokens."},
]
QUOTA = [
    (402, error("Insufficient Balance")),
    (402, error("Insufficient credits", code=402)),
    (429, error("You exceeded it", type="insufficient_quota", code=429)),
    (429, error("You exceeded your current quota, please check your plan and billing details.")),
    (429, error("Insufficient balance or no resource package. Please recharge.", code="1113")),
    (403, error("quota", code="local:insufficient_quota")),
    (400, error("Your credit balance is too low to access the API.", type="invalid_request_error")),
    (400, {"error": "Budget has been exceeded! Current cost: 2, max budget: 1"}),
]
RATE = [
    (429, error("wait")),
    (429, error("This request would exceed the rate limit of 30,000 input tokens per minute.")),
    (
        429,
        error("You exceeded your current quota, check your billing details.\nPlease retry in 9s."),
    ),
    (400, error("Too many tokens, please wait before trying again.")),
    (400, error("ThrottlingException: Rate exceeded")),
    (400, error("slow down", code=429)),
    (503, error("Overloaded", type="overloaded_error")),
]
OTHERS = [
    (400, error("max_tokens is too large: 100000. At most 16384 are supported."), "model_refused"),
    (400, error("Invalid max_tokens value, the valid range is [1, 8192]"), "model_refused"),
    (400, "not JSON", "model_refused"),
    (400, "", "model_refused"),
    (400, [], "model_refused"),
    (400, None, "model_refused"),
    (
        422,
        {"detail": [{"loc": ["body", "messages"], "input": "prompt is too long"}]},
        "model_refused",
    ),
    (400, error("API key not valid. Please pass a valid API key."), "model_unauthorized"),
    (403, error("no"), "model_unauthorized"),
    (400, error("The model `m` does not exist", code="model_not_found"), "model_unknown"),
    (404, error("Not Found"), "model_unknown"),
    (413, "Request Entity Too Large", "context_too_long"),
    (500, error("prompt processing took too long"), "model_error"),
    (500, error("CUDA error", code=500), "model_error"),
]


@pytest.mark.parametrize(
    ("status", "body", "code", "requests"),
    [
        *((400, body, "context_too_long", 1) for body in TOO_LONG),
        *((status, body, "model_quota", 1) for status, body in QUOTA),
        *((status, body, "model_rate_limited", 3) for status, body in RATE),
        *((*other, 3 if other[2] == "model_error" else 1) for other in OTHERS),
    ],
)
async def test_a_refusal_means_what_its_server_says_in_whatever_words(
    settings: Any, status: int, body: object, code: str, requests: int
) -> None:
    async with answering(lambda _: refusal(status, body)) as server:
        assert await hear(server, settings) == (code, requests)


@pytest.mark.parametrize(
    ("body", "code", "requests"),
    [
        *((body, "context_too_long", 1) for body in TOO_LONG if "error" in body),
        *((body, "model_quota", 1) for status, body in QUOTA if "error" in body),
        (error("slow down", code=429), "model_rate_limited", 3),
        (error("slow down", code="429"), "model_rate_limited", 3),
        (error("slow down", status=429), "model_rate_limited", 3),
        (error("Rate limit reached", type="rate_limit_error"), "model_rate_limited", 3),
        (error("Too many tokens, please wait"), "model_rate_limited", 3),
        (error("Insufficient credits", code=402), "model_quota", 1),
        (error("no", code=401), "model_unauthorized", 1),
        (error("no", code=400), "model_refused", 1),
        (error("no", type="invalid_request_error"), "model_refused", 1),
        (error("out of memory"), "model_error", 3),
        ({"error": "out of memory", "error_code": 50001}, "model_error", 3),
    ],
)
async def test_an_error_inside_of_a_stream_means_the_same_as_one_of_http(
    settings: Any, body: dict[str, Any], code: str, requests: int
) -> None:
    async with answering(lambda _: stream(body)) as server:
        assert await hear(server, settings) == (code, requests)


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
async def test_a_parameter_that_is_refused_gives_way_and_that_is_remembered(
    settings: Any, refused: list[tuple[str, int, object]], taken: set[str]
) -> None:
    settings.MODEL_TRIES = 1  # what is asked once more is no try
    async with answering(strict(*refused)) as server:
        assert await hear(server, settings) == (HELLO, 1 + len(refused))
        assert await hear(server, settings) == (HELLO, 1)
        assert optional(server.requests[-1]) == taken
        limit = server.requests[-1][(taken - {"stream_options"}).pop()]
        assert limit == settings.MAX_OUTPUT_TOKENS
        # Another model of the same server may take what this one refuses.
        assert await hear(server, settings, name="another") == (HELLO, 1 + len(refused))


async def test_a_refusal_of_a_parameter_inside_of_a_stream_gives_way_too(settings: Any) -> None:
    words = error("Unknown parameter: 'stream_options'.", code=400)
    async with answering(
        lambda body: stream(words) if "stream_options" in body else reply()
    ) as server:
        assert await hear(server, settings) == (HELLO, 2)


async def test_a_passing_fault_after_a_refused_parameter_is_tried_without_it(settings: Any) -> None:
    busy = [refusal(429, error("wait")), refusal(429, error("wait"))]

    def answer(body: dict[str, Any]) -> Answer:
        if "stream_options" in body:
            return refusal(422, MISTRAL)
        return busy.pop() if busy else reply()

    async with answering(answer) as server:
        assert await hear(server, settings) == (HELLO, 4)
        assert await hear(server, settings) == (HELLO, 1)


async def test_what_did_not_help_is_not_remembered(settings: Any) -> None:
    words = refusal(400, error("I echo: stream_options"))
    async with answering(lambda _: words) as server:
        assert await hear(server, settings) == ("model_refused", 2)
        server.answer = lambda _: reply()
        assert await hear(server, settings) == (HELLO, 1)
        assert optional(server.requests[-1]) == {"stream_options", "max_tokens"}


async def test_a_server_that_takes_neither_name_is_asked_with_each_once(settings: Any) -> None:
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
async def test_a_setting_decides_once_and_for_all_what_is_sent(
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
async def test_no_redirect_takes_the_conversation_elsewhere(
    settings: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with answering(lambda _: reply("from elsewhere")) as elsewhere:
        to = {"Location": f"{elsewhere.url}/chat/completions"}
        async with answering(lambda _: refusal(status, "", to)) as server:
            with caplog.at_level(logging.WARNING):
                assert await hear(server, settings) == ("model_redirected", 1)
        assert elsewhere.requests == []
    assert f"model_redirected at m, try 1: APIStatusError, {status}" in caplog.text
