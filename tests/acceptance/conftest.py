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

from tests.acceptance.checker import Truth, check
from tests.acceptance.database import copied, migrated
from tests.acceptance.follower import Follower
from tests.acceptance.gripped import Gripped
from tests.acceptance.npm import install
from tests.acceptance.report import Report
from tests.acceptance.stack import Stack
from tests.acceptance.visitor import Asked, Visitor
from tests.openai_server import expected

T = TypeVar("T")
Size = Callable[[T, T], T]
Stacks = Callable[..., AbstractAsyncContextManager[Stack]]
Judge = Callable[..., Awaitable[Report]]

RELEASE = os.environ.get("RELEASE") == "1"
BEHIND_PUSHPIN = os.environ.get("BEHIND_PUSHPIN") == "1"
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))
REPORTS = pytest.StashKey[list[Report]]()


def pytest_report_header() -> str:
    return f"acceptance: SEED={SEED}, {'release' if RELEASE else 'CI'} sizes"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "acceptance" in item.path.parts and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600 if RELEASE else 300))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = config.stash.get(REPORTS, [])
    if reports:
        terminalreporter.section("what the checker found")
    for report in reports:
        terminalreporter.write_line(str(report))
        terminalreporter.write_line(report.json())


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
        chosen = Gripped.chosen() if pushpin else {}
        wishes["also"] = {**chosen, **(also or {})}
        async with AsyncExitStack() as parts:
            own = parts.enter_context(copied(database))
            directory = tmp_path / f"stack{next(numbers)}"
            stack = await parts.enter_async_context(Stack(directory, own, **wishes))
            if pushpin:
                gripped = Gripped(stack, chosen, pushpins=2, bridges=2)
                await parts.enter_async_context(gripped)
            yield stack

    return one


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Ask the database, hand everything to the checker, and keep its report for the summary."""

    async def judged(
        visitor: Visitor,
        asked: Iterable[Asked],
        followers: Iterable[Follower],
        **known: Any,
    ) -> Report:
        runs: dict[str, list[Asked]] = {}
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
        request.config.stash.setdefault(REPORTS, []).append(report)
        return report

    return judged
