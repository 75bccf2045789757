"""POST /v1/chat/completions: asks with a whole history, and waits for the reply or streams it.

Each call brings all messages, so each call creates a hidden conversation. It is deleted LOG_TTL
seconds after its run has ended. The run's response is also `/v1/responses/resp_<run>`.
"""

from functools import partial
from typing import Any

import orjson
from django.http import HttpResponse
from ninja import Router
from pydantic import BaseModel, Field

from streams.api.authentication import ApiRequest
from streams.api.schemas import Line
from streams.chat import ask
from streams.chat.origin import Origin
from streams.chat.reply_state import ReplyState
from streams.dialects.chat_completions import ChatCompletionWire, completion, failure
from streams.dialects.http import Answer, DialectApi, check_stream
from streams.dialects.openai_http import ERRORS, repeatable
from streams.dialects.openai_input import InputMessage, ResponseFormat, check_format, split
from streams.dialects.text_input import no_tools
from streams.dialects.waiting import stream_waiting, wait_for_reply
from streams.http.pending_response import PendingResponse
from streams.http.problems import Problem
from streams.http.refusals import openai_error, openai_refusal
from streams.protocol.events import RunFailed

DIALECT = "chat-completions"


class StreamOptions(BaseModel):
    """The frames that a stream has in addition to the text."""

    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """The body of `POST /v1/chat/completions`.

    Other fields, such as `temperature`, are ignored, because the operator decides about sampling.
    """

    model: Line = Field(min_length=1)
    messages: list[InputMessage]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: ResponseFormat | None = None


router = Router(tags=["OpenAI"])


@router.post(
    "/chat/completions", summary="A reply, in OpenAI's Chat Completions", openapi_extra=ERRORS
)
def chat_completions(request: ApiRequest, body: ChatCompletionRequest) -> PendingResponse | Answer:
    no_tools(body.tools, body.functions)
    if body.n not in (None, 1):
        raise Problem(400, "not_offered", "Only one choice is written: send no `n`.")
    check_format(body.response_format, "response_format")
    earlier, text = split(body.messages)
    if body.stream:
        check_stream(request)
    queued = ask.begin(
        owner=request.auth.owner,
        text=text,
        model=body.model,
        key=repeatable(request),
        origin=Origin(dialect=DIALECT, hidden=True, earlier=earlier),
    )
    if not body.stream:
        return wait_for_reply(request, queued.run, _whole, openai_refusal)
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return stream_waiting(request, partial(ChatCompletionWire, usage=usage), queued.run)


def _whole(state: ReplyState) -> HttpResponse:
    ending = state.reply.ending
    if isinstance(ending, RunFailed):
        # The SDK must not repeat the request, because it would get the same failure again.
        return openai_error(500, failure(ending.reason, ending.code), {"x-should-retry": "false"})
    whole = orjson.dumps(completion(state.run, state.reply))
    return HttpResponse(whole, content_type="application/json")


api = DialectApi(DIALECT, prefix="/v1/", refuse=openai_refusal)
api.add_router("", router)
