"""What streams ask of the log and the database: each question goes through one of a few threads.

So an open stream holds neither a thread nor a connection.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, TypeVar
from uuid import UUID

from django.db import InterfaceError, OperationalError, close_old_connections, connection

from streams.channels import channel_of
from streams.events import ENDINGS, StreamReset
from streams.models import Conversation, Run
from streams.passages import Torn
from streams.publish import the_log
from streams.servers import server_of
from streams.snapshot import noted, snapshot
from streams.verdicts import Away, Superseded
from streams.wire import block, block_of

T = TypeVar("T")
PAGE = 200  # events read from the log at once: a long replay lets others pass in between
THREADS = 4  # that ask for all streams, of the database or of one Redis server


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """What readers at one place are told next, as it is sent to everybody who asked for it."""

    blocks: bytes
    cursor: int  # after them
    ending: bool  # whether a run may have ended among them
    last: bool  # whether the log held no more
    reset: str = ""  # why the log could not go on from where they were


def page_of(conversation: UUID, cursor: int | None, *, known: int | None = None) -> Blocks:
    """A page of the log after the cursor; a snapshot without one, or where the log cannot go on.

    `known` is the row's `head`, for one who has just read it.
    Raises `Away`; `Superseded` where the conversation was deleted.
    """
    if cursor is None:
        return _beginning(conversation)
    channel = channel_of(conversation)
    # What the row notes and a failover lost, nobody else may ever miss.
    known = noted(conversation) if known is None else known
    page = the_log().read(channel, cursor, known=known, count=PAGE)
    if isinstance(page, Torn):
        anew = _beginning(conversation)
        reset = block_of(StreamReset(reason=page.reason, channels=(channel,)))
        return replace(anew, blocks=reset + anew.blocks, reset=page.reason)
    return Blocks(
        blocks=b"".join(block(type, data, id) for id, type, data in page.entries),
        cursor=page.entries[-1][0] if page.entries else cursor,
        ending=any(type in ENDINGS for _, type, _ in page.entries),
        last=page.last,
    )


def _beginning(conversation: UUID) -> Blocks:
    try:
        now = snapshot(Conversation.objects.get(pk=conversation))
    except Conversation.DoesNotExist:
        raise Superseded from None
    if now.cursor is None:
        raise Away
    return Blocks(blocks=block_of(now, now.cursor), cursor=now.cursor, ending=True, last=True)


def outlook(conversation: UUID, cursor: int) -> Literal["busy", "ending", "idle"]:
    """What a reader at the cursor may still hear: a reply, an ending being said, or nothing."""
    runs = Run.objects.filter(conversation=conversation)
    unsaid = set(runs.filter(ended_event=None).values_list("status", flat=True))
    if unsaid & set(Run.LIVE):
        return "busy"
    return "ending" if unsaid or runs.filter(ended_event__gt=cursor).exists() else "idle"


@cache
def threads(server: int | None) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, "follow")


async def in_thread(ask: Callable[[], T], *, of: str | None = None) -> T:
    """Ask in a thread, once more where the database may have restarted.

    What asks the log `of` a channel has the threads of its server: where that does not answer,
    nobody waits but for it.
    """

    def asked() -> T:
        try:
            return ask()
        except (OperationalError, InterfaceError):
            connection.close()
            return ask()
        finally:
            close_old_connections()  # a pool's goes back to it; SQLite's stays with the thread

    pool = threads(None if of is None else server_of(of))
    return await asyncio.get_running_loop().run_in_executor(pool, asked)
