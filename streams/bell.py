"""The doorbell: telling the workers, through Celery, that there is something to do.

It carries an id and nothing else. A ring that is lost is rung again (`streams.sweep`); one that
comes twice finds the run taken.
"""

import logging
from uuid import UUID

from celery import current_app

from streams.publish import the_log
from streams.records import current
from streams.servers import rings_server, urls
from streams.traces import carried

logger = logging.getLogger(__name__)
TASK = "workers.tasks.generate"


def ring(run: UUID) -> None:
    """Ask for a worker. Never raises: the run's row is what counts."""
    try:
        server = rings_server()
        if server is not None and len(urls()) > 1:
            the_log().ask(server, "PING")  # where it is away, kombu would take seconds to say so
        headers = {"asked_by": current(), **carried(run)}
        current_app.send_task(TASK, [str(run)], headers=headers, ignore_result=True, retry=False)
    except Exception as error:  # every broker has its own
        logger.warning("run %s not rung: %s", run, type(error).__name__)
