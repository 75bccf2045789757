"""Idempotent POST requests: reads `Idempotency-Key`, and returns the first answer again."""

import re
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from django.urls import reverse
from pydantic import BaseModel

from streams.api.authentication import ApiRequest
from streams.api.json import dump_json
from streams.chat.idempotency import IdempotencyKey, keep, recall
from streams.chat.run_status import RunStatus
from streams.http.problems import Problem
from streams.models import Run

KEY = "^[!-~]{1,255}$"


def idempotency_key(request: ApiRequest, body: BaseModel) -> IdempotencyKey | None:
    """The request's idempotency key, or None without the header.

    Raises `Problem` if the header is malformed.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not re.fullmatch(KEY, key):
        detail = "An Idempotency-Key has 1 to 255 visible ASCII characters."
        raise Problem(400, "bad_idempotency_key", detail)
    digest = sha256(dump_json(body.model_dump())).hexdigest()
    route = f"{request.method} {request.path}"
    return IdempotencyKey(owner=request.auth.owner, route=route, key=key, digest=digest)


def answer(status: int, body: dict[str, Any]) -> HttpResponse:
    """The response with this body; a 202 also gets the conversation's URL as its `Location`."""
    headers = {}
    if status == 202:
        kwargs = {"conversation": body["conversation"]}
        headers["Location"] = reverse("unspool:conversation", kwargs=kwargs)
    return HttpResponse(
        dump_json(body), status=status, content_type="application/json", headers=headers
    )


def repeated(status: int, body: dict[str, Any]) -> HttpResponse:
    """The same response as `answer`, marked with `Idempotency-Replayed: true`."""
    response = answer(status, body)
    response.headers["Idempotency-Replayed"] = "true"
    return response


def status_response(status: RunStatus, key: IdempotencyKey | None) -> HttpResponse:
    """The response with the run's status. Raises `Answered`, `KeyReused`, `TooManyRepeats`.

    For a run that has ended, the key is stored as used, but without the body. A deleted
    conversation must leave no text, and a repeated request reads the unchanged run again.
    For an active run nothing is stored, because its status will change.
    """
    if key and status.status not in Run.ACTIVE:
        try:
            with transaction.atomic():
                keep(key, 200, {})
        except IntegrityError:
            recall(key)  # a concurrent equal request was first
            raise
    return answer(200, asdict(status))
