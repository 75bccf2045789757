"""How the refusals of many providers' servers are classified."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.support.answering_server import answering, error, hear, refusal, stream
from workers.generators import retry
from workers.generators.openai import close_client


@pytest.fixture(autouse=True)
async def asked(settings: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    settings.EMBEDDED_MODEL = False
    settings.OPENAI_API_KEY = "sk-test"
    settings.MODEL_MAX_TRIES = 3
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)
    yield
    await close_client()


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
async def test_a_refusal_of_each_server_gets_its_code(
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
async def test_an_error_in_a_stream_gets_the_code_of_the_http_error(
    settings: Any, body: dict[str, Any], code: str, requests: int
) -> None:
    async with answering(lambda _: stream(body)) as server:
        assert await hear(server, settings) == (code, requests)
