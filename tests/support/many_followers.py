"""Many followers at once: starts them, waits for them with a limit, and measures their lateness."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from tests.support.follower import Follower
from tests.support.recording import Received, Recording
from tests.support.sse_blocks import ENDINGS
from tests.support.visitor import AcceptedRun, Visitor, script

PIECE = re.compile(r"\bw(\d+)-")  # how tests/support/script.py numbers its pieces of text


@asynccontextmanager
async def following(followers: Iterable[Follower], *, within: float) -> AsyncIterator[None]:
    """Let followers follow while the body runs, then wait up to `within` seconds for their end."""
    crowd = list(followers)
    tasks = [asyncio.create_task(follower.follow()) for follower in crowd]
    try:
        yield
        _, late = await asyncio.wait(tasks, timeout=within)
        if late:
            last = [
                follower.recording.connections[-1]
                for follower, task in zip(crowd, tasks, strict=True)
                if task in late
            ]
            states = {f"{c.status} {c.ended} after {c.cursor}" for c in last[:5]}
            raise TimeoutError(f"{len(late)} followers not through in {within:g} s: {states}")
        for task in tasks:
            task.result()
    finally:
        for follower in crowd:
            follower.stop()
        await asyncio.gather(*tasks, return_exceptions=True)


async def dropping_readers(
    visitor: Visitor,
    chance: random.Random,
    count: int,
    *,
    seed: int,
    hold_at: int | None = None,
) -> tuple[list[AcceptedRun], list[Follower]]:
    """Replies of eight seconds, each with readers that stay and readers that reconnect.

    With `hold_at`, the replies wait before this piece until the test releases their scripts.
    """
    asked = [
        await visitor.ask(script(tokens=400, rate=50, seed=f"{seed}-{n}", hold_at=hold_at))
        for n in range(count)
    ]
    followers = [
        visitor.follower(
            one.conversation,
            cursor=one.cursor,
            cuts=[chance.randrange(30_000) for _ in range(drops)],
        )
        for one in asked
        for drops in (0, 0, 2, 4)
    ]
    return asked, followers


async def wait_for_all(
    followers: Iterable[Follower], condition: Callable[[Received], bool], *, within: float
) -> list[Received]:
    """The first block of each follower for which `condition` is true. Raises TimeoutError."""
    return await asyncio.gather(
        *(follower.wait_for(condition, within=within) for follower in followers)
    )


async def wait_past_first_request(followers: Sequence[Follower]) -> None:
    """Wait until Pushpin has made its first request for the next page of each follower.

    Pushpin makes it one second after it subscribes to a channel. Until the response, the follower
    receives nothing. Without Pushpin, this is a wait for three seconds of events.
    """
    await wait_for_all(followers, delta(0), within=30)
    await wait_for_all(followers, numbered_since(time.monotonic() + 3), within=30)


def numbered_since(moment: float) -> Callable[[Received], bool]:
    """A condition: an event of the log that arrives after `moment` (monotonic seconds)."""
    return lambda heard: heard.at > moment and heard.block.id is not None


def delta(number: int, run: str | None = None) -> Callable[[Received], bool]:
    """A condition: text that has the script's piece of this number, or a later piece.

    A text without numbered pieces counts as piece 0. Without `run`, the text of any run counts.
    """
    return lambda heard: (
        heard.block.event in ("text.delta", "text.snapshot")
        and max(pieces_in(heard), default=0) >= number
        and run in (None, heard.block.payload["run"])
    )


def pieces_in(heard: Received) -> list[int]:
    """The numbers of the script's pieces in this text. One event may hold several."""
    return [int(number) for number in PIECE.findall(heard.block.payload["text"])]


def final_event(run: str | None = None) -> Callable[[Received], bool]:
    return lambda heard: heard.block.event in ENDINGS and run in (None, heard.block.payload["run"])


def started(attempt: int, run: str | None = None) -> Callable[[Received], bool]:
    """A condition: a run's start with this attempt or a later attempt."""
    return lambda heard: (
        heard.block.event == "run.started"
        and heard.block.payload["attempt"] >= attempt
        and run in (None, heard.block.payload["run"])
    )


def lateness(recordings: Iterable[Recording], rate: float) -> list[float]:
    """How many seconds each piece of the script was late, if the model sends `rate` a second.

    The piece that arrived earliest, in relation to its number, counts as in time.
    """
    offsets = [
        heard.at - number / rate
        for recording in recordings
        for heard in recording.received()
        if heard.block.event == "text.delta"
        for number in pieces_in(heard)
    ]
    earliest = min(offsets, default=0.0)
    return [offset - earliest for offset in offsets]


def quantile(values: Sequence[float], part: float) -> float:
    """The value that this share of all values does not exceed. A `part` of 0.95 gives the p95."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
