"""Writes one attempt's reply to the log, piece by piece, and tracks what the log has confirmed.

A piece does not wait until the piece before it is confirmed. The log's results arrive on the event
loop. If the log has lost the reply, the writer restores the attempt's fence and appends all parts
again.

Text that arrives shortly after the last event is held, and becomes one event together with the text
that follows (workers/delta_window.py). It is not part of the reply until it is flushed.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection

from streams.chat.snapshot import recorded_head
from streams.log.channels import channel_of
from streams.log.errors import FenceMissing, LogUnavailable, Superseded
from streams.log.event_log import log_of
from streams.log.sharding import server_of
from streams.log.slots import SlotWrite
from streams.log.values import Append, Watermark
from streams.models import Run
from streams.protocol.events import Delta, PartAdded, Piece, ReasoningDelta, TextDelta, TextSnapshot
from streams.protocol.parts import Part, ReasoningPart, TextPart, WholePart, text_of
from workers.backpressure import Backpressure
from workers.delta_window import DeltaWindow, HeldText, TextKind
from workers.lease import still_held
from workers.log_writer import PAUSE, LogWriter, size
from workers.reply_parts import ReplyParts
from workers.reply_text import split_text

DELTAS: dict[TextKind, type[Delta]] = {TextPart: TextDelta, ReasoningPart: ReasoningDelta}


class ReplyWriter:
    """The reply of one attempt, as far as it is written. For one event loop.

    `on_superseded` is called once the log refuses a piece because the attempt has lost its run.
    """

    def __init__(
        self,
        run: Run,
        log_writers: list[LogWriter],
        window: DeltaWindow,
        on_superseded: Callable[[], None],
    ) -> None:
        self.head = 0  # the highest event id in the log that this attempt knows of
        self.events = 0  # events that this attempt has sent to the log
        self._run = run
        self._channel = channel_of(run.conversation_id)
        self._log_writer = log_writers[server_of(self._channel)]
        self._window = window
        self._held = HeldText()
        self._on_superseded = on_superseded
        self._reply = ReplyParts(settings.MAX_REPLY_BYTES)
        self._unconfirmed = Backpressure(lambda: self._log_writer.away.is_set())
        self._refused: Exception | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._reply.parts

    def watermark(self) -> Watermark:
        """How far the log has confirmed this attempt. Works in any thread."""
        run = self._run
        return Watermark(channel=self._channel, run=run.id, attempt=run.attempt, head=self.head)

    def stop(self) -> None:
        """Append nothing more, because another attempt has the run, or the process ends.

        Held text is dropped, because a reply must not have text that readers did not receive.
        """
        self._refused = self._refused or Superseded()
        self._held.take()

    async def append(self, item: str | ReasoningPart | WholePart) -> None:
        """Append one piece. Raises `ReplyTooLong` if it is too long, after the text that fits."""
        match item:
            case str():
                await self._append_text(TextPart, item)
            case ReasoningPart():
                await self._append_text(ReasoningPart, item.text)
            case part:
                await self._wait_for_room()
                self.flush()
                write = self._reply.add_part(part)
                self._publish(PartAdded(**self._place(), part=part), write)
        self._reply.check()

    def flush(self) -> None:
        """Append the held text, as one piece."""
        if not self._held:
            return
        kind, text = self._held.take()
        write = self._reply.add_text(kind, text)
        if not self._refused:  # otherwise `_restore` appends it with all parts
            self._publish(DELTAS[kind](**self._place(), text=text), write)

    async def confirm(self) -> None:
        """Flush the held text, and wait until the log has confirmed every piece.

        Raises `Superseded`.
        """
        self.flush()
        while self._unconfirmed or self._refused:
            if self._unconfirmed:
                await self._unconfirmed.wait_for_result()
            else:
                await self._restore()

    async def _append_text(self, kind: TextKind, text: str) -> None:
        held = self._held
        for piece in split_text(self._reply.fit(text)):
            await self._wait_for_room()
            if not held.takes(kind, piece):
                self.flush()
            held.add(kind, piece)
            if held.full or self._window.time() >= held.due:
                self.flush()
            else:
                self._window.flush_later(held, self.flush)

    async def _wait_for_room(self) -> None:
        # If the answer to `restore_fence` was lost, the log already accepts pieces again. So all
        # parts must be appended before a new piece.
        while self._refused:
            await self._restore()
        await self._unconfirmed.wait_for_room()

    def _place(self) -> dict[str, Any]:
        """The fields that the events of all pieces have."""
        return {"run": self._run.id, "attempt": self._run.attempt, "index": self.events}

    def _publish(self, event: Piece | TextSnapshot, write: SlotWrite | None) -> None:
        self.events += 1
        self._held.begin_window(self._window.time())
        append = Append(channel=self._channel, event=event, write=write, min_head=self.head)
        length = size(append)
        self._unconfirmed.add(length)
        self._log_writer.write(append, partial(self._on_result, length))

    def _on_result(self, length: int, result: int | Exception) -> None:
        if isinstance(result, int):
            self.head = max(self.head, result)
        elif isinstance(result, Superseded):
            self._on_superseded()
        else:
            self._refused = result
        self._unconfirmed.confirmed(length)

    async def _restore(self) -> None:
        """Restore the fence in a log that has lost it, then append all parts again.

        Returns after PAUSE if Redis is away; the caller then tries again. Raises `Superseded`, or
        the error with which the log refused a piece.
        """
        while self._unconfirmed:
            await self._unconfirmed.wait_for_result()
        if not isinstance(self._refused, FenceMissing):
            raise self._refused or Superseded()
        self.flush()
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
                    self._run.id, self._run.attempt, index=self.events - 1, parts=self.parts
                )
            return head
        finally:
            connection.close()
