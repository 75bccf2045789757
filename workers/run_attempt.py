"""One attempt at one run: the model's tokens, as they come, through the one door out.

    claim → run.started → for each piece of the model's: publish → the ending

Whoever finds that the run is no longer his own stops, and says nothing more.
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
from workers.attempt import Attempt, Outcome
from workers.generators.errors import ModelError
from workers.lease import claim, claim_in_turn, release, still_held
from workers.log_writer import PAUSE
from workers.prompt.budget import Turn, fit, tokens_of
from workers.prompt.history import history
from workers.runtime import Runtime

logger = logging.getLogger(__name__)
PATIENCE = 5.0  # seconds that a run which cannot be begun keeps its place from others


def generate(run_id: UUID, process: Runtime) -> None:
    """Write the run's reply, if it is to be had. Returns when the run is over or another's."""
    worker = process.keeper.worker
    if run := claim(run_id, worker):
        _write(run, process)
    # It has ended, is another worker's (Celery delivers at least once), or has to wait.
    elif instead := claim_in_turn(worker):
        adopt_request_id(None)  # the task named another request's run
        with task_span(instead.id, None):
            _write(instead, process)


def _write(run: Run, process: Runtime) -> None:
    attempt = Attempt(run, process)
    with attempt_span(run), process.keeper.hold(run, attempt.stop, attempt.watermark) as hold:
        try:
            attempt.head = _started(run, process)
            turns = fit(history(run), settings.PROMPT_MAX_TOKENS)
            _note_prompt(run, turns)
            connection.close()  # a reply that waits for its model holds no connection
            outcome = process.run(attempt.write(turns, hold))
            how = outcome.code if isinstance(outcome, ModelError) else outcome
            with finish_span(how, attempt.chunks):
                _ended(attempt, outcome, process)
        except Superseded:
            with suppress(Superseded, LogUnavailable):  # somebody else has just ended it, or will
                attempt.resign()
        except LogUnavailable:
            release(run, head=attempt.head, redispatch=process.draining)
        except (OperationalError, InterfaceError):
            # The database is away. Nobody renews the lease now: whoever sees its end goes on.
            logger.exception("run %s attempt %s", run.id, run.attempt)
        except Exception:
            logger.exception("run %s attempt %s", run.id, run.attempt)
            reason = "Something went wrong while the reply was written. It has been noted."
            with suppress(LogUnavailable, Superseded):
                fail(run, attempt.text, code="internal", reason=reason)


def _started(run: Run, process: Runtime) -> int:
    given_up = monotonic() + PATIENCE
    while True:
        try:
            return publish_start(run)
        except LogUnavailable:
            if process.draining or monotonic() > given_up or not still_held(run):
                raise
            sleep(PAUSE)


def _ended(attempt: Attempt, outcome: Outcome, process: Runtime) -> None:
    while True:
        try:
            return attempt.finish(outcome)
        except (LogUnavailable, OperationalError, InterfaceError) as away:
            connection.close()
            if process.draining:
                raise LogUnavailable from away
            sleep(PAUSE)


def _note_prompt(run: Run, turns: list[Turn]) -> None:
    run.input_tokens = tokens_of(turns)
    Run.objects.filter(pk=run.pk).update(input_tokens=run.input_tokens)
