"""The routes of LangGraph's server for threads, and the API with all routes that its SDKs call.

POST /threads                         reserves a thread's id
GET  /threads/<t>                     the thread; /state its state, POST /history a list with it
POST /threads/<t>/runs                asks; /runs/stream streams the reply, /runs/wait awaits it
GET  /threads/<t>/runs/<r>            the run; /stream its stream, /join the state after it
POST /threads/<t>/runs/<r>/cancel     stops it
POST /runs, /runs/stream, /runs/wait  ask in a hidden thread of their own
"""

from uuid import uuid4

from ninja import Router

from streams.api.authentication import ApiRequest
from streams.dialects.http import DialectApi
from streams.dialects.langgraph_http import ApiKeyAuthentication, documented
from streams.dialects.langgraph_messages import Json
from streams.dialects.langgraph_request import HistoryRequest, ThreadRequest
from streams.dialects.langgraph_runs_api import router as runs
from streams.dialects.langgraph_threads import (
    DIALECT,
    find,
    found,
    reserve,
    state_json,
    thread_json,
)
from streams.http.problems import Problem
from streams.http.refusals import detail_refusal

router = Router(tags=["LangGraph"])


@router.post("/threads", summary="Reserve a thread's id", openapi_extra=documented("The thread"))
def create_thread(request: ApiRequest, body: ThreadRequest) -> Json:
    body.check()
    owner, name = request.auth.owner, body.thread_id or str(uuid4())
    if thread := find(owner, name):
        if body.if_exists == "raise":
            raise Problem(409, "thread_exists", "You have a thread of this id.")
        return thread_json(thread)
    return thread_json(reserve(owner, name))


@router.get("/threads/{thread}", summary="A thread", openapi_extra=documented("The thread"))
def get_thread(request: ApiRequest, thread: str) -> Json:
    return thread_json(found(request.auth.owner, thread))


@router.get(
    "/threads/{thread}/state", summary="A thread's state", openapi_extra=documented("The state")
)
def get_thread_state(request: ApiRequest, thread: str) -> Json:
    return state_json(found(request.auth.owner, thread))


@router.post(
    "/threads/{thread}/history",
    summary="A list of a thread's state",
    openapi_extra=documented("The present state alone"),
)
def get_thread_history(request: ApiRequest, thread: str, body: HistoryRequest) -> list[Json]:
    state = state_json(found(request.auth.owner, thread))
    is_old = body.before or (body.checkpoint or {}).get("checkpoint_ns")
    return [state][: body.limit] if state["checkpoint"] and not is_old else []


api = DialectApi(DIALECT, prefix="/", refuse=detail_refusal, authentication=ApiKeyAuthentication())
api.add_router("", router)
api.add_router("", runs)
