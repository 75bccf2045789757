"""What every acceptance test gets: sizes, one seed, stacks of real processes, and the judge.

RELEASE=1 chooses the release sizes. SEED repeats a run: every random choice comes from it.
BEHIND_PUSHPIN=1 has two Pushpins hold every reader that a test does not send elsewhere.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.checker import Truth, check
from tests.support.databases import copied, migrated
from tests.support.follower import Follower
from tests.support.npm import install
from tests.support.openai_server import expected
from tests.support.pushpin_stack import PushpinStack
from tests.support.report import Report
from tests.support.sizes import RELEASE, SEED
from tests.support.stack import Stack
from tests.support.visitor import AcceptedRun, Visitor

__all__ = ["RELEASE", "SEED"]

T = TypeVar("T")
Size = Callable[[T, T], T]
Stacks = Callable[..., AbstractAsyncContextManager[Stack]]
Judge = Callable[..., Awaitable[Report]]

BEHIND_PUSHPIN = os.environ.get("BEHIND_PUSHPIN") == "1"
CHECKED = "what the checker found"


def pytest_report_header() -> str:
    return f"acceptance: SEED={SEED}, {'release' if RELEASE else 'CI'} sizes"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "faults" in item.path.parts and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600 if RELEASE else 300))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the checker found in each test, whichever test process ran it."""
    tests = [one for those in terminalreporter.stats.values() for one in those]
    calls = [one for one in tests if getattr(one, "when", "") == "call"]
    found = [line for one in calls for name, line in one.user_properties if name == CHECKED]
    if found:
        terminalreporter.section(CHECKED)
    for line in found:
        terminalreporter.write_line(line)


@pytest.fixture
def size() -> Size[Any]:
    """`size(10, 100)`: as many as CI has time for, or as a release is held to."""
    return lambda ci, release: release if RELEASE else ci


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """This test's own share of the one seed, whichever tests run beside it."""
    return random.Random(f"{SEED}/{request.node.name}")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | str]:
    with migrated(tmp_path_factory.mktemp("migrated")) as made:
        yield made


@pytest.fixture(scope="session")
def npm_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("npm"))


@pytest.fixture
def stacks(database: Path | str, tmp_path: Path) -> Stacks:
    """`async with stacks(webs=2) as stack`: see `Stack` for the wishes, or wish for `pushpin`."""
    numbers = count()

    @asynccontextmanager
    async def one(
        *, pushpin: bool = BEHIND_PUSHPIN, also: Mapping[str, str] | None = None, **wishes: Any
    ) -> AsyncIterator[Stack]:
        chosen = PushpinStack.shared_settings() if pushpin else {}
        wishes["also"] = {**chosen, **(also or {})}
        async with AsyncExitStack() as parts:
            own = parts.enter_context(copied(database))
            directory = tmp_path / f"stack{next(numbers)}"
            stack = await parts.enter_async_context(Stack(directory, own, **wishes))
            if pushpin:
                gripped = PushpinStack(stack, chosen, pushpins=2, bridges=2)
                await parts.enter_async_context(gripped)
            yield stack

    return one


@asynccontextmanager
async def shared_stack(
    database: Path | str, factory: pytest.TempPathFactory, **wishes: Any
) -> AsyncIterator[Stack]:
    """A stack for all tests of a module that break nothing: see `Stack` for the wishes."""
    with copied(database) as own:
        async with Stack(factory.mktemp("shared") / "stack", own, **wishes) as stack:
            await stack.warm()
            yield stack


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Read the database, run the checker, and keep its report for the summary."""

    async def judged(
        visitor: Visitor,
        asked: Iterable[AcceptedRun],
        followers: Iterable[Follower],
        **known: Any,
    ) -> Report:
        runs: dict[str, list[AcceptedRun]] = {}
        for one in asked:
            runs.setdefault(one.conversation, []).append(one)
        truths = {
            conversation: Truth(
                conversation=await visitor.conversation(conversation),
                runs={one.run: await visitor.run(one.run) for one in those},
                scripts={one.run: expected(one.script) for one in those},
            )
            for conversation, those in runs.items()
        }
        recordings = [follower.recording for follower in followers]
        report = check(request.node.name, recordings, truths, **known)
        request.node.user_properties.extend(
            (CHECKED, line) for line in (str(report), report.json())
        )
        return report

    return judged
