"""Where a process gets its replies: from a language model (here) or `workers.agent_replies`."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from streams.models import Run
from workers.generators.base import generate
from workers.prompt.messages import PromptMessage
from workers.reply_items import ReplyItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply to read. Close `items` with `aclosing`.

    `has_returned` waits for at most this many seconds, and returns whether all code of the reply
    has returned. Some code may still run after a stop, for example a tool that blocks its thread.
    """

    items: AsyncGenerator[ReplyItem, None]
    has_returned: Callable[[float], bool]


class ReplySource(Protocol):
    """Begins replies. The model or the agent is not asked before the first item is read.

    `confirm` waits until the log has confirmed every item that was read; only the task that reads
    the items calls it. `called` stores that a tool which must not be called twice is about to be
    called; if it returns False, the tool must not be called. `draining` says whether the process
    ends soon.
    """

    def __call__(
        self,
        run: Run,
        prompt: list[PromptMessage],
        *,
        confirm: Callable[[], Awaitable[None]],
        called: Callable[[], bool],
        draining: Callable[[], bool],
    ) -> Reply: ...


def model_reply(
    run: Run,
    prompt: list[PromptMessage],
    *,
    confirm: Callable[[], Awaitable[None]],
    called: Callable[[], bool],
    draining: Callable[[], bool],
) -> Reply:
    """Begin the reply of a language model. It calls no tools."""
    return Reply(items=generate(prompt, model=run.model), has_returned=lambda _: True)
