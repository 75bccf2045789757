"""The routes of AG-UI: how a `RunAgentInput` becomes a run, and a run becomes a stream."""

from uuid import UUID

from django.db import IntegrityError
from django.http import HttpResponse
from ninja import Router

from streams.api.authentication import ApiRequest
from streams.chat import ask
from streams.chat.origin import ClientNames, Origin, client_ids
from streams.chat.reply_state import reply_state
from streams.chat.snapshot import message_page
from streams.dialects.ag_ui import AgUiWire, nothing
from streams.dialects.ag_ui_messages import Thread, thread_of
from streams.dialects.ag_ui_request import AgUiRequest
from streams.dialects.documentation import BODY, documented
from streams.dialects.history import (
    contradiction,
    conversation_named,
    earlier,
    newest_run,
    place_of,
    stop_runs,
)
from streams.dialects.http import Answer, DialectApi, check_stream, stream_run
from streams.http.event_stream import HEADERS
from streams.http.refusals import text_refusal
from streams.models import Conversation, Run
from streams.protocol.ids import uuid_of

DIALECT = AgUiWire.dialect
PAGES = 4  # pages of messages at most, in a snapshot of the thread
STREAM = {200: "The run, as events of AG-UI", 505: "A stream was asked for over HTTP/1.0"}
router = Router(tags=[DIALECT])


@router.post("/ag-ui", openapi_extra=documented(BODY, STREAM))
def run_agent(request: ApiRequest, body: AgUiRequest) -> Answer:
    owner = request.auth.owner
    check_stream(request)  # before anything is stored
    try:
        run, is_new = _run_of(owner, body)
    except IntegrityError:  # an equal request was committed first
        run, is_new = _run_of(owner, body)
    return _stream(request, body, run, name=body.runId, is_new=is_new)


@router.post("/ag-ui/connect", openapi_extra=documented(BODY, STREAM))
def connect_agent(request: ApiRequest, body: AgUiRequest) -> Answer:
    conversation = conversation_named(request.auth.owner, DIALECT, body.threadId)
    run = newest_run(conversation) if conversation else None
    if run is None:
        frames = nothing((body.threadId, body.runId))
        return HttpResponse(frames, content_type="text/event-stream", headers=HEADERS)
    return _stream(request, body, run.id, name=run.client_id or str(run.id))


@router.post("/ag-ui/stop/{path:thread}", response={204: None}, openapi_extra=documented(BODY))
def stop_agent(request: ApiRequest, thread: str) -> HttpResponse:
    stop_runs(request.auth.owner, DIALECT, thread)
    return HttpResponse(status=204)


def _run_of(owner: str, body: AgUiRequest) -> tuple[UUID, bool]:
    """The run that answers, and whether it is new. A repeated `runId` gives the same run."""
    conversation = conversation_named(owner, DIALECT, body.threadId)
    if conversation and (run := _run(conversation, body.runId)):
        body.check_same(run)
        return run.id, False
    return _queued(owner, conversation, body).run, True


def _run(conversation: Conversation, name: str) -> Run | None:
    """The conversation's run with this name or id; None if there is none."""
    runs = conversation.runs.select_related("message")
    if found := runs.filter(client_id=name).first():
        return found
    id = uuid_of(name)
    return runs.filter(pk=id).first() if id else None


def _queued(owner: str, conversation: Conversation | None, body: AgUiRequest) -> ask.QueuedRun:
    text = body.check()
    names = ClientNames(message=body.history[-1].id, run=body.runId)
    if conversation is None:
        body.check_last()
        before = earlier(body.history[:-1])
        return ask.begin(
            owner=owner,
            text=text,
            model=body.model,
            metadata=body.metadata,
            origin=Origin(dialect=DIALECT, client_id=body.threadId, earlier=before),
            names=names,
        )
    if body.model and body.model != conversation.model:
        raise contradiction(f"This thread was begun with {conversation.model}.")
    place = place_of(body.history, conversation)
    if place.stored is None:
        body.check_last()
        return ask.ask(
            conversation,
            text,
            when_busy="interrupt",
            metadata=body.metadata,
            names=names,
            earlier=place.earlier,
        )
    newest = newest_run(conversation)
    if newest is None or newest.message_id != place.stored.id:
        raise contradiction("This message was never answered.")
    return ask.retry(newest, when_busy="interrupt", names=names)


def _stream(
    request: ApiRequest, body: AgUiRequest, run: UUID, *, name: str, is_new: bool = False
) -> Answer:
    """The run's stream. A new run's stream lacks the thread if the client has all its messages."""
    state = reply_state(run)
    had, thread = body.had, None
    # The reply of an interrupted run may not be stored yet. Then the thread is left out, so that
    # the client keeps its copy of that reply.
    others = Run.active().filter(conversation=state.run.conversation).exclude(pk=run)
    if not (is_new and others.exists()):
        thread = _thread(state.run)
    no_snapshot = is_new and (thread is None or body.shows(thread.with_reply([])))
    wire = AgUiWire(
        names=(body.threadId, name),
        model=state.run.model,
        thread=thread,
        had=None if no_snapshot else had,
    )
    return stream_run(request, wire, state)


def _thread(run: Run) -> Thread:
    """The newest messages of the run's thread."""
    conversation = run.conversation
    messages, more = message_page(conversation)
    for _ in range(PAGES - 1):
        if more is None:
            break
        oldest = conversation.messages.get(pk=messages[0].id)
        page, more = message_page(conversation, before=oldest)
        messages = (*page, *messages)
    return thread_of(messages, client_ids(conversation), run.message_id)


api = DialectApi(DIALECT, prefix="/", refuse=text_refusal)
api.add_router("", router)
