"""What a model can do wrong, in a stable code and a sentence that any reader may see."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import openai

Code = Literal[
    "model_unreachable",
    "model_silent",
    "model_interrupted",
    "model_error",
    "model_rate_limited",
    "model_quota",
    "model_unauthorized",
    "model_unknown",
    "model_refused",
    "context_too_long",
]
REASONS: dict[Code, str] = {
    "model_unreachable": "The model cannot be reached at the moment.",
    "model_silent": "The model has fallen silent.",
    "model_interrupted": "The model broke off in the middle of its reply.",
    "model_error": "The model had an error of its own.",
    "model_rate_limited": "The model has too much to do at the moment.",
    "model_quota": "This service has used up its quota with the model.",
    "model_unauthorized": "The model does not let this service in.",
    "model_unknown": "There is no such model.",
    "model_refused": "The model refused the request.",
    "context_too_long": "The conversation is too long for this model.",
}
TRANSIENT: set[Code] = {
    "model_unreachable",
    "model_silent",
    "model_interrupted",
    "model_error",
    "model_rate_limited",
}
# Every provider has another code for it, and some have none: these are OpenAI's, Anthropic's
# and LiteLLM's, llama.cpp's and vLLM's.
TOO_LONG = re.compile(
    r"context_length_exceeded|prompt is too long|ContextWindowExceeded|context window"
    r"|exceed_context_size|maximum context length|configured limit",
    re.IGNORECASE,
)


class ModelFault(Exception):
    """The model did not finish its reply: end the run with `code` and `reason`.

    `transient` means that the same request may succeed later, `retry_after` after how many
    seconds, if the provider said so. Nothing in it is the provider's text.
    """

    def __init__(self, code: Code, *, retry_after: float | None = None) -> None:
        super().__init__(code)
        self.code: Code = code
        self.reason = REASONS[code]
        self.transient = code in TRANSIENT
        self.retry_after = retry_after


def fault_of(error: Exception) -> ModelFault:
    """What it means that the model did not begin to answer."""
    match error:
        case openai.APIStatusError():
            return ModelFault(_code_of(error), retry_after=_retry_after(error))
        case _:
            return ModelFault("model_unreachable")


def fault_of_body(body: object) -> ModelFault:
    """What an error inside a 200 stream means. `body`: the decoded event that tells of it."""
    return ModelFault("model_error")


def _code_of(error: openai.APIStatusError) -> Code:
    match error.status_code:
        case 401 | 403:
            return "model_unauthorized"
        case 404:
            return "model_unknown"
        case 429 if error.code == "insufficient_quota":
            return "model_quota"
        case 408 | 409 | 425 | 429:
            return "model_rate_limited"
        case 413:
            return "context_too_long"
        case status if status >= 500:
            return "model_error"
        case _ if TOO_LONG.search(f"{error.code} {error.type} {error.message}"):
            return "context_too_long"
        case _:
            return "model_refused"


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds (RFC 9110 §10.2.3: a number, or a date)."""
    wish = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(wish))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(wish) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
