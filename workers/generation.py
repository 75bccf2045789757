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

from streams.ending import fail
from streams.models import Run
from streams.publish import start
from streams.records import belong
from streams.traces import attempted, ending, joined
from streams.verdicts import Away, Superseded
from workers.attempt import Attempt, Outcome
from workers.fault import ModelFault
from workers.history import history
from workers.lease import claim, claim_in_turn, hand_over, mine
from workers.process import Process
from workers.prompt import Turn, fit, tokens_of
from workers.writer import PAUSE

logger = logging.getLogger(__name__)
PATIENCE = 5.0  # seconds that a run which cannot be begun keeps its place from others


def generate(run_id: UUID, process: Process) -> None:
    """Write the run's reply, if it is to be had. Returns when the run is over or another's."""
    worker = process.keeper.worker
    if run := claim(run_id, worker):
        _write(run, process)
    # It has ended, is another worker's (Celery delivers at least once), or has to wait.
    elif instead := claim_in_turn(worker):
        belong(None)  # the task named another request's run
        with joined(instead.id, None):
            _write(instead, process)


def _write(run: Run, process: Process) -> None:
    attempt = Attempt(run, process)
    with attempted(run), process.keeper.hold(run, attempt.give_up, attempt.reach) as hold:
        try:
            attempt.known = _started(run, process)
            turns = fit(history(run), settings.HISTORY_TOKENS)
            _note_prompt(run, turns)
            connection.close()  # a reply that waits for its model holds no connection
            outcome = process.carry_out(attempt.write(turns, hold))
            how = outcome.code if isinstance(outcome, ModelFault) else outcome
            with ending(how, attempt.pieces):
                _ended(attempt, outcome, process)
        except Superseded:
            with suppress(Superseded, Away):  # somebody else has just ended it, or will
                attempt.bow_out()
        except Away:
            hand_over(run, known=attempt.known, rings=process.draining)
        except (OperationalError, InterfaceError):
            # The database is away. Nobody renews the lease now: whoever sees its end goes on.
            logger.exception("run %s attempt %s", run.id, run.attempt)
        except Exception:
            logger.exception("run %s attempt %s", run.id, run.attempt)
            reason = "Something went wrong while the reply was written. It has been noted."
            with suppress(Away, Superseded):
                fail(run, attempt.text, code="internal", reason=reason)


def _started(run: Run, process: Process) -> int:
    given_up = monotonic() + PATIENCE
    while True:
        try:
            return start(run)
        except Away:
            if process.draining or monotonic() > given_up or not mine(run):
                raise
            sleep(PAUSE)


def _ended(attempt: Attempt, outcome: Outcome, process: Process) -> None:
    while True:
        try:
            return attempt.end(outcome)
        except (Away, OperationalError, InterfaceError) as away:
            connection.close()
            if process.draining:
                raise Away from away
            sleep(PAUSE)


def _note_prompt(run: Run, turns: list[Turn]) -> None:
    run.input_tokens = tokens_of(turns)
    Run.objects.filter(pk=run.pk).update(input_tokens=run.input_tokens)
