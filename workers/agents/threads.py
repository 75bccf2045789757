"""Daemon threads for the synchronous code of agents, one for each call.

A call that blocks for ever keeps neither its run nor the process from ending, and delays no other
call. Each call closes the database connections that it opened, because its thread ends with it.
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
    """Runs each call in a daemon thread of its own, counted as work of the turn that submits it.

    `serial`: one call at a time, as code that asgiref calls thread-sensitive expects. asyncio takes
    a subclass of ThreadPoolExecutor alone as a loop's own executor; none of its threads is used.
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
