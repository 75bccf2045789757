"""The routes of LangGraph's server for runs: to ask, to follow, to wait, to stop."""

from typing import Annotated
from urllib.parse import urlencode

from django.http import HttpResponse
from ninja import Query, Router

from streams.api.authentication import ApiRequest
from streams.api.json import dump_json
from streams.chat import finish
from streams.chat.reply_state import ReplyState, reply_state
from streams.chat.waiting_reader import keep
from streams.dialects.http import Answer, check_stream, stream_run
from streams.dialects.langgraph import MODES, LangGraphWire
from streams.dialects.langgraph_ask import run_in_hidden_thread, run_in_thread
from streams.dialects.langgraph_http import documented, position_of
from streams.dialects.langgraph_messages import Json
from streams.dialects.langgraph_request import RunRequest, checked_modes, invalid
from streams.dialects.langgraph_threads import found, name_of, run_json, thread_before, values_of
from streams.dialects.position import Position
from streams.dialects.waiting import stream_waiting, wait_for_reply
from streams.http.problems import not_found
from streams.http.refusals import detail_refusal
from streams.models import Run
from streams.protocol.ids import uuid_of

YES = ("1", "true", "yes")
STREAM = documented("The run, in the frames of these modes", "text/event-stream")
RUN, STATE = documented("The run"), documented("The thread's state, when the run has ended")
router = Router(tags=["LangGraph"])


@router.post("/threads/{thread}/runs", summary="Ask in a thread", openapi_extra=RUN)
def create_run(request: ApiRequest, thread: str, body: RunRequest) -> HttpResponse:
    return _created(_asked(request, thread, body))


@router.post("/threads/{thread}/runs/stream", summary="Ask, and stream", openapi_extra=STREAM)
def create_run_stream(request: ApiRequest, thread: str, body: RunRequest) -> Answer:
    return _asked_stream(request, thread, body)


@router.post("/threads/{thread}/runs/wait", summary="Ask, and wait", openapi_extra=STATE)
def create_run_wait(request: ApiRequest, thread: str, body: RunRequest) -> HttpResponse:
    return _asked_wait(request, thread, body)


@router.post("/runs", summary="Ask in a hidden thread", openapi_extra=RUN)
def create_hidden_run(request: ApiRequest, body: RunRequest) -> HttpResponse:
    return _created(_asked(request, None, body))


@router.post("/runs/stream", summary="Ask in a hidden thread, and stream", openapi_extra=STREAM)
def create_hidden_run_stream(request: ApiRequest, body: RunRequest) -> Answer:
    return _asked_stream(request, None, body)


@router.post("/runs/wait", summary="Ask in a hidden thread, and wait", openapi_extra=STATE)
def create_hidden_run_wait(request: ApiRequest, body: RunRequest) -> HttpResponse:
    return _asked_wait(request, None, body)


@router.get("/threads/{thread}/runs/{run}", summary="A thread's run", openapi_extra=RUN)
def get_thread_run(request: ApiRequest, thread: str, run: str) -> Json:
    return run_json(_run(request, thread, run))


@router.get("/threads/{thread}/runs/{run}/stream", summary="A run's stream", openapi_extra=STREAM)
def join_run_stream(
    request: ApiRequest,
    thread: str,
    run: str,
    stream_mode: Annotated[list[str], Query([])],
    cancel_on_disconnect: str = "0",
) -> Answer:
    joined = _run(request, thread, run)
    modes = checked_modes([mode for mode in stream_mode if mode]) or MODES
    after, cancels = position_of(request), cancel_on_disconnect.lower() in YES
    return _stream(request, joined, modes, after=after, cancels=cancels)


@router.get("/threads/{thread}/runs/{run}/join", summary="Wait for a run", openapi_extra=STATE)
def join_run(
    request: ApiRequest, thread: str, run: str, cancel_on_disconnect: str = "0"
) -> HttpResponse:
    joined = _run(request, thread, run)
    cancels = cancel_on_disconnect.lower() in YES
    if not cancels:
        keep(joined)
    return wait_for_reply(request, joined.id, _values, detail_refusal, bound=cancels)


@router.post(
    "/threads/{thread}/runs/{run}/cancel",
    response={204: None},
    summary="Stop a thread's run",
    openapi_extra=documented(None),
)
def cancel_thread_run(
    request: ApiRequest, thread: str, run: str, wait: str = "0", action: str = "interrupt"
) -> HttpResponse:
    cancelled = _run(request, thread, run)
    if action != "interrupt":
        raise invalid("`action` is interrupt: no run is rolled back.")
    finish.cancel(cancelled.id)
    done = HttpResponse(status=204)
    if wait.lower() in YES:
        return wait_for_reply(request, cancelled.id, lambda _: done, detail_refusal, bound=False)
    return done


def _run(request: ApiRequest, thread: str, run: str) -> Run:
    """The thread's run. Raises `Problem` or `DoesNotExist`, also for a run of another owner."""
    conversation = found(request.auth.owner, thread).conversation
    id = uuid_of(run)
    if conversation is None or id is None:
        raise not_found()
    return conversation.runs.select_related("conversation", "message").get(pk=id)


def _asked(request: ApiRequest, thread: str | None, body: RunRequest) -> Run:
    owner = request.auth.owner
    if thread is None:
        run = run_in_hidden_thread(owner, body)
    else:
        run = run_in_thread(owner, thread, body)
    return Run.objects.select_related("conversation", "message").get(pk=run)


def _asked_stream(request: ApiRequest, thread: str | None, body: RunRequest) -> Answer:
    check_stream(request)  # before anything is stored
    run = _asked(request, thread, body)
    return _stream(request, run, body.modes, cancels=body.on_disconnect == "cancel")


def _asked_wait(request: ApiRequest, thread: str | None, body: RunRequest) -> HttpResponse:
    run = _asked(request, thread, body)
    bound = body.on_disconnect == "cancel"
    return wait_for_reply(request, run.id, _values, detail_refusal, bound=bound)


def _created(run: Run) -> HttpResponse:
    return _json(run_json(run), {"Content-Location": _place(run)})


def _stream(
    request: ApiRequest,
    run: Run,
    modes: tuple[str, ...],
    *,
    after: Position | None = None,
    cancels: bool = False,
) -> Answer:
    """The run's stream. With `cancels`, the run ends if the client leaves.

    The SDKs reconnect to `Location`. They add the API's prefix to it, and send no body again.
    """
    query = [("stream_mode", mode) for mode in modes] + [("cancel_on_disconnect", "1")] * cancels
    place = _place(run)
    headers = {"Location": f"{place}/stream?{urlencode(query)}", "Content-Location": place}

    def wire_of(run: Run) -> LangGraphWire:
        return LangGraphWire(run, thread_before(run), modes=modes, after=after)

    if cancels:
        return stream_waiting(request, wire_of, run.id, headers=headers)
    keep(run)
    state = reply_state(run.id)
    return stream_run(request, wire_of(state.run), state, headers=headers)


def _values(state: ReplyState) -> HttpResponse:
    place = _place(state.run)
    headers = {"Location": f"{place}/join", "Content-Location": place}
    return _json(values_of(state.run), headers)


def _place(run: Run) -> str:
    return f"/threads/{name_of(run.conversation)}/runs/{run.id}"


def _json(body: Json, headers: dict[str, str]) -> HttpResponse:
    return HttpResponse(dump_json(body), content_type="application/json", headers=headers)
