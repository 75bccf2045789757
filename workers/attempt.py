"""Reads one attempt's reply from the model or the agent, writes it to the log, and ends the run."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from time import monotonic

from django.conf import settings

from streams.chat.finish import complete, fail, fail_after_call, finish_cancelled
from streams.chat.snapshot import RECORDED_HEAD
from streams.log.errors import Superseded
from streams.models import Run
from streams.observability import metrics
from streams.observability.tracing import record_first_token
from workers.agents.errors import AgentError
from workers.generators.errors import ModelError
from workers.lease import release
from workers.lease_keeper import HeldRun
from workers.outcome import FAILURES, End, Outcome
from workers.reply_items import Completion, ReplyItem
from workers.reply_parts import ReplyTooLong
from workers.reply_writer import ReplyWriter
from workers.runtime import Runtime
from workers.tool_calls import ToolCalls


class Attempt:
    """The reply of one attempt at a run, on its way from the model into the log."""

    def __init__(self, run: Run, process: Runtime) -> None:
        self.writer = ReplyWriter(run, process.writers, process.window, self._stop)
        self._run = run
        self._process = process
        self._finish = Completion("stop", None)
        self._task: asyncio.Task[object] | None = None
        self._tools = ToolCalls(run.model, process.tool_names)
        self.reading = True  # False once the model or the agent has ended its reply
        self.stopped = False
        self.over = threading.Event()  # the reply has ended, or was stopped
        self._begun_at = monotonic()
        assert run.started_at
        self._started_at = run.started_at

    def stop(self) -> None:
        """Stop at once. Another attempt has the run, or the process ends. Works in any thread."""
        self.stopped = True
        self.over.set()
        self._process.loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self.writer.stop()
        if self._task:
            self._task.cancel()

    async def write(self, items: AsyncGenerator[ReplyItem, None], hold: HeldRun) -> End:
        """Append the reply's items, one by one, and return the outcome.

        After any outcome but LOST and TOO_LONG, the log has confirmed every piece.
        """
        self._task = asyncio.current_task()
        if self.stopped:
            return Outcome.LOST  # it was stopped before the reply began
        try:
            async with asyncio.timeout(settings.RUN_TIMEOUT):
                outcome = await self._relay(items, hold)
            self.reading = False
            await self.writer.confirm()
        except TimeoutError:
            self.writer.flush()
            return Outcome.TOO_LONG
        except (asyncio.CancelledError, Superseded):
            return Outcome.LOST
        return outcome

    async def _relay(self, items: AsyncGenerator[ReplyItem, None], hold: HeldRun) -> End:
        try:
            async with aclosing(items):
                async for item in items:
                    self._tools.note(item)
                    if isinstance(item, Completion):
                        self._finish = item
                        continue
                    if not self.writer.events:
                        self._note_first_token(hold)
                    await self.writer.append(item)
        except (ModelError, AgentError) as error:
            return error
        except ReplyTooLong:
            return Outcome.TOO_LARGE
        finally:
            self._tools.end()
        return Outcome.FINISHED

    def _note_first_token(self, hold: HeldRun) -> None:
        hold.first_token = timedelta(seconds=monotonic() - self._begun_at)
        self._run.first_token_at = self._started_at + hold.first_token
        wait = self._run.first_token_at - self._run.created_at
        metrics.FIRST_TOKEN.observe(wait.total_seconds())
        record_first_token(hold.first_token.total_seconds())

    def finish(self, outcome: End) -> None:
        """Store and publish how the run ended. Raises `Superseded`, `LogUnavailable`."""
        head = RECORDED_HEAD.value(id=self._run.conversation_id)
        if head is None:
            raise Superseded  # the conversation was deleted
        self._run.conversation.head = max(head, self.writer.head)
        match outcome:
            case Outcome.FINISHED:
                reason, usage = self._finish.finish_reason, self._finish.usage
                complete(self._run, self.writer.parts, finish_reason=reason, usage=usage)
            case Outcome.LOST:
                self.resign()
            case Outcome.TOO_LONG | Outcome.TOO_LARGE:
                code, reason = FAILURES[outcome]
                fail(self._run, self.writer.parts, code=code, reason=reason)
            case ModelError() | AgentError():
                fail(self._run, self.writer.parts, code=outcome.code, reason=outcome.reason)

    def resign(self) -> None:
        """Give up the run. If this attempt still holds it, cancel it if requested, else release it.

        If the run has called a tool that must not be called twice, it fails instead of being
        released. Raises `Superseded`, `LogUnavailable`.
        """
        now = Run.objects.select_related("conversation", "message").filter(pk=self._run.pk).first()
        if self._run.first_token_at:  # another process that ended the run did not know it
            same_attempt = Run.objects.filter(pk=self._run.pk, attempt=self._run.attempt)
            same_attempt.filter(first_token_at=None).update(first_token_at=self._run.first_token_at)
        if now is None or now.attempt != self._run.attempt or now.status != Run.Status.RUNNING:
            return
        now.conversation.head = max(now.conversation.head, self.writer.head)
        if now.cancel_asked:
            finish_cancelled(now, self.writer.parts)
        elif not release(self._run, head=self.writer.head):
            called = Run.objects.filter(pk=now.pk, attempt=now.attempt, called_at__isnull=False)
            if called.filter(status=Run.Status.RUNNING).exists():
                fail_after_call(now, self.writer.parts)
