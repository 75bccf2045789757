"""One attempt at one run: it streams the model's tokens into the log and ends the run.

    claim → run.started → append each piece of the model's reply → final event

If an attempt finds that another attempt has its run, it stops and appends nothing more.
"""

import logging
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from time import monotonic, sleep
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from streams.chat.finish import fail
from streams.chat.model_names import Kind
from streams.chat.publisher import publish_start
from streams.log.errors import LogUnavailable, Superseded
from streams.models import Run
from streams.observability import metrics
from streams.observability.request_id import adopt_request_id
from streams.observability.tracing import attempt_span, finish_span, task_span
from workers.attempt import Attempt
from workers.lease import claim, claim_in_turn, mark_called, release, still_held
from workers.lease_keeper import HeldRun
from workers.log_writer import PAUSE
from workers.outcome import End, Outcome
from workers.prompt.budget import fit, fit_with_tools, tokens_of
from workers.prompt.history import history
from workers.reply_source import Reply
from workers.runtime import Runtime

logger = logging.getLogger(__name__)
HELD = 2.0  # seconds for a stopped reply to end; after them the event loop counts as blocked
LOOK = 0.5  # seconds between two checks whether the process ends
PATIENCE = 5.0  # seconds that a run keeps its place while the log refuses its start


def generate(run_id: UUID, process: Runtime) -> None:
    """Claim the run and write its reply. If it cannot be claimed, try `claim_in_turn` instead.

    Returns when the attempt is over: the run has ended, was released, or another attempt has it.
    """
    worker = process.keeper.worker
    if run := claim(run_id, worker, process.kind):
        _write(run, process)
    # The run has ended, must wait, or another worker holds it (Celery delivers at least once).
    elif instead := claim_in_turn(worker, process.kind):
        adopt_request_id(None)  # the task came from another run's request
        with task_span(instead.id, None):
            _write(instead, process)


def _write(run: Run, process: Runtime) -> None:
    attempt = Attempt(run, process)
    writer = attempt.writer
    reply: Reply | None = None
    with attempt_span(run), process.keeper.hold(run, attempt.stop, writer.watermark) as hold:
        try:
            fit_prompt = fit_with_tools if process.kind is Kind.AGENT else fit
            turns = fit_prompt(history(run), settings.PROMPT_MAX_TOKENS)
            run.input_tokens = tokens_of(turns)
            writer.head = _publish_start(run, process)
            reply = process.source(
                run,
                turns,
                confirm=writer.confirm,
                called=partial(_store_call, attempt, hold),
                draining=lambda: process.draining,
            )
            close_old_connections()  # a reply that waits for its model uses no connection
            writing = process.start(attempt.write(reply.items, hold))
            outcome = _outcome_of(attempt, writing)
            name = outcome if isinstance(outcome, str) else outcome.code
            with finish_span(name, writer.events):
                _finish(attempt, outcome, process)
        except Superseded:
            with suppress(Superseded, LogUnavailable):  # another process or the sweep ends it
                attempt.resign()
        except LogUnavailable:
            release(run, head=writer.head, redispatch=process.draining)
        except (OperationalError, InterfaceError):
            # The database is away. The lease expires, and then another worker claims the run.
            logger.exception("run %s attempt %s", run.id, run.attempt)
        except Exception:
            logger.exception("run %s attempt %s", run.id, run.attempt)
            reason = "Something went wrong while the reply was written. It has been noted."
            with suppress(LogUnavailable, Superseded):
                fail(run, writer.parts, code="internal", reason=reason)
    if reply:
        _wait_until_returned(run, reply, process)


def _store_call(attempt: Attempt, hold: HeldRun) -> bool:
    """Store that a tool which must not be called twice is about to be called. Works in any thread.

    Returns False if the tool must not be called, because the attempt was stopped or lost its run.
    """
    hold.called = True  # set before it is stored, so that a draining process waits for the run
    while not attempt.stopped:
        try:
            return mark_called(hold.run)
        except (OperationalError, InterfaceError):
            sleep(PAUSE)
        finally:
            connection.close()
    return False


def _outcome_of(attempt: Attempt, writing: Future[End]) -> End:
    """Wait for the outcome that `write` returns. Must not run on the event loop.

    An agent that blocks the event loop prevents `write` from returning. So a stopped attempt is
    LOST after HELD seconds, and an attempt that reads for longer than RUN_TIMEOUT is TOO_LONG. The
    log refuses whatever such an agent yields later.
    """
    writing.add_done_callback(lambda _: attempt.over.set())
    if not attempt.over.wait(settings.RUN_TIMEOUT + HELD) and attempt.reading:
        attempt.stop()
        return Outcome.TOO_LONG
    attempt.over.wait()
    try:
        return writing.result(HELD)
    except TimeoutError:
        return Outcome.LOST


def _wait_until_returned(run: Run, reply: Reply, process: Runtime) -> None:
    """Keep the run's place occupied while its agent still works, though the run has ended.

    So a process never runs more agents than it has places. A draining process does not wait.
    """
    if reply.has_returned(LOOK):
        return
    close_old_connections()
    logger.warning("run %s attempt %s: its agent still works", run.id, run.attempt)
    with metrics.AGENTS_OUTLIVING_RUN.track_inprogress():
        while not (reply.has_returned(LOOK) or process.draining):
            pass
    logger.info("run %s attempt %s: its agent has returned", run.id, run.attempt)


def _publish_start(run: Run, process: Runtime) -> int:
    deadline = monotonic() + PATIENCE
    while True:
        try:
            return publish_start(run)
        except LogUnavailable:
            if process.draining or monotonic() > deadline or not still_held(run):
                raise
            sleep(PAUSE)


def _finish(attempt: Attempt, outcome: End, process: Runtime) -> None:
    while True:
        try:
            return attempt.finish(outcome)
        except (LogUnavailable, OperationalError, InterfaceError) as error:
            connection.close()
            if process.draining:
                raise LogUnavailable from error
            sleep(PAUSE)
