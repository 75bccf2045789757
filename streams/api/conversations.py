"""The API's views for conversations: begin, list, read, rename, delete, ask."""

from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpResponse
from django.urls import reverse
from ninja import Router, Status

from streams.access.authorization import readable_conversation
from streams.api.authentication import ApiRequest
from streams.api.idempotency import KeyHeader, accepted_response, idempotency_key
from streams.api.openapi import READ, START, WRITE
from streams.api.schemas import (
    Accepted,
    Ask,
    Before,
    Begin,
    ConversationItem,
    ConversationList,
    Messages,
    PageCursor,
    Rename,
    Search,
)
from streams.chat.ask import ask as ask_in_conversation
from streams.chat.ask import begin as begin_conversation
from streams.chat.conversations import delete as delete_conversation
from streams.chat.conversations import list_newest
from streams.chat.conversations import rename as rename_conversation
from streams.chat.run_status import RunStatus
from streams.chat.snapshot import message_page, snapshot
from streams.models import Conversation
from streams.protocol.events import Snapshot
from streams.protocol.sse import encode

router = Router(tags=["conversations"])
STARTED = {202: Accepted, 200: RunStatus}  # 200: the run ended within `Prefer: wait`


@router.post("/", response=STARTED, summary="Begin a conversation", openapi_extra=START)
def begin(request: ApiRequest, body: Begin, key: KeyHeader = None) -> HttpResponse:
    queued = begin_conversation(
        owner=request.auth.owner,
        text=body.message,
        system=body.system if body.system and body.system.strip() else None,
        model=body.model,
        title=body.title if body.title and body.title.strip() else None,
        metadata=body.metadata,
        key=idempotency_key(request, body, key),
    )
    return accepted_response(queued)


@router.get(
    "/",
    response=ConversationList,
    url_name="conversations",
    summary="Your conversations",
    openapi_extra=READ,
)
def conversations(
    request: ApiRequest,
    cursor: PageCursor = "",
    search: Search = "",
) -> dict[str, object]:
    items, next_cursor = list_newest(request.auth.owner, after=cursor, search=search)
    query = {"cursor": next_cursor or ""} | ({"search": search} if search else {})
    url = f"{reverse('unspool:conversations')}?{urlencode(query)}" if next_cursor else None
    return {"items": items, "next": url}


@router.get(
    "/{uuid:conversation}/",
    response=Snapshot,
    url_name="conversation",
    summary="A conversation as it is now",
    openapi_extra=READ,
)
def conversation(request: ApiRequest, conversation: UUID) -> HttpResponse:
    body = encode(snapshot(readable_conversation(request.auth, conversation)))
    return HttpResponse(body, content_type="application/json")


@router.patch(
    "/{uuid:conversation}/",
    response=ConversationItem,
    summary="Rename a conversation",
    openapi_extra=WRITE,
)
def rename(request: ApiRequest, conversation: UUID, body: Rename) -> Conversation:
    renamed = readable_conversation(request.auth, conversation)
    rename_conversation(renamed, body.title)
    return renamed


@router.delete(
    "/{uuid:conversation}/",
    response={204: None},
    summary="Delete a conversation for good",
    openapi_extra=READ,
)
def delete(request: ApiRequest, conversation: UUID) -> Status[None]:
    delete_conversation(readable_conversation(request.auth, conversation))
    return Status(204, None)


@router.get(
    "/{uuid:conversation}/messages/",
    response=Messages,
    url_name="messages",
    summary="The latest messages, or those before a given one",
    openapi_extra=READ,
)
def messages(request: ApiRequest, conversation: UUID, before: Before = None) -> Messages:
    found = readable_conversation(request.auth, conversation)
    before_message = found.messages.get(pk=before) if before else None
    page, earlier = message_page(found, before=before_message)
    return Messages(messages=list(page), earlier=earlier)


@router.post(
    "/{uuid:conversation}/messages/",
    response=STARTED,
    summary="Send a message",
    openapi_extra=START,
)
def ask(request: ApiRequest, conversation: UUID, body: Ask, key: KeyHeader = None) -> HttpResponse:
    queued = ask_in_conversation(
        readable_conversation(request.auth, conversation),
        body.message,
        when_busy=body.when_busy,
        metadata=body.metadata,
        key=idempotency_key(request, body, key),
    )
    return accepted_response(queued)
