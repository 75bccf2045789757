"""The routes of the AI SDK: how a request of `useChat` becomes a run, and a run its stream."""

from hashlib import sha256
from typing import Any, Literal
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError
from django.db.models import Q
from django.http import HttpResponse, StreamingHttpResponse
from ninja import Router
from pydantic import BaseModel, Field

from streams.api.authentication import ApiRequest
from streams.api.schemas import Message as Text
from streams.chat import ask, finish
from streams.chat.idempotency import IdempotencyKey
from streams.chat.model_names import kind_of
from streams.chat.origin import EarlierMessage, Origin, client_ids, named
from streams.chat.reply_state import reply_state
from streams.chat.snapshot import message_page
from streams.dialects.ai_sdk import UiMessageWire, ui_parts
from streams.dialects.http import DialectApi, stream_run
from streams.http.problems import Problem, not_found
from streams.models import Conversation, Run, from_now
from streams.protocol.ids import NotCanonical, parse_uuid

DIALECT = "ai-sdk"
V1 = {"x-vercel-ai-ui-message-stream": "v1"}
NAME = Field(min_length=1, max_length=200)


class UiPart(BaseModel):
    """A part of a UI message; only text is taken."""

    type: str
    text: str | None = None


class UiMessage(BaseModel):
    """A message as the client holds it."""

    id: str = NAME
    role: Literal["system", "user", "assistant"]
    parts: list[UiPart]

    def text(self) -> str:
        """Its text. Raises `Problem` for a user's message with anything else in it."""
        texts = [part.text or "" for part in self.parts if part.type == "text"]
        if self.role == "user" and len(texts) < len(self.parts):
            raise Problem(422, "invalid_request", "Only text can be sent in a message.")
        return "".join(texts)


class ChatRequest(BaseModel):
    """The body of `POST /api/chat`. Other fields are the page's own, and are ignored."""

    id: str = NAME
    messages: list[UiMessage] = Field(min_length=1)
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: str | None = None  # noqa: N815  # the vendor's name
    model: str | None = None
    metadata: dict[str, Any] | None = None


class Question(BaseModel):
    """The user's message, with the checks of the API's own messages."""

    message: Text


def refuse(problem: Problem) -> HttpResponse:
    """A refusal: its whole body becomes the message of the client's error."""
    return HttpResponse(
        problem.detail,
        status=problem.status,
        content_type="text/plain; charset=utf-8",
        headers=problem.headers,
    )


router = Router()


@router.post("/chat")
def chat(request: ApiRequest, body: ChatRequest) -> StreamingHttpResponse:
    asked = next((one for one in reversed(body.messages) if one.role == "user"), None)
    if asked is None:
        raise Problem(422, "invalid_request", "The messages lack one of the user.")
    owner = request.auth.owner
    name = "\n".join([body.id, body.trigger, asked.id, body.messageId or ""])
    digest = sha256(name.encode()).hexdigest()
    key = IdempotencyKey(owner=owner, route="POST /api/chat", key=digest, digest=digest)
    conversation = _conversation(owner, body.id)
    if body.trigger == "regenerate-message" and conversation:
        queued = ask.retry(_last_run(conversation), when_busy="interrupt", key=key)
    else:
        text = Question(message=asked.text()).message
        try:
            queued = _ask(owner, conversation, body, asked, text, key)
        except IntegrityError:  # another request has begun the conversation meanwhile
            queued = _ask(owner, _conversation(owner, body.id), body, asked, text, key)
    return _stream(request, queued.run)


def _ask(
    owner: str,
    conversation: Conversation | None,
    body: ChatRequest,
    asked: UiMessage,
    text: str,
    key: IdempotencyKey,
) -> ask.QueuedRun:
    if conversation:
        return ask.ask(
            conversation,
            text,
            when_busy="interrupt",
            key=key,
            client_id=asked.id,
            metadata=body.metadata,
        )
    earlier = tuple(
        EarlierMessage(role=one.role, text=one.text(), client_id=one.id)
        for one in body.messages[: body.messages.index(asked)]
    )
    return ask.begin(
        owner=owner,
        text=text,
        model=body.model if body.model and kind_of(body.model) else None,
        metadata=body.metadata,
        key=key,
        origin=Origin(dialect=DIALECT, client_id=body.id, earlier=earlier),
        client_id=asked.id,
    )


@router.get("/chat/{name}/stream")
def resume(
    request: ApiRequest,
    name: str,
    startIndex: int = 0,  # noqa: N803  # the name in the query
) -> HttpResponse | StreamingHttpResponse:
    run = _run(request.auth.owner, name) or _newest(request.auth.owner, name)
    if run is None:
        return HttpResponse(status=204)
    return _stream(request, run.id, again=startIndex > 0)


@router.post("/chat/{name}/stop")
def stop(request: ApiRequest, name: str) -> HttpResponse:
    conversation = _conversation(request.auth.owner, name)
    if conversation is None:
        raise not_found()
    for run in conversation.runs.filter(status__in=Run.ACTIVE):
        finish.cancel(run.id)
    return HttpResponse(status=204)


@router.get("/chat/{name}/messages")
def messages(request: ApiRequest, name: str) -> list[dict[str, Any]]:
    conversation = _conversation(request.auth.owner, name)
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


def _conversation(owner: str, name: str) -> Conversation | None:
    """The owner's conversation of this name, or with this id."""
    if found := named(owner, DIALECT, name):
        return found
    try:
        return Conversation.objects.filter(pk=parse_uuid(name), owner=owner).first()
    except NotCanonical:
        return None


def _last_run(conversation: Conversation) -> Run:
    run = conversation.runs.order_by("-message__turn", "-created_at").first()
    if run is None:
        raise not_found()
    return run


def _run(owner: str, name: str) -> Run | None:
    """The owner's run with this id: what a `WorkflowChatTransport` asks for."""
    try:
        return Run.objects.filter(pk=parse_uuid(name), conversation__owner=owner).first()
    except NotCanonical:
        return None


def _newest(owner: str, name: str) -> Run | None:
    """The newest turn's run, if it is active or ended within LOG_TTL."""
    conversation = _conversation(owner, name)
    if conversation is None:
        return None
    recent = Q(ended_at=None) | Q(ended_at__gt=from_now(-settings.LOG_TTL))
    return conversation.runs.filter(recent).order_by("-message__turn", "-created_at").first()


def _stream(request: ApiRequest, run: UUID, *, again: bool = False) -> StreamingHttpResponse:
    wire = UiMessageWire(resets=True, again=again)
    headers = {**V1, "x-workflow-run-id": str(run)}
    return stream_run(request, wire, request.auth, reply_state(run), headers=headers)


api = DialectApi(DIALECT, prefix="/api/", refuse=refuse)
api.add_router("", router)
