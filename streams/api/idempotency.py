"""Idempotent POST requests: reads `Idempotency-Key`, and marks responses to repeated requests."""

import re
from hashlib import sha256
from typing import Annotated

from django.http import HttpResponse
from django.urls import reverse
from ninja import Header
from pydantic import BaseModel, WithJsonSchema

from streams.api.authentication import ApiRequest
from streams.api.json import dump_json
from streams.api.schemas import Accepted
from streams.chat.ask import QueuedRun
from streams.chat.idempotency import IdempotencyKey
from streams.chat.run_status import RunStatus
from streams.http.problems import Problem

PATTERN = "^[!-~]{1,255}$"
# The pattern is documentation. `idempotency_key` checks it, because its problem has its own code.
KeyHeader = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "pattern": PATTERN}),
    Header(  # Ninja only finds it in the last place
        None,
        alias="Idempotency-Key",
        description="A repeated key and body get the first answer again, for 24 hours.",
    ),
]


def idempotency_key(request: ApiRequest, body: BaseModel, key: str | None) -> IdempotencyKey | None:
    """The identity of a request with this `Idempotency-Key`; None without the header.

    Raises `Problem` if the header is malformed.
    """
    if key is None:
        return None
    if not re.fullmatch(PATTERN, key):
        detail = "An Idempotency-Key has 1 to 255 visible ASCII characters."
        raise Problem(400, "bad_idempotency_key", detail)
    digest = sha256(dump_json(body.model_dump())).hexdigest()
    route = f"{request.method} {request.path}"
    return IdempotencyKey(owner=request.auth.owner, route=route, key=key, digest=digest)


def accepted_response(queued: QueuedRun) -> HttpResponse:
    """The 202 for a queued run, with the conversation's URL as its `Location`."""
    names = {"conversation": queued.conversation}
    events = reverse("unspool:events", kwargs=names)
    body = Accepted(
        conversation=queued.conversation,
        message=queued.message,
        run=queued.run,
        status="queued",
        cursor=queued.cursor,
        events=events if queued.cursor is None else f"{events}?lastEventId={queued.cursor}",
    )
    response = answer(202, body, repeated=queued.repeated)
    response.headers["Location"] = reverse("unspool:conversation", kwargs=names)
    return response


def answer(status: int, body: Accepted | RunStatus, *, repeated: bool) -> HttpResponse:
    """The response to a POST, which says whether the request was `repeated`."""
    headers = {"Idempotency-Replayed": "true"} if repeated else {}
    return HttpResponse(
        dump_json(body), status=status, content_type="application/json", headers=headers
    )
