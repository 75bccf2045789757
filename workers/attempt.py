"""One attempt's reply: it appends the model's pieces to the log and tracks which are confirmed.

A piece does not wait for the one before it. The log's results arrive on the event loop. If the log
has lost the reply, the attempt restores its fence and appends all parts again.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection

from streams.chat.finish import complete, fail, fail_after_call, finish_cancelled
from streams.chat.snapshot import recorded_head
from streams.log.channels import channel_of
from streams.log.errors import FenceMissing, LogUnavailable, Superseded
from streams.log.event_log import log_of
from streams.log.sharding import server_of
from streams.log.slots import SlotWrite
from streams.log.values import Append, Watermark
from streams.models import Conversation, Run
from streams.observability import metrics
from streams.observability.tracing import record_first_token
from streams.protocol.events import Delta, PartAdded, Piece, ReasoningDelta, TextDelta, TextSnapshot
from streams.protocol.parts import Part, ReasoningPart, TextPart, WholePart, text_of
from workers.agents.errors import AgentError
from workers.backpressure import Backpressure
from workers.generators.errors import ModelError
from workers.lease import HeldRun, release, still_held
from workers.log_writer import PAUSE, size
from workers.outcome import FAILURES, End, Outcome
from workers.reply_items import Completion, ReplyItem
from workers.reply_parts import ReplyParts, ReplyTooLong
from workers.reply_text import split_text
from workers.runtime import Runtime
from workers.tool_calls import ToolCalls

logger = logging.getLogger(__name__)


class Attempt:
    """The reply of one attempt at a run, on its way from the model into the log."""

    def __init__(self, run: Run, process: Runtime) -> None:
        self.head = 0  # the highest event id in the log that this attempt knows of
        self._run = run
        self._process = process
        self._channel = channel_of(run.conversation_id)
        self._writer = process.writers[server_of(self._channel)]
        self._reply = ReplyParts(settings.MAX_REPLY_BYTES)
        self._index = 0
        self._unconfirmed = Backpressure(lambda: self._writer.away.is_set())
        self._refused: Exception | None = None
        self._finish = Completion("stop", None)
        self._task: asyncio.Task[object] | None = None
        self._tools = ToolCalls(run.model, process.tool_names)
        self.reading = True  # from the model or the agent
        self.stopped = False
        self.over = threading.Event()  # the reply has ended, or was stopped
        self._begun_at = monotonic()
        assert run.started_at
        self._started_at = run.started_at

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._reply.parts

    @property
    def chunks(self) -> int:
        """How many events it has sent to the log."""
        return self._index

    def watermark(self) -> Watermark:
        """How far the log has confirmed this attempt. From any thread."""
        run = self._run
        return Watermark(channel=self._channel, run=run.id, attempt=run.attempt, head=self.head)

    def stop(self) -> None:
        """Stop at once: another attempt has the run, or the process ends. From any thread."""
        self.stopped = True
        self.over.set()
        self._process.loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._refused = self._refused or Superseded()
        if self._task:
            self._task.cancel()

    async def write(self, items: AsyncGenerator[ReplyItem, None], hold: HeldRun) -> End:
        """Append the reply's items, one by one, and return the outcome.

        After any outcome but LOST and TOO_LONG, the log has confirmed every piece.
        """
        self._task = asyncio.current_task()
        if self.stopped:
            return Outcome.LOST  # before the reply began
        try:
            async with asyncio.timeout(settings.RUN_TIMEOUT):
                outcome = await self._relay(items, hold)
            self.reading = False
            await self._drain()
        except TimeoutError:
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
                    if not self._index:
                        hold.first_token = timedelta(seconds=monotonic() - self._begun_at)
                        self._run.first_token_at = self._started_at + hold.first_token
                        wait = self._run.first_token_at - self._run.created_at
                        metrics.FIRST_TOKEN.observe(wait.total_seconds())
                        record_first_token(hold.first_token.total_seconds())
                    await self._say(item)
        except (ModelError, AgentError) as error:
            return error
        except ReplyTooLong:
            return Outcome.TOO_LARGE
        finally:
            self._tools.end()
        return Outcome.FINISHED

    async def _say(self, item: str | ReasoningPart | WholePart) -> None:
        """Append one piece. Raises `ReplyTooLong` after the part of it that still fits."""
        match item:
            case str():
                await self._say_text(TextDelta, TextPart, item)
            case ReasoningPart():
                await self._say_text(ReasoningDelta, ReasoningPart, item.text)
            case part:
                await self._wait_for_room()
                write = self._reply.add_part(part)
                self._publish(PartAdded(**self._place(), part=part), write)
        self._reply.check()

    async def _say_text(
        self, event: type[Delta], part: type[TextPart | ReasoningPart], text: str
    ) -> None:
        for piece in split_text(self._reply.fit(text)):
            await self._wait_for_room()
            write = self._reply.add_text(part, piece)
            self._publish(event(**self._place(), text=piece), write)

    async def _wait_for_room(self) -> None:
        # The log may hold the fence though its answer was lost. So all parts come first.
        while self._refused:
            await self._restore()
        await self._unconfirmed.wait_for_room()

    def _place(self) -> dict[str, Any]:
        """The fields that the events of all pieces have."""
        return {"run": self._run.id, "attempt": self._run.attempt, "index": self._index}

    def _publish(self, event: Piece | TextSnapshot, write: SlotWrite | None) -> None:
        self._index += 1
        append = Append(channel=self._channel, event=event, write=write, min_head=self.head)
        length = size(append)
        self._unconfirmed.add(length)
        self._writer.write(append, partial(self._on_result, length))

    def _on_result(self, length: int, result: int | Exception) -> None:
        if isinstance(result, int):
            self.head = max(self.head, result)
        elif isinstance(result, Superseded):
            self._stop()
        else:
            self._refused = result
        self._unconfirmed.confirmed(length)

    async def _drain(self) -> None:
        while self._unconfirmed or self._refused:
            if self._unconfirmed:
                await self._unconfirmed.wait_for_result()
            else:
                await self._restore()

    async def _restore(self) -> None:
        """Restore the fence in a log that has lost it, then append all parts again.

        Returns after PAUSE if Redis is away; the caller then tries again. Raises `Superseded`, or
        the error with which the log refused a piece.
        """
        while self._unconfirmed:
            await self._unconfirmed.wait_for_result()
        if not isinstance(self._refused, FenceMissing):
            raise self._refused or Superseded()
        self._refused = None
        try:
            self.head = await sync_to_async(self._restore_fence, thread_sensitive=False)()
        except LogUnavailable:
            self._refused = FenceMissing()
            await asyncio.sleep(PAUSE)
            return
        parts = self.parts
        self._publish(TextSnapshot(**self._place(), text=text_of(parts), parts=parts), None)

    def _restore_fence(self) -> int:
        """Restore the fence; return the log's head. Raises `Superseded`, `LogUnavailable`."""
        try:
            # Twice, because the run may have ended between the check and the restored fence.
            for _ in range(2):
                if not still_held(self._run):
                    raise Superseded
                conversation = self._run.conversation_id
                log = log_of(conversation, max(self.head, recorded_head(conversation)))
                head = log.restore_fence(
                    self._run.id, self._run.attempt, index=self._index - 1, parts=self.parts
                )
            return head
        finally:
            connection.close()

    def finish(self, outcome: End) -> None:
        """Store and publish how the run ended. Raises `Superseded`, `LogUnavailable`."""
        conversation = Conversation.objects.filter(pk=self._run.conversation_id).first()
        if conversation is None:
            raise Superseded  # it was deleted
        self._run.conversation = conversation
        self._run.conversation.head = max(self._run.conversation.head, self.head)
        match outcome:
            case Outcome.FINISHED:
                reason, usage = self._finish.finish_reason, self._finish.usage
                complete(self._run, self.parts, finish_reason=reason, usage=usage)
            case Outcome.LOST:
                self.resign()
            case Outcome.TOO_LONG | Outcome.TOO_LARGE:
                code, reason = FAILURES[outcome]
                fail(self._run, self.parts, code=code, reason=reason)
            case ModelError() | AgentError():
                fail(self._run, self.parts, code=outcome.code, reason=outcome.reason)

    def resign(self) -> None:
        """Leave the run. If this attempt still holds it, cancel it if asked, otherwise release it.

        A run that must not begin anew fails instead. Raises `Superseded`, `LogUnavailable`.
        """
        now = Run.objects.select_related("conversation", "message").filter(pk=self._run.pk).first()
        if self._run.first_token_at:  # another process may have ended the run without it
            same_attempt = Run.objects.filter(pk=self._run.pk, attempt=self._run.attempt)
            same_attempt.filter(first_token_at=None).update(first_token_at=self._run.first_token_at)
        if now is None or now.attempt != self._run.attempt or now.status != Run.Status.RUNNING:
            return
        now.conversation.head = max(now.conversation.head, self.head)
        if now.cancel_asked:
            finish_cancelled(now, self.parts)
        elif not release(self._run, head=self.head):
            called = Run.objects.filter(pk=now.pk, attempt=now.attempt, called_at__isnull=False)
            if called.filter(status=Run.Status.RUNNING).exists():
                fail_after_call(now, self.parts)
