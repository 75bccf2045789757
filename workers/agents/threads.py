"""Daemon threads for the synchronous code of agents, one for each call.

So the run and the process can end even if a call blocks for ever, and no call delays another. Each
call closes the database connections that it opened, because its thread ends with the call.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

from django.db import connections

from workers.agents.turn import CURRENT

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """Runs each call in its own daemon thread, and counts it as work of the turn that submits it.

    With `serial`, one call runs at a time, as asgiref's thread-sensitive code requires. The base
    class is there only because asyncio accepts no other default executor of a loop. The threads of
    the base class are not used.
    """

    def __init__(self, *, serial: bool = False) -> None:
        super().__init__()
        self._one_at_a_time: AbstractContextManager[object] = (
            threading.Lock() if serial else nullcontext()
        )

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        turn = CURRENT.get()
        control = turn.control if turn else None
        result: Future[T] = Future()

        def run() -> None:
            try:
                with self._one_at_a_time:
                    _settle(result, call, args, kwargs)
            finally:
                connections.close_all()
                if control:
                    control.end_work()

        if control:
            control.begin_work()
        name = f"run {turn.run}" if turn else "agents"
        threading.Thread(target=run, name=name, daemon=True).start()
        return result


def _settle(result: Future[Any], call: Callable[..., Any], args: Any, kwargs: Any) -> None:
    if not result.set_running_or_notify_cancel():
        return
    try:
        value = call(*args, **kwargs)
    except BaseException as error:  # as ThreadPoolExecutor does: the caller gets it
        result.set_exception(error)
    else:
        result.set_result(value)
