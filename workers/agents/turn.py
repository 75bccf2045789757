"""The turn that an agent answers, and the state that the engine and the agent share meanwhile."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model

from streams.access.owners import OwnerKind, parse_owner
from streams.log.errors import Superseded
from workers.prompt.messages import PromptMessage, as_dicts

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


async def _confirmed() -> None:
    """Return at once, because there is no log to wait for."""


class Control:
    """The engine's side of one turn. An agent does not use it.

    `confirm` waits until the log has confirmed every piece that the attempt has taken.
    `called` stores that a tool which must not be called twice is about to be called. It returns
    False if another attempt has the run now. It is synchronous and is called in a thread, because
    tools begin both on the event loop and in threads. `draining` says whether the process ends
    soon.
    """

    def __init__(
        self,
        called: Callable[[], bool] = lambda: True,
        confirm: Callable[[], Awaitable[None]] = _confirmed,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self.called = called
        self.confirm = confirm
        self.draining = draining
        self.over = False  # the agent's further output is ignored
        self.returned = threading.Event()  # the agent has returned, and so have all its threads
        self.task: asyncio.Task[None] | None = None
        self.superseded: Callable[[], None] = lambda: None  # ends the reply; from any thread
        # Ends the reply as `agent_error`; on the loop.
        self.failed: Callable[[], None] = lambda: None
        # Waits until the log has confirmed what the agent has yielded. Raises `Superseded`.
        self.said: Callable[[], Awaitable[None]] = _confirmed
        self.tools = 0  # tools that a framework is running, also hidden ones
        self.storing = 0  # calls of `called` that have not returned yet
        self._lock = threading.Lock()
        self._working = 0
        self._stored = False

    def begin_work(self) -> None:
        """Count a task or thread of the agent that begins."""
        with self._lock:
            self._working += 1
            self.returned.clear()

    def end_work(self) -> None:
        """Count a task or thread of the agent that has ended."""
        with self._lock:
            self._working -= 1
            if not self._working:
                self.returned.set()

    def store_call(self) -> None:
        """Store, once, that a tool is about to be called. It may block, so not on the event loop.

        Raises `Superseded` if the attempt has lost its run; then the tool must not be called.
        """
        if self._stored:
            return
        with self._lock:
            self.storing += 1
        try:
            self._stored = not self.over and self.called()
        finally:
            with self._lock:
                self.storing -= 1
        if not self._stored:
            self.superseded()
            raise Superseded

    async def begin_call(self) -> None:
        """Wait until the log has confirmed the call, then store that it is about to be made.

        So the stored reply contains the call, however the run ends. Raises `Superseded` if the tool
        must not be called.
        """
        await self.said()
        if not self._stored:
            await sync_to_async(self.store_call, thread_sensitive=False)()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """One question for an agent, in one attempt at its run.

    `owner` is `user:<id>`, `visitor:<uuid>` or `external:<id>`. `model` is the agent's name in the
    request. `history` holds the messages before the question, the oldest first; each of its tool
    calls has its result. `metadata` is the JSON object that came with the request.
    """

    run: UUID
    attempt: int
    conversation: UUID
    owner: str
    model: str
    question: str
    history: tuple[PromptMessage, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    control: Control = field(default_factory=Control, repr=False)

    def messages(self, *, tools: bool = True) -> list[dict[str, Any]]:
        """The history and the question, in OpenAI's form, which LangChain accepts too.

        With `tools=False` it contains text only, because some providers refuse tool messages in a
        request that offers no tools.
        """
        return as_dicts((*self.history, PromptMessage("user", self.question)), tools=tools)

    async def user(self) -> "AbstractBaseUser | None":
        """The Django user who asked. None for a visitor, or if the user is gone or inactive."""
        owner = parse_owner(self.owner)
        if owner.kind is not OwnerKind.USER:
            return None
        users = get_user_model()._default_manager
        return await users.filter(pk=owner.name, is_active=True).afirst()

    def alive(self) -> bool:
        """Whether the reply is still wanted; False once it was stopped. Works in any thread."""
        return not self.control.over

    @property
    def draining(self) -> bool:
        """Whether this process ends soon. If so, the agent should begin nothing long."""
        return self.control.draining()


CURRENT: ContextVar[Turn | None] = ContextVar("turn", default=None)


def current_turn() -> Turn:
    """The turn that is being answered, for code that is not given it, such as a tool.

    Works in the agent, in its tasks, and in the threads of its synchronous tools. Raises
    `LookupError` outside of an agent.
    """
    turn = CURRENT.get()
    if turn is None:
        raise LookupError("no agent is running here")
    return turn
