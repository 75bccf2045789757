"""The routes of OpenAI's Responses API.

POST /v1/responses              asks; waits for the reply, streams it, or neither (`background`)
GET  /v1/responses/<id>         the response as it is now, or its frames after `starting_after`
POST /v1/responses/<id>/cancel  stops a response that was asked for with `background`
"""

from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpResponse
from ninja import Router
from pydantic import BaseModel, Field

from streams.access.authorization import readable_conversation, readable_run
from streams.api.authentication import ApiRequest
from streams.api.schemas import Line, Metadata, Text
from streams.chat import ask, finish
from streams.chat.idempotency import IdempotencyKey, recall
from streams.chat.origin import EarlierMessage, Origin
from streams.chat.reply_state import ReplyState, reply_state
from streams.chat.waiting_reader import keep
from streams.dialects.editions import edition_of
from streams.dialects.http import Answer, DialectApi, check_stream, stream_run
from streams.dialects.openai_http import ERRORS, repeatable
from streams.dialects.openai_input import InputMessage, ResponseFormat, check_format, split
from streams.dialects.position import Position
from streams.dialects.responses import ResponseWire, continued_edition
from streams.dialects.responses_body import response_body
from streams.dialects.text_input import checked, no_tools
from streams.dialects.waiting import stream_waiting, wait_for_reply
from streams.http.disconnect import StreamBroken
from streams.http.problems import Problem, not_found
from streams.http.refusals import openai_refusal
from streams.models import Conversation, Message, Run
from streams.protocol.fold import Reply
from streams.protocol.ids import uuid_of

DIALECT = "responses"


class ConversationId(BaseModel):
    """A conversation by its id."""

    id: Line


class TextConfig(BaseModel):
    """The request's wishes for the text; `verbosity` is ignored."""

    format: ResponseFormat | None = None


class ResponseRequest(BaseModel):
    """The body of `POST /v1/responses`.

    Other fields, such as `temperature`, are ignored, because the operator decides about sampling.
    """

    model: Line = Field(min_length=1)
    input: Text | list[InputMessage]
    instructions: Text | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    previous_response_id: Line | None = None
    conversation: Line | ConversationId | None = None
    metadata: Metadata = None
    tools: list[Any] | None = None
    text: TextConfig | None = None


router = Router(tags=["OpenAI"])


@router.post("/responses", summary="A reply, in OpenAI's Responses API", openapi_extra=ERRORS)
def create_response(request: ApiRequest, body: ResponseRequest) -> Answer:
    no_tools(body.tools)
    check_format(body.text.format if body.text else None, "text.format")
    if body.stream:
        check_stream(request)
    run = _asked(request, body)
    if not body.background:
        if body.stream:
            return stream_waiting(request, ResponseWire, run)
        return wait_for_reply(request, run, _whole, openai_refusal)
    state = reply_state(run)
    if body.stream:
        return stream_run(request, ResponseWire(state.run), state)
    return _whole(state)


@router.get("/responses/{id}", summary="A response, or its stream", openapi_extra=ERRORS)
def retrieve_response(
    request: ApiRequest, id: str, stream: bool = False, starting_after: int | None = None
) -> Answer:
    run = _run(request, id)
    if not stream:
        return _whole(reply_state(run.id))
    state = reply_state(run.id)
    if starting_after is not None:
        _check(starting_after, state.reply)
    keep(run)
    return stream_run(request, ResponseWire(state.run, after=starting_after), state)


@router.post("/responses/{id}/cancel", summary="Stop a response", openapi_extra=ERRORS)
def cancel_response(request: ApiRequest, id: str) -> HttpResponse:
    run = _run(request, id)
    if run.reader:
        detail = "Only a response with `background` can be cancelled: close its connection."
        raise Problem(400, "not_in_background", detail)
    finish.cancel(run.id)
    return _whole(reply_state(run.id))


def _asked(request: ApiRequest, body: ResponseRequest) -> UUID:
    """The run that replies. A repeated request gets the run of the first one."""
    key = repeatable(request)
    # Recalled before `_continued`, which would refuse a repeated request, because after the first
    # request the previous response is no longer the latest one.
    if kept := recall(key):
        return UUID(kept["run"])
    conversation = _continued(request, body)
    if conversation is None:
        return _begin(request, body, key).run
    return _ask(conversation, body, key).run


def _begin(request: ApiRequest, body: ResponseRequest, key: IdempotencyKey) -> ask.QueuedRun:
    earlier, text = _messages(body)
    if body.instructions:
        earlier = (EarlierMessage(role="system", text=body.instructions), *earlier)
    return ask.begin(
        owner=request.auth.owner,
        text=text,
        model=body.model,
        metadata=body.metadata,
        key=key,
        origin=Origin(dialect=DIALECT, hidden=body.store is False, earlier=earlier),
    )


def _ask(conversation: Conversation, body: ResponseRequest, key: IdempotencyKey) -> ask.QueuedRun:
    """Continue the conversation, whose history and model are the service's own."""
    earlier, text = _messages(body)
    if earlier:
        detail = "The conversation has its history: send the new message alone."
        raise Problem(422, "invalid_request", detail)
    if body.model != conversation.model:
        detail = f"The conversation is one with the model {conversation.model}."
        raise Problem(422, "invalid_request", detail)
    if body.instructions:
        system = conversation.messages.filter(role=Message.Role.SYSTEM).first()
        if system is None or system.content != body.instructions:
            detail = "The conversation has other instructions. Send the same, or none."
            raise Problem(422, "invalid_request", detail)
    return ask.ask(conversation, text, when_busy="reject", metadata=body.metadata, key=key)


def _messages(body: ResponseRequest) -> tuple[tuple[EarlierMessage, ...], str]:
    if isinstance(body.input, str):
        return (), checked(body.input)
    return split(body.input)


def _continued(request: ApiRequest, body: ResponseRequest) -> Conversation | None:
    """The conversation that the request continues, if it names one. Raises `Problem`."""
    if body.previous_response_id is not None:
        if body.conversation is not None:
            detail = "Send either `previous_response_id` or `conversation`."
            raise Problem(422, "invalid_request", detail)
        run = _run(request, body.previous_response_id)
        newest = run.conversation.runs.order_by("-message__turn", "-created_at").first()
        if newest != run:
            detail = "Only the latest response of a conversation can be continued."
            raise Problem(409, "not_last_turn", detail)
        return run.conversation
    if body.conversation is None:
        return None
    named = body.conversation
    id = named if isinstance(named, str) else named.id
    return readable_conversation(request.auth, _uuid(id, "conv_"))


def _run(request: ApiRequest, id: str) -> Run:
    return readable_run(request.auth, _uuid(id, "resp_"))


def _uuid(id: str, prefix: str) -> UUID:
    found = uuid_of(id.removeprefix(prefix))
    if found is None:
        raise not_found()
    return found


def _check(number: int, reply: Reply) -> None:
    """Raise `Problem` if the stream of this reply cannot continue after this number."""
    try:
        continued_edition(Position.of(number), reply)
    except (ValueError, StreamBroken):
        detail = "`starting_after` is the `sequence_number` of a frame."
        raise Problem(400, "bad_cursor", detail) from None


def _whole(state: ReplyState) -> HttpResponse:
    reply = replace(state.reply, attempt=edition_of(state.reply.attempt))
    body = orjson.dumps(response_body(state.run, reply))
    return HttpResponse(body, content_type="application/json")


api = DialectApi(DIALECT, prefix="/v1/", refuse=openai_refusal)
api.add_router("", router)
