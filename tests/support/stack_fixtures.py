"""Fixtures for tests with real processes: sizes, random choices and stacks.

With BEHIND_PUSHPIN=1, two Pushpins hold all readers that a test does not connect elsewhere.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.databases import copied, migrated
from tests.support.pushpin_stack import PushpinStack
from tests.support.sizes import RELEASE, SEED
from tests.support.stack import Stack

T = TypeVar("T")
Size = Callable[[T, T], T]
Stacks = Callable[..., AbstractAsyncContextManager[Stack]]

BEHIND_PUSHPIN = os.environ.get("BEHIND_PUSHPIN") == "1"


@pytest.fixture
def size() -> Size[Any]:
    """`size(10, 100)` is 10, or 100 in the tests of a release."""
    return lambda ci, release: release if RELEASE else ci


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """This test's random choices, which depend only on the seed and the test's name."""
    return random.Random(f"{SEED}/{request.node.name}")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | str]:
    with migrated(tmp_path_factory.mktemp("migrated")) as made:
        yield made


@pytest.fixture(scope="session")
def stacks(database: Path | str, tmp_path_factory: pytest.TempPathFactory) -> Stacks:
    """`async with stacks(webs=2) as stack`. It takes the arguments of `Stack`, and `pushpin`."""
    directory, numbers = tmp_path_factory.mktemp("stacks"), count()

    @asynccontextmanager
    async def one(
        *, pushpin: bool = BEHIND_PUSHPIN, also: Mapping[str, str] | None = None, **wishes: Any
    ) -> AsyncIterator[Stack]:
        chosen = PushpinStack.shared_settings() if pushpin else {}
        wishes["also"] = {**chosen, **(also or {})}
        async with AsyncExitStack() as parts:
            own = parts.enter_context(copied(database))
            place = directory / f"stack{next(numbers)}"
            stack = await parts.enter_async_context(Stack(place, own, **wishes))
            if pushpin:
                gripped = PushpinStack(stack, chosen, pushpins=2, bridges=2)
                await parts.enter_async_context(gripped)
            yield stack

    return one


@asynccontextmanager
async def shared_stack(stacks: Stacks, **wishes: Any) -> AsyncIterator[Stack]:
    """A warm stack for all tests of a module that break nothing."""
    async with stacks(pushpin=False, **wishes) as stack:
        await stack.warm()
        yield stack
