"""Bodies that cost much: they are refused by their length or shape, and nothing stays of them."""

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pydantic
import pytest
from asgiref.sync import sync_to_async
from django.http import HttpRequest
from ninja.errors import HttpError, ValidationError

from streams.http.request_limits import max_bytes
from streams.models import Conversation
from tests.integration.support.api_client import ApiClient, conversation, run
from tests.integration.support.handler import Connection
from tests.support.hostile_requests import BODIES

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
BEGIN = "/api/conversations/"
SWITCH = 0.001  # seconds
WITHIN = 60.0  # seconds, on a busy machine
LAG = 0.02  # seconds of this process's work that the loop may wait for a body


@pytest.fixture
async def browser() -> ApiClient:
    return await sync_to_async(ApiClient)()


Kept = Callable[[], list[object]]


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Return what the test's requests left in memory. No collection runs, so cycles stay.

    Other tests of this process may keep errors of their own, so only new objects count.
    """
    gc.collect()
    gc.disable()
    before = {id(one): one for one in gc.get_objects() if _is_of_a_request(one)}
    yield lambda: [
        one for one in gc.get_objects() if _is_of_a_request(one) and id(one) not in before
    ]
    gc.enable()


def _is_of_a_request(one: object) -> bool:
    kind = type(one)  # `isinstance` would wake what is made when it is asked for
    if issubclass(kind, HttpRequest):
        return bool(vars(one).get("_body"))
    return issubclass(kind, (pydantic.ValidationError, ValidationError, HttpError))


@pytest.fixture
def interval() -> Iterator[None]:
    """Threads take turns as often as in the web process."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    yield
    sys.setswitchinterval(before)


async def posted(browser: ApiClient, path: str, body: bytes, **headers: str) -> Connection:
    asked = Connection(
        browser, path, body=body, **{"x-csrftoken": browser.csrf["X-CSRFToken"], **headers}
    )
    await asyncio.wait_for(asked.task, WITHIN)
    return asked


@pytest.mark.parametrize("name", BODIES)
async def test_a_hostile_body_is_refused(browser: ApiClient, name: str) -> None:
    asked = await posted(browser, BEGIN, BODIES[name])
    assert asked.status in (400, 422)
    assert len(asked.body) < 20_000
    assert not await Conversation.objects.aexists()


async def test_a_nested_body_gets_its_field_errors(browser: ApiClient) -> None:
    asked = await posted(browser, BEGIN, BODIES["objects"])
    assert (asked.status, b'"invalid_request"' in asked.body) == (422, True)
    assert b"outside of its strings" in asked.body


async def test_a_body_longer_than_its_route_allows_is_refused_unread(browser: ApiClient) -> None:
    made = await sync_to_async(browser.begin)()
    where = conversation(made["conversation"])
    for path in (BEGIN, f"{where}messages/", f"{run(made['run'])}retry/", f"{where}nowhere/"):
        fits = await posted(browser, path, b'{"a":"' + b"x" * (max_bytes(path) - 8) + b'"}')
        assert fits.status in (404, 422)
        announced = {"content-length": str(max_bytes(path) + 1)}
        asked = await posted(browser, path, b"what is never asked for", **announced)
        told = asked.body.decode()
        assert (asked.status, "body_too_large" in told) in ((413, True), (404, False))
        assert path.endswith("nowhere/") or asked.status == 413


async def test_a_refused_request_leaves_nothing_in_memory(browser: ApiClient, kept: Kept) -> None:
    for body in (b'{"message": [{}]}', b'{"mess', b'{"message": "?", "more": 1}', b"[" * 2000):
        assert (await posted(browser, BEGIN, body)).status in (400, 422)
    assert kept() == []


async def test_the_body_of_an_accepted_request_leaves_nothing_in_memory(
    browser: ApiClient, kept: Kept
) -> None:
    assert (await posted(browser, BEGIN, b'{"message": "Why?"}')).status == 202
    assert kept() == []


async def test_no_body_blocks_the_event_loop(browser: ApiClient, interval: None) -> None:
    waits: list[float] = []

    async def probe() -> None:
        # By this process's own time: what other processes take of the machine does not count.
        while True:
            begun = time.process_time()
            await asyncio.sleep(0.001)
            waits.append(time.process_time() - begun)

    await posted(browser, BEGIN, b"{}")  # what is made once is there
    probing = asyncio.create_task(probe())
    for name, body in BODIES.items():
        longest: list[float] = []
        for _ in range(3):  # the least counts, because other threads of this process work, too
            waits.clear()
            await posted(browser, BEGIN, body)
            longest.append(max(waits))
        assert min(longest) < LAG, name
    probing.cancel()
    with suppress(asyncio.CancelledError):
        await probing
