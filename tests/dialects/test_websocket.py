"""The WebSocket: the stream's events as frames, and what a client asks over it."""

from __future__ import annotations

import asyncio
import random
from uuid import uuid4

import httpx
import pytest
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode

from tests.support.checker import check
from tests.support.many_followers import following
from tests.support.ports import HOST
from tests.support.script import expected
from tests.support.socket_client import SocketClient, SocketFollower, opened, unread_socket
from tests.support.stack import Stack
from tests.support.tcp_proxy import Proxy
from tests.support.truths import truths
from tests.support.visitor import Visitor, script

pytestmark = pytest.mark.asyncio(loop_scope="session")
LONG = script(tokens=2000, rate=50)
SHORT = script(tokens=40, rate=40)
QUEUED = {"when_busy": "queue"}


async def ended(visitor: Visitor, run: str) -> dict[str, object]:
    while (now := await visitor.run(run))["status"] in ("queued", "running"):
        await asyncio.sleep(0.02)
    return now


async def test_sockets_that_are_cut_receive_what_a_stream_receives(
    visitor: Visitor, chance: random.Random
) -> None:
    asked = await visitor.ask(script(tokens=300, rate=100))
    async with Proxy((HOST, visitor.port)) as proxy:
        sockets = [
            SocketFollower(visitor, asked.conversation, port=proxy.port, cursor=cursor)
            for cursor in (None, 0, asked.cursor)
        ]
        streams = [visitor.follower(asked.conversation, cursor=cursor) for cursor in (None, 0)]
        for _ in range(60):
            proxy.cut_next_answer_after(chance.randrange(1, 4000), reset=chance.random() < 0.5)
        async with following(streams, within=60), asyncio.timeout(60):
            recordings = await asyncio.gather(*(socket.follow() for socket in sockets))
    recordings += [stream.recording for stream in streams]
    # The checker compares the bytes of the same event in different recordings.
    report = check("sockets", recordings, await truths(visitor, asked))
    assert report.clean, report
    assert min(len(one.connections) for one in recordings[:3]) > 3


async def test_a_socket_without_a_cursor_begins_with_a_snapshot(visitor: Visitor) -> None:
    asked = await visitor.ask(SHORT)
    await ended(visitor, asked.run)
    async with opened(visitor, asked.conversation) as client:
        assert (await client.receive()).type == "retry"
        snapshot = await client.receive()
    assert snapshot.data == await visitor.conversation(asked.conversation)
    assert (snapshot.type, snapshot.id) == ("conversation.snapshot", snapshot.data["cursor"])


async def test_the_last_id_may_be_in_the_header_or_the_query(visitor: Visitor) -> None:
    asked = await visitor.ask(SHORT)
    await ended(visitor, asked.run)
    channel = f"conversation-{asked.conversation}:{asked.cursor}"
    received, texts = [], []
    for query in (f"?until=idle&lastEventId={asked.cursor}", f"?until=idle&lastEventId={channel}"):
        async with opened(visitor, asked.conversation, query) as client:
            assert await client.closed() == (1012, "reconnect")
        received.append([frame.text for frame in client.frames if frame.id])
        texts.append("".join(f.data["text"] for f in client.frames if f.type == "text.delta"))
    headers = {"Last-Event-ID": str(asked.cursor), **visitor.credentials()}
    async with opened(visitor, asked.conversation, "?until=idle", headers=headers) as client:
        assert await client.closed() == (1012, "reconnect")
    received.append([frame.text for frame in client.frames if frame.id])
    assert texts == [expected(SHORT)] * 2
    assert received[0] == received[1] == received[2]


async def test_a_reader_that_has_everything_is_told_so_at_once(visitor: Visitor) -> None:
    asked = await visitor.ask(SHORT)
    await ended(visitor, asked.run)
    tip = (await visitor.conversation(asked.conversation))["cursor"]
    async with opened(visitor, asked.conversation, f"?until=idle&lastEventId={tip}") as client:
        assert await client.closed() == (1000, "idle")
    assert client.frames == []


async def asked_again(client: SocketClient, text: str, key: str) -> dict[str, object]:
    await client.send("again", "message", {"message": text, **QUEUED}, key)
    return (await client.response("again")).data


async def test_a_message_is_accepted_once_for_its_key(visitor: Visitor) -> None:
    asked = await visitor.ask(SHORT)
    text, key = script(tokens=3, seed=1), uuid4().hex
    async with opened(visitor, asked.conversation) as client:
        first = await asked_again(client, text, key)
        second = await asked_again(client, text, key)
        other = await asked_again(client, "something else", key)
    assert (first["repeated"], second["repeated"]) == (False, True)
    assert first["response"] == second["response"]
    assert other["problem"]["code"] == "idempotency_key_reused"  # type: ignore[index]
    # The key is that of the HTTP call, too.
    answer = await visitor.http.post(
        f"/api/conversations/{asked.conversation}/messages/",
        json={"message": text, **QUEUED},
        headers={"Idempotency-Key": key},
    )
    assert (answer.status_code, answer.json()) == (202, first["response"])
    assert answer.headers["Idempotency-Replayed"] == "true"


async def test_the_reply_to_a_message_arrives_over_the_same_socket(visitor: Visitor) -> None:
    asked = await visitor.ask(SHORT)
    text = script(tokens=20, seed=5)
    async with opened(visitor, asked.conversation) as client:
        run = (await client.ask(text, **QUEUED)).data["response"]["run"]
        await client.wait_for_end(run)
    deltas = [one.data for one in client.frames if one.type == "text.delta"]
    assert "".join(one["text"] for one in deltas if one["run"] == run) == expected(text)
    assert (await visitor.run(run))["text"] == expected(text)


async def test_a_cancel_stops_the_run_and_may_be_repeated(visitor: Visitor) -> None:
    asked = await visitor.ask(LONG)
    async with opened(visitor, asked.conversation) as client:
        await client.wait_for_type("text.delta")
        await client.send("stop", "cancel", {"run": asked.run}, "k1")
        answer = await client.response("stop")
        await client.send("stop", "cancel", {"run": asked.run})
        again = await client.response("stop")
    assert answer.data["response"]["status"] == again.data["response"]["status"] == "cancelled"
    assert answer.data["response"]["text"] == (await visitor.run(asked.run))["text"]


async def test_refusals_are_the_problems_of_the_http_api(visitor: Visitor) -> None:
    asked = await visitor.ask(LONG)
    path = f"/api/conversations/{asked.conversation}/messages/"
    bodies = [{"message": "Now?"}, {"message": " "}, {"message": "a", "extra": 1}, {}]
    async with opened(visitor, asked.conversation) as client:
        for n, body in enumerate(bodies):
            await client.send(str(n), "message", body)
            refused = (await client.response(str(n))).data
            over_http = await visitor.http.post(path, json=body)
            assert refused["problem"] == over_http.json()
        await client.send("c", "cancel", {"run": str(uuid4())})
        assert (await client.response("c")).data["problem"]["code"] == "not_found"
    await visitor.http.post(f"/api/runs/{asked.run}/cancel/")


async def test_a_frame_that_waits_at_a_stop_is_answered_first(stack: Stack) -> None:
    web = await stack.add_web(WEB_DRAIN="60")
    visitor = await stack.visitor(web)
    asked = await visitor.ask(SHORT)
    async with opened(visitor, asked.conversation, f"?lastEventId={asked.cursor}") as client:
        await client.wait_for_type("text.delta")
        await client.send("last", "message", {"message": SHORT, **QUEUED})
        await client.response("last")
        web.terminate()
        assert await client.closed() == (1012, "reconnect")
    assert await web.ended(within=10) < 3
    assert "Traceback" not in web.log.read_text()


async def test_metrics_count_the_open_sockets(visitor: Visitor) -> None:
    async def count() -> float:
        lines = (await visitor.http.get("/metrics")).text.splitlines()
        name = 'unspool_dialect_streams{dialect="websocket"} '
        return next((float(one.removeprefix(name)) for one in lines if one.startswith(name)), 0.0)

    async def until_none() -> None:
        async with asyncio.timeout(30):
            while await count():
                await asyncio.sleep(0.02)

    asked = await visitor.ask(SHORT)
    await until_none()  # an earlier test's socket may have been closed a moment ago
    async with opened(visitor, asked.conversation) as client:
        await client.receive()
        assert await count() == 1
    await until_none()


async def test_a_dialect_that_is_turned_off_does_not_exist(stack: Stack) -> None:
    web = await stack.add_web(DIALECTS="ai-sdk")
    visitor = await stack.visitor(web)
    asked = await visitor.ask(SHORT)
    path = f"/api/conversations/{asked.conversation}/socket/"
    assert (await visitor.http.get(path)).status_code == 404
    with pytest.raises(Exception, match="404"):
        async with opened(visitor, asked.conversation):
            pass
    web.kill()


async def test_a_plain_request_is_told_to_upgrade(visitor: Visitor) -> None:
    path = f"/api/conversations/{uuid4()}/socket/"
    answers: list[httpx.Response] = [
        await visitor.http.request(method, path) for method in ("GET", "HEAD", "POST", "DELETE")
    ]
    assert [answer.status_code for answer in answers] == [426, 426, 405, 405]
    assert answers[0].headers["Upgrade"] == "websocket"


async def test_the_server_closes_a_socket_whose_client_answers_no_ping(stack: Stack) -> None:
    web = await stack.add_web(STREAM_HEARTBEAT="0.3", STREAM_WRITE_TIMEOUT="0.5")
    visitor = await stack.visitor(web)
    asked = await visitor.ask(SHORT)
    async with opened(visitor, asked.conversation) as client:
        protocol = client.connection.protocol
        send = protocol.send_frame

        def send_no_pong(frame: WireFrame) -> None:
            if frame.opcode is not Opcode.PONG:
                send(frame)

        protocol.send_frame = send_no_pong  # type: ignore[method-assign]
        assert await client.closed() == (4408, "no pong")
    web.kill()


async def test_pongs_for_a_client_that_does_not_read_take_no_memory(
    stack: Stack, visitor: Visitor
) -> None:
    asked = await visitor.ask(SHORT)
    reading, writing = await unread_socket(visitor, asked.conversation)
    await reading.readuntil(b"\r\n\r\n")  # no frame may come before the handshake's response
    before = stack.web.memory()
    ping = WireFrame(Opcode.PING, b"x" * 125).serialize(mask=True)
    for _ in range(200):
        writing.write(ping * 1000)  # 26 MB in all
        await writing.drain()
    assert stack.web.memory() < before + 10_000_000
    writing.transport.abort()
