"""What an error inside of a model's stream means, from whatever JSON it is."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.generators import error_body
from workers.generators.error_body import MAX_CHARS, ErrorBody
from workers.generators.errors import REASONS, fault_of_body

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
KEYS = st.sampled_from(["error", "message", "code", "status", "type", "detail"]) | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20
)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "wait", "code": 429}},
        {"error": {"message": "wait", "code": "429"}},
        {"error": {"message": "wait", "code": 429.0}},
        {"error": {"message": "wait", "status": 429}},
        {"error": {"error": {"error": {"status_code": 429}}}},
        [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}],
        [[{"code": 429}]],
        {"choices": None, "error_type": "RateLimitError", "error_message": "wait"},
        {"object": "error", "message": "wait", "code": 429},
        {"text": "NETWORK ERROR", "error_code": 429},
        {"error": "Rate limit reached"},
        {"error": ["Too Many Requests"]},
        {"detail": [{"msg": "Too many tokens, please wait"}]},
        "rate_limit_exceeded",
    ],
)
def test_the_same_code_is_read_from_every_shape(body: Any) -> None:
    assert fault_of_body(body).code == "model_rate_limited"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"object": "error", "message": "CUDA error", "code": 500}, "model_error"),
        ({"text": "NETWORK ERROR", "error_code": 50001}, "model_error"),
        ({"choices": None, "error_type": "Oops", "error_message": "Oh"}, "model_error"),
        ({"error": {"code": True, "message": None}}, "model_error"),
        ({"error": {"code": 429.5}}, "model_error"),
        (None, "model_error"),
        ({}, "model_error"),
        ([], "model_error"),
        ("", "model_error"),
        (500, "model_error"),
        ({"error": {"code": "402", "message": "Insufficient credits"}}, "model_quota"),
        ({"error": "maximum context length is 4096 tokens"}, "context_too_long"),
        ({"error": {"type": "exceed_context_size_error", "code": 400}}, "context_too_long"),
        ({"type": "error", "error": {"type": "authentication_error"}}, "model_unauthorized"),
        ({"type": "error", "error": {"type": "not_found_error"}}, "model_unknown"),
        ({"error": {"type": "BadRequestError", "message": "no"}}, "model_refused"),
    ],
)
def test_an_error_is_classified_by_status_and_text(body: Any, code: str) -> None:
    assert fault_of_body(body).code == code


def test_echoed_prompt_text_does_not_classify_an_error() -> None:
    prompt = "prompt is too long, insufficient quota, rate limit"
    body = {
        "error": {"message": "no", "input": prompt},
        "choices": [{"delta": {"content": prompt}}],
    }
    assert fault_of_body(body).code == "model_error"
    assert fault_of_body({"error": "x" * MAX_CHARS + prompt}).code == "model_error"


@settings(deadline=None)
@given(JSON)
def test_every_json_value_is_classified(body: Any) -> None:
    fault = fault_of_body(body)
    assert fault.reason == REASONS[fault.code]


def test_the_text_read_of_an_error_is_bounded() -> None:
    deep: Any = "rate limit"
    for _ in range(500):
        deep = {"error": deep}
    assert error_body.read(deep) == ErrorBody((), "")
    wide = {"errors": [{"message": "x" * 9999, "code": 400}] * 9999}
    assert len(error_body.read(wide).text) == 4 * MAX_CHARS
