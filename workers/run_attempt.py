"""One attempt at one run: it streams the model's tokens into the log and ends the run.

    claim → run.started → append each piece of the model's reply → final event

An attempt that finds that another one has its run stops, and appends nothing more.
"""

import logging
from contextlib import suppress
from time import monotonic, sleep
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from streams.chat.finish import fail
from streams.chat.publisher import publish_start
from streams.log.errors import LogUnavailable, Superseded
from streams.models import Run
from streams.observability.request_id import adopt_request_id
from streams.observability.tracing import attempt_span, finish_span, task_span
from workers.attempt import Attempt
from workers.generators.errors import ModelError
from workers.lease import claim, claim_in_turn, release, still_held
from workers.log_writer import PAUSE
from workers.outcome import Outcome
from workers.prompt.budget import fit, tokens_of
from workers.prompt.history import history
from workers.prompt.messages import PromptMessage
from workers.runtime import Runtime

logger = logging.getLogger(__name__)
PATIENCE = 5.0  # seconds that a run keeps its place while the log refuses its start


def generate(run_id: UUID, process: Runtime) -> None:
    """Claim the run and write its reply. If it cannot be claimed, try `claim_in_turn` instead.

    Returns when the attempt is over: the run has ended, was released, or is another attempt's.
    """
    worker = process.keeper.worker
    if run := claim(run_id, worker, process.kind):
        _write(run, process)
    # The run has ended, must wait, or another worker holds it (Celery delivers at least once).
    elif instead := claim_in_turn(worker, process.kind):
        adopt_request_id(None)  # the task named another request's run
        with task_span(instead.id, None):
            _write(instead, process)


def _write(run: Run, process: Runtime) -> None:
    attempt = Attempt(run, process)
    with attempt_span(run), process.keeper.hold(run, attempt.stop, attempt.watermark) as hold:
        try:
            attempt.head = _publish_start(run, process)
            turns = fit(history(run), settings.PROMPT_MAX_TOKENS)
            _store_input_tokens(run, turns)
            connection.close()  # a reply that waits for its model holds no connection
            outcome = process.run(attempt.write(turns, hold))
            name = outcome.code if isinstance(outcome, ModelError) else outcome
            with finish_span(name, attempt.chunks):
                _finish(attempt, outcome, process)
        except Superseded:
            with suppress(Superseded, LogUnavailable):  # another process or the sweep ends it
                attempt.resign()
        except LogUnavailable:
            release(run, head=attempt.head, redispatch=process.draining)
        except (OperationalError, InterfaceError):
            # The database is away. The lease expires, and then another worker claims the run.
            logger.exception("run %s attempt %s", run.id, run.attempt)
        except Exception:
            logger.exception("run %s attempt %s", run.id, run.attempt)
            reason = "Something went wrong while the reply was written. It has been noted."
            with suppress(LogUnavailable, Superseded):
                fail(run, attempt.text, code="internal", reason=reason)


def _publish_start(run: Run, process: Runtime) -> int:
    deadline = monotonic() + PATIENCE
    while True:
        try:
            return publish_start(run)
        except LogUnavailable:
            if process.draining or monotonic() > deadline or not still_held(run):
                raise
            sleep(PAUSE)


def _finish(attempt: Attempt, outcome: Outcome | ModelError, process: Runtime) -> None:
    while True:
        try:
            return attempt.finish(outcome)
        except (LogUnavailable, OperationalError, InterfaceError) as error:
            connection.close()
            if process.draining:
                raise LogUnavailable from error
            sleep(PAUSE)


def _store_input_tokens(run: Run, turns: list[PromptMessage]) -> None:
    run.input_tokens = tokens_of(turns)
    Run.objects.filter(pk=run.pk).update(input_tokens=run.input_tokens)
