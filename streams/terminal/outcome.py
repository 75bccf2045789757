"""How a reply ended, as a person is told it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from streams.events import RunCancelled, RunCompleted, RunFailed
from streams.fold import Reply


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """`reply` is the message that holds `text`; `reason` says why there is not more of it."""

    run: UUID
    reply: UUID | None
    text: str
    whole: bool
    tokens: int | None
    reason: str = ""


def heard(reply: Reply) -> Outcome:
    """The outcome of a reply whose ending was heard."""
    match reply.ending:
        case RunCompleted():
            reason = ""
        case RunCancelled():
            reason = "stopped"
        case RunFailed(reason=why):
            reason = f"failed: {why}"
        case None:
            raise ValueError(f"run {reply.run} goes on")
    return Outcome(
        run=reply.run,
        reply=reply.ending.reply,
        text=reply.text,
        whole=not reason,
        tokens=reply.ending.usage.output_tokens,
        reason=reason,
    )


def reported(run: dict[str, Any]) -> Outcome:
    """The outcome of a run that ended unheard, from `GET /api/runs/<id>/`."""
    words = {"completed": "", "cancelled": "stopped"}
    if run["error"]:
        words["failed"] = f"failed: {run['error']['reason']}"
    return Outcome(
        run=UUID(run["id"]),
        reply=UUID(run["reply"]) if run["reply"] else None,
        text=run["text"],
        whole=run["status"] == "completed",
        tokens=run["usage"]["output_tokens"] if run["usage"] else None,
        reason=words.get(run["status"], run["status"]),
    )
