"""The routes of the AI SDK: how a request of `useChat` becomes a run, and a run a stream."""

from typing import Any
from uuid import UUID

from django.db import IntegrityError
from django.http import HttpResponse
from ninja import Router

from streams.api.authentication import ApiRequest
from streams.chat import ask
from streams.chat.idempotency import IdempotencyKey
from streams.chat.origin import ClientNames, Origin, client_ids
from streams.chat.reply_state import reply_state
from streams.chat.snapshot import message_page
from streams.dialects.ai_sdk import UiMessageWire, ui_parts
from streams.dialects.ai_sdk_request import ChatRequest
from streams.dialects.documentation import BODY, documented
from streams.dialects.history import (
    CHANGED,
    contradiction,
    conversation_named,
    earlier,
    kept_run,
    newest_run,
    place_of,
    stop_runs,
)
from streams.dialects.http import Answer, DialectApi, TextAuthentication, check_stream, stream_run
from streams.http.problems import not_found
from streams.http.refusals import text_refusal
from streams.models import Conversation, Run
from streams.protocol.ids import uuid_of

DIALECT = UiMessageWire.dialect
V1 = {"x-vercel-ai-ui-message-stream": "v1"}
VERSION = "x-ai-sdk-version"  # the page may send it, because the clients do not send their version
STREAM = {200: "The reply, as UI message chunks", 505: "A stream was asked for over HTTP/1.0"}
router = Router(tags=["ai-sdk"])


@router.post("/chat", openapi_extra=documented(BODY, STREAM))
def chat(request: ApiRequest, body: ChatRequest) -> Answer:
    owner = request.auth.owner
    check_stream(request)  # before anything is stored
    text = body.check()
    try:
        run = _run_of(owner, body, text)
    except IntegrityError:  # another request has begun the conversation meanwhile
        run = _run_of(owner, body, text)
    return _stream(request, run)


def _run_of(owner: str, body: ChatRequest, text: str) -> UUID:
    """The run that answers: a new run, or the run of an earlier request for the same reply."""
    conversation = conversation_named(owner, DIALECT, body.chat)
    newest = newest_run(conversation) if conversation else None
    key = body.key(owner, _regenerated(body, newest))
    if kept := kept_run(key, CHANGED):
        return kept
    return _queued(owner, conversation, newest, body, text, key).run


def _queued(
    owner: str,
    conversation: Conversation | None,
    newest: Run | None,
    body: ChatRequest,
    text: str,
    key: IdempotencyKey,
) -> ask.QueuedRun:
    if conversation is None:
        return ask.begin(
            owner=owner,
            text=text,
            model=body.model,
            metadata=body.metadata,
            key=key,
            origin=Origin(
                dialect=DIALECT, client_id=body.chat, earlier=earlier(body.messages[:-1])
            ),
            names=ClientNames(message=body.asked.id),
        )
    if body.model and body.model != conversation.model:
        raise contradiction(f"This chat was begun with {conversation.model}.")
    place = place_of(body.messages, conversation)
    if place.stored is None:
        return ask.ask(
            conversation,
            text,
            when_busy="interrupt",
            key=key,
            names=ClientNames(message=body.asked.id),
            metadata=body.metadata,
            earlier=place.earlier,
        )
    if newest is None or newest.message_id != place.stored.id:
        raise contradiction("This message was never answered.")
    if body.asks_again:
        return ask.retry(newest, when_busy="interrupt", key=key)
    return ask.QueuedRun(
        conversation=conversation.id, message=newest.message_id, run=newest.id, cursor=None
    )


def _regenerated(body: ChatRequest, newest: Run | None) -> str:
    """The run whose reply is to be written anew; "" if there is none, or `messageId` names it.

    This is the newest run, or the run before it if the newest run already writes that reply anew.
    So a repeated request has the same key.
    """
    if not (body.asks_again and newest):
        return ""
    if body.trigger == "regenerate-message" and body.messageId:
        return ""
    others = newest.message.runs.exclude(pk=newest.pk)
    earlier = others.order_by("-created_at").first() if newest.is_active else None
    return str((earlier or newest).pk)


@router.get("/chat/{name}/stream", response={204: None}, openapi_extra=documented(STREAM))
def resume(
    request: ApiRequest,
    name: str,
    startIndex: int | None = None,  # noqa: N803  # the name in the query
) -> Answer:
    owner = request.auth.owner
    run = _run(owner, name)
    if run is None and (conversation := conversation_named(owner, DIALECT, name)):
        run = newest_run(conversation, recent=True)
    if run is None:
        return HttpResponse(status=204)
    return _stream(request, run.id, start=startIndex)


@router.post("/chat/{name}/stop", response={204: None}, openapi_extra=documented(BODY))
def stop(request: ApiRequest, name: str) -> HttpResponse:
    stop_runs(request.auth.owner, DIALECT, name)
    return HttpResponse(status=204)


@router.get("/chat/{name}/messages", openapi_extra=documented())
def messages(request: ApiRequest, name: str) -> list[dict[str, Any]]:
    conversation = conversation_named(request.auth.owner, DIALECT, name)
    if conversation is None:
        raise not_found()
    names = client_ids(conversation)
    page, _ = message_page(conversation)
    return [
        {
            "id": str(one.run or names.get(str(one.id), one.id)),
            "role": one.role,
            "parts": ui_parts(one.parts),
        }
        for one in page
    ]


def _run(owner: str, name: str) -> Run | None:
    """The owner's run with this id, as `WorkflowChatTransport` asks for it; None if none has it."""
    id = uuid_of(name)
    return Run.objects.filter(pk=id, conversation__owner=owner).first() if id else None


def _stream(request: ApiRequest, run: UUID, *, start: int | None = None) -> Answer:
    """The run's stream. Only `WorkflowChatTransport`, which is of version 7, sends `start`."""
    continues = start is not None
    resets = continues or request.headers.get(VERSION, "").startswith("7")
    wire = UiMessageWire(resets=resets, continues=continues)
    headers = {**V1, "x-workflow-run-id": str(run)}
    if start is not None and start < 0:
        # The client asks for the last chunks, but gets all. With this header it counts from 0.
        headers["x-workflow-stream-tail-index"] = str(-start - 1)
    return stream_run(request, wire, reply_state(run), headers=headers)


api = DialectApi(DIALECT, prefix="/api/", refuse=text_refusal, authentication=TextAuthentication())
api.add_router("", router)
