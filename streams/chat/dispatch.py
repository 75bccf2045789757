"""Dispatch: sending the Celery task that asks a worker to claim a run.

The task carries the run's id and nothing else. The sweep dispatches again if a task is lost
(`streams.chat.sweep`). A duplicate task does nothing, because the run is claimed already.
"""

import logging
from uuid import UUID

from celery import current_app

from streams.chat.model_names import kind_of, queue_of
from streams.log.event_log import the_log
from streams.log.sharding import broker_server, server_urls
from streams.observability.request_id import current
from streams.observability.tracing import inject_headers

logger = logging.getLogger(__name__)
TASK = "workers.tasks.generate"


def dispatch(run: UUID, model: str) -> None:
    """Send a task for the run to the queue of its model or agent.

    Never raises, because the sweep dispatches a run without a task. Sends nothing if the settings
    do not have the name, because no process would claim the run.
    """
    kind = kind_of(model)
    if kind is None:
        logger.warning("run %s not dispatched: no model or agent has its name", run)
        return
    try:
        check_broker()
        headers = {"asked_by": current(), **inject_headers(run)}
        current_app.send_task(
            TASK,
            [str(run)],
            queue=queue_of(kind),
            headers=headers,
            ignore_result=True,
            retry=False,
        )
    except Exception as error:  # each broker raises its own exceptions
        logger.warning("run %s not dispatched: %s", run, type(error).__name__)


def check_broker() -> None:
    """Raise `LogUnavailable` if the broker is one of several Redis servers, and does not answer.

    A call of the log fails at once, but a call of kombu only after seconds.
    """
    server = broker_server()
    if server is not None and len(server_urls()) > 1:
        the_log().ask_server(server, "PING")
