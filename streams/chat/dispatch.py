"""The doorbell: telling the workers, through Celery, that there is something to do.

It carries an id and nothing else. A ring that is lost is rung again (`streams.chat.sweep`); one
that comes twice finds the run taken.
"""

import logging
from uuid import UUID

from celery import current_app

from streams.log.event_log import the_log
from streams.log.sharding import broker_server, server_urls
from streams.observability.request_id import current
from streams.observability.tracing import inject_headers

logger = logging.getLogger(__name__)
TASK = "workers.tasks.generate"


def dispatch(run: UUID) -> None:
    """Ask for a worker. Never raises: the run's row is what counts."""
    try:
        server = broker_server()
        if server is not None and len(server_urls()) > 1:
            the_log().ask_server(
                server, "PING"
            )  # where it is away, kombu would take seconds to say so
        headers = {"asked_by": current(), **inject_headers(run)}
        current_app.send_task(TASK, [str(run)], headers=headers, ignore_result=True, retry=False)
    except Exception as error:  # every broker has its own
        logger.warning("run %s not rung: %s", run, type(error).__name__)
