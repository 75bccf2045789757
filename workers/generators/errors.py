"""Errors of a model server: each has a stable code, and a sentence that readers may see."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Literal

import aiohttp
import httpx
import httpx2
import openai
import orjson

from workers.generators import error_body
from workers.generators.error_body import ErrorBody

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
    "model_redirected",
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
    "model_redirected": "The model's server pointed to another address, which was not followed.",
    "context_too_long": "The conversation is too long for this model.",
}
TRANSIENT: set[Code] = {
    "model_unreachable",
    "model_silent",
    "model_interrupted",
    "model_error",
    "model_rate_limited",
}

# An error, in an HTTP response or inside a stream, gets its code from the first of these that
# matches: a status in CERTAIN, then WORDINGS in their order, then a status in USUAL.
CERTAIN: dict[int, Code] = {
    401: "model_unauthorized",
    402: "model_quota",
    404: "model_unknown",
    413: "context_too_long",
}
USUAL: dict[int, Code] = {
    403: "model_unauthorized",
    408: "model_rate_limited",
    409: "model_rate_limited",
    425: "model_rate_limited",
    429: "model_rate_limited",
}
LIMIT = r"context[ _-]?(?:length|window|size|limit)"
WORDINGS: tuple[tuple[Code, tuple[str, ...]], ...] = (
    (
        "model_quota",
        (
            r"insufficient[ _-]?(?:user[ _])?(?:quota|balance|credits?|funds)",
            # With "retry in" it is a rate limit, not a quota.
            r"exceeded[ _](?:your[ _])?current[ _]quota(?![\s\S]*retry in)",
            r"credit balance is too low|(?:out of|requires more) credits|payment[ _]required",
            r"billing[ _](?:hard[ _]limit|not[ _]active)|key limit exceeded",
            r"budget[ _](?:has been )?exceeded|exceededbudget",
            r"arrearage|accountoverdue|余额不足",
        ),
    ),
    (
        "model_rate_limited",
        (
            r"rate[ _-]?limit|too[ _]?many[ _]?requests|throttl|resource[ _]?exhausted",
            r"too many tokens, please wait|tokens per (?:min|day)|requests per (?:min|day)",
            r"overloaded|(?:at|over) capacity|server is busy|concurrency limit",
        ),
    ),
    (
        "context_too_long",
        (
            rf"(?:exceed|longer than|greater than|larger than|max|of only)[^\n]{{0,80}}{LIMIT}",
            rf"{LIMIT}[^\n]{{0,40}}(?:exceed|overflow|is only|of only)",
            r"(?:prompt|input|conversation|messages?)(?: is| are)? too (?:long|large)",
            r"(?:prompt|input)[^\n]{0,80}exceeds?[^\n]{0,40}(?:max|limit)",
            r"max(?:imum)?[^\n]{0,20}(?:prompt|input) length|range of input length",
            r"model(?:'s)? token limit|more than max tokens allowed|context(?: the)? overflow",
            r"inputs\W+tokens \+ \W*max_new_tokens|inputs\W+must have less than",
            r"reduce the length of the (?:messages|prompt|input)",
        ),
    ),
    (
        "model_unauthorized",
        (
            r"(?:invalid|incorrect)[ _]api[ _]key|api[ _]key[ _](?:not[ _]valid|invalid)",
            r"authentication_?error|unauthenticated|permission_(?:error|denied)",
        ),
    ),
    (
        "model_unknown",
        (
            r"model[ _]not[ _](?:found|exist)|model [^\n]{0,80} (?:does not exist|not found)",
            r"not_found_error",
        ),
    ),
)
PATTERNS = [(code, re.compile("|".join(any_of), re.IGNORECASE)) for code, any_of in WORDINGS]
TRANSPORT_ERRORS = (OSError, httpx.HTTPError, httpx2.HTTPError, aiohttp.ClientError)
REFUSED = re.compile(r"invalid[ _]?(?:request|argument)|badrequest|unprocessable", re.IGNORECASE)

PARAMETERS = ("stream_options", "max_tokens", "max_completion_tokens")
NOT_TAKEN = re.compile(  # does not match "max_tokens is too large", which is about the value
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|forbidden"
    r"|not allowed|not implemented|instead",
    re.IGNORECASE,
)


class ModelError(Exception):
    """The model did not finish its reply: end the run with `code` and `reason`.

    `transient` means that the same request may succeed later. `retry_after` is the wait in seconds,
    if the server gave one. `refuses` names the PARAMETERS without which the request may succeed at
    once. No attribute contains text of the server.
    """

    def __init__(
        self,
        code: Code,
        *,
        retry_after: float | None = None,
        refuses: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(code)
        self.code: Code = code
        self.reason = REASONS[code]
        self.transient = code in TRANSIENT
        self.retry_after = retry_after
        self.refuses = refuses


def model_error_of(error: Exception) -> ModelError:
    """The error for a request that failed before the reply began."""
    if not isinstance(error, openai.APIStatusError):
        return ModelError("model_unreachable")
    try:
        body = orjson.loads(error.response.content)
    except orjson.JSONDecodeError:
        body = error.response.text
    return _error_of_response(error.status_code, body, error.response)


def provider_error_of(error: Exception, *, begun: bool) -> ModelError | None:
    """The error for an exception of any provider's client; None if the server did not cause it.

    The exceptions of OpenAI's, Anthropic's and similar clients have the status and the decoded
    body. If the connection broke, the transport's exception is among their causes.
    """
    if isinstance(error, ModelError):
        return error
    if isinstance(status := getattr(error, "status_code", None), int):
        body, response = getattr(error, "body", None), getattr(error, "response", None)
        return _error_of_response(status, body, response)
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, TRANSPORT_ERRORS):
            return ModelError("model_interrupted" if begun else "model_unreachable")
        cause = cause.__cause__ or cause.__context__
    return None


def _error_of_response(status: int, body: object, response: Any) -> ModelError:
    if 300 <= status < 400:
        return ModelError("model_redirected")
    # An error inside a stream comes with the status of the stream, which is 200.
    certain = status if status >= HTTPStatus.BAD_REQUEST else None
    header = getattr(response, "headers", {}).get("retry-after", "")
    return _fault(error_body.read(body), status=certain, retry_after=_retry_after(header))


def fault_of_body(body: object) -> ModelError:
    """The error for an error object inside a stream: any decoded JSON, or plain text."""
    return _fault(error_body.read(body))


def _fault(
    error: ErrorBody, *, status: int | None = None, retry_after: float | None = None
) -> ModelError:
    # A gateway's response may name the status that the gateway got from another server.
    statuses = error.statuses if status is None else (status, *error.statuses)
    code = _code_of(statuses, error.text)
    refuses = _refused(error.text) if code == "model_refused" else frozenset[str]()
    return ModelError(code, retry_after=retry_after, refuses=refuses)


def _code_of(statuses: tuple[int, ...], text: str) -> Code:
    worded = [code for code, pattern in PATTERNS if pattern.search(text)]
    certain = [CERTAIN[status] for status in statuses if status in CERTAIN]
    usual = [USUAL[status] for status in statuses if status in USUAL]
    if codes := [*certain, *worded, *usual]:
        return codes[0]
    refused = statuses[0] < 500 if statuses else REFUSED.search(text)
    return "model_refused" if refused else "model_error"


def _refused(text: str) -> frozenset[str]:
    """Those of PARAMETERS that the error text says the server does not accept."""
    named = {name for name in PARAMETERS if re.search(rf"(?<!\w){name}(?!\w)", text)}
    # Token counts are optional, so any complaint about `stream_options` drops them.
    return frozenset(named if NOT_TAKEN.search(text) else named & {"stream_options"})


def _retry_after(header: str) -> float | None:
    """The `Retry-After` header in seconds (RFC 9110 §10.2.3: a number or a date), or None."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
