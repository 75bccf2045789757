"""Requests that their sender may repeat: `Idempotency-Key`, and the first answer given again."""

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
    """The key under which the request may be repeated, if it brings one. Raises `Problem`."""
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
    """The answer to a request that may be repeated, the first time and every time."""
    headers = {}
    if status == 202:
        where = {"conversation": body["conversation"]}
        headers["Location"] = reverse("unspool:conversation", kwargs=where)
    return HttpResponse(
        dump_json(body), status=status, content_type="application/json", headers=headers
    )


def repeated(status: int, body: dict[str, Any]) -> HttpResponse:
    """`answer`, to a request that was answered before."""
    again = answer(status, body)
    again.headers["Idempotency-Replayed"] = "true"
    return again


def status_response(report: RunStatus, once: IdempotencyKey | None) -> HttpResponse:
    """The report as an answer; that it was given is kept. Raises `Answered`, `KeyReused`.

    Its words are not, for they go with the conversation: a run that has ended stays as it is, and
    is reported anew. A live one's report is yet to change, and is not kept at all.
    """
    if once and report.status not in Run.ACTIVE:
        try:
            with transaction.atomic():
                keep(once, 200, {})
        except IntegrityError:
            recall(once)  # an equal request was first
            raise
    return answer(200, asdict(report))
