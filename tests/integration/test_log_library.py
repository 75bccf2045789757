"""The log's library of Redis Functions: which process it belongs to, versions, expiries, cost."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.log import servers
from streams.log.errors import LogFull
from streams.log.event_log import EventLog
from streams.log.library import LIBRARY, Library
from streams.log.servers import Servers
from streams.log.values import Page
from tests.integration.support.logged_run import Clock, LoggedRun
from tests.support.ports import HOST
from tests.support.valkey import Valkey


async def started(folder: Path, name: str) -> Valkey:
    server = Valkey(folder, folder / f"{name}.log", name=name)
    server.start()
    await server.answers()
    return server


def logged_on(server: Valkey, logged: LoggedRun | None = None) -> LoggedRun:
    """A run on this server; `logged` is the same run on another one."""
    client = redis.Redis(host=HOST, port=server.port, decode_responses=True, protocol=2)
    there = LoggedRun(client)
    if logged:
        there.channel, there.run = logged.channel, logged.run
    return there


def libraries(valkey: "redis.Redis") -> set[str]:
    rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in valkey.function_list()]
    return {row["library_name"] for row in rows}


async def test_a_promoted_replica_and_a_restarted_process_are_other_processes(
    tmp_path: Path,
) -> None:
    """The library is copied and kept with the data; what it knows of its process is not."""
    primary = await started(tmp_path, "primary")
    replica = await started(tmp_path, "replica")
    try:
        first = logged_on(primary)
        first.start()
        assert isinstance(first.append(first.delta(0))[0], int)
        await replica.replicate(primary)
        await replica.promote()
        promoted = logged_on(replica, first)
        assert promoted.append(promoted.delta(1)) == ["LogUnverified"]
        (head,) = first.append(first.delta(1))
        assert isinstance(head, int)
        promoted.verify(head - 1)
        assert promoted.append(promoted.delta(1)) == [head]
        await primary.client.execute_command("WAITAOF", 1, 0, 5000)
        primary.kill()
        primary.start()
        await primary.answers()
        restarted = logged_on(primary, first)
        assert restarted.append(restarted.delta(2)) == ["LogUnverified"]
        restarted.verify(head)
        assert restarted.append(restarted.delta(2)) == [head + 1]
    finally:
        for server in (primary, replica):
            await server.client.aclose()
            server.kill()


def test_two_versions_stand_side_by_side_and_each_process_calls_its_own(
    valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    valkey.function_flush()
    begin = "register('append', function()\n"
    assert begin in LIBRARY.operations
    refuse = f"{begin}  do return {{'superseded'}} end\n"
    newer = Library(LIBRARY.operations.replace(begin, refuse))
    logged = LoggedRun(valkey)
    head = logged.start()
    for index in range(3):
        monkeypatch.setattr(servers, "LIBRARY", newer)
        assert logged.append(logged.delta(index)) == ["Superseded"]
        monkeypatch.setattr(servers, "LIBRARY", LIBRARY)
        assert logged.append(logged.delta(index)) == [head + 1 + index]
    assert libraries(valkey) == {LIBRARY.name, newer.name}


def test_a_library_that_another_process_loads_meanwhile_is_used(
    logged: LoggedRun, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    load = servers._load_library

    def load_twice(client: "redis.Redis") -> None:
        load(client)
        load(client)

    monkeypatch.setattr(servers, "_load_library", load_twice)
    valkey.function_flush()
    assert isinstance(logged.start(), int)


def test_an_emptied_redis_keeps_the_library(logged: LoggedRun, valkey: "redis.Redis") -> None:
    logged.start()
    valkey.flushall()
    assert LIBRARY.name in libraries(valkey)


def test_a_piece_runs_five_commands_in_redis(logged: LoggedRun, valkey: "redis.Redis") -> None:
    logged.start()
    logged.append(logged.delta(0))
    valkey.config_resetstat()
    logged.append(*map(logged.delta, range(1, 64)))
    stats = valkey.info("commandstats")
    calls = Counter({name.removeprefix("cmdstat_"): told["calls"] for name, told in stats.items()})
    assert calls.pop("fcall") == 63
    del calls["config|resetstat"]
    assert calls == dict.fromkeys(("hmget", "xadd", "hset", "publish", "append"), 63)


async def test_a_piece_writes_at_most_700_bytes_of_the_append_only_file(tmp_path: Path) -> None:
    server = await started(tmp_path, "measured")
    try:
        logged = logged_on(server)
        logged.start()
        logged.append(logged.delta(0))
        before = (await server.client.info("persistence"))["aof_current_size"]
        logged.append(*map(logged.delta, range(1, 201)))
        after = (await server.client.info("persistence"))["aof_current_size"]
        assert (after - before) / 200 <= 700
    finally:
        await server.client.aclose()
        server.kill()


def test_a_piece_renews_the_expiries_once_in_a_64th_of_their_time_and_an_ending_does(
    valkey: "redis.Redis", settings: Any
) -> None:
    settings.LOG_TTL = 6400
    clock = Clock()
    logged = LoggedRun(valkey, clock)
    events, state = (f"{{{logged.channel}}}:{name}" for name in ("events", "state"))
    logged.start()

    def renewed(*, after: int) -> bool:
        """Whether the next call renews both, so many seconds after the call before."""
        clock.now += after * 1_000_000
        for key in (events, state):
            valkey.expire(key, 50)
        logged.append(logged.delta(next(indexes)))
        found = {valkey.ttl(key) > 50 for key in (events, state)}
        assert len(found) == 1
        return found.pop()

    indexes = iter(range(1000))
    found = [renewed(after=40) for _ in range(8)]  # a 64th is 100 s
    assert found == [False, False, True, False, False, True, False, False]
    for key in (events, state):
        valkey.expire(key, 50)
    logged.append_final("".join(f"w{index} " for index in range(8)))
    assert valkey.ttl(events) == 6400
    assert valkey.ttl(state) > 6400


def test_pieces_keep_a_long_log_trimmed(valkey: "redis.Redis", settings: Any) -> None:
    settings.LOG_EVENTS = 300
    logged = LoggedRun(valkey)
    logged.start()
    for first in range(0, 2000, 100):
        logged.append(*map(logged.delta, range(first, first + 100)))
        # Redis trims whole nodes of 100 entries.
        assert valkey.xlen(f"{{{logged.channel}}}:events") <= 300 + 100 + 64


def test_a_full_redis_can_be_read_and_loses_what_is_deleted(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    head = logged.start()
    logged.append(logged.delta(0))
    other = LoggedRun(valkey)
    other.start()
    valkey.config_set("maxmemory", "1")
    try:
        with pytest.raises(LogFull):
            logged.append(logged.delta(1))
        assert logged.types(head) == ["text.delta"]
        assert logged.at().state() is not None
        logged.at().release_run(logged.run)
        other.at().delete()
    finally:
        valkey.config_set("maxmemory", "0")
    assert set(valkey.keys()) == {
        f"{{{logged.channel}}}:{name}" for name in ("state", "events")
    } | {f"{{{other.channel}}}:state"}


def test_a_call_reads_nothing_of_the_call_before(valkey: "redis.Redis") -> None:
    """All operations of a server process share the library's variables."""
    clock = Clock()
    one, two = LoggedRun(valkey, clock), LoggedRun(valkey, clock)
    log = EventLog(Servers(valkey, clock))
    starts = {each: each.start() for each in (one, two)}
    for index in range(3):
        ids = log.append([one.delta(index), two.delta(index)])
        assert ids == [starts[one] + 1 + index, starts[two] + 1 + index]
    for each in (one, two):
        page = each.at().read_after(starts[each])
        assert isinstance(page, Page)
        assert all(str(each.run) in data for _, _, data in page.entries)
