"""Secrets stay out of logs and files, and forged tasks do no harm."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from tests.faults.conftest import Stacks
from tests.support.many_followers import following
from tests.support.stack import Stack
from tests.support.stack_settings import KEY
from tests.support.visitor import AcceptedRun, Visitor, script
from tests.support.waiting import POLL_INTERVAL

CANARY = "canary-4c1d-prompt"
FAULTS = ("refuse", "context", "401", "429", "500", "reset", "cut", "truncated", "error", "silence")
TASK = "workers.tasks.generate"


def said_by_all(stack: Stack) -> dict[str, str]:
    """The logs of every process but the scripted model."""
    ours = (*stack.webs, *stack.workers, stack.valkey)
    return {part.name: part.log.read_text(errors="replace") for part in ours}


def forms(secret: str) -> set[str]:
    """How it may be written."""
    return {
        secret,
        base64.b64encode(secret.encode()).decode().rstrip("="),
        json.dumps(secret)[1:-1],
        secret.encode().hex(),
    }


async def refused(visitor: Visitor, secret: str) -> list[str]:
    """What is answered to requests that each have something wrong with them, and a secret in it."""
    headers = {"Authorization": f"Bearer {secret}"}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"/api/conversations/?after={secret}", {"headers": headers}),
        ("GET", f"/api/conversations/{uuid4()}/events/?token={secret}", {}),
        ("POST", "/api/conversations/", {"content": f'{{"message": "{secret}'}),
        ("POST", "/api/conversations/", {"json": {"message": secret, "model": "other"}}),
        ("POST", "/api/conversations/", {"headers": {"X-CSRFToken": secret}, "json": {}}),
        ("POST", f"/accounts/login/?next={secret}", {"data": {"login": "x", "password": secret}}),
        ("PUT", f"/nowhere?{secret}", {"headers": {"X-Request-ID": f"{secret} {secret}"}}),
    ]
    answers = [await visitor.http.request(method, path, **sent) for method, path, sent in asked]
    assert max(answer.status_code for answer in answers) < 500
    return [answer.text for answer in answers]


async def test_no_secret_is_in_a_log_or_a_file(stacks: Stacks) -> None:
    """At debug level, over every fault of the model, a dead worker and an absent Redis."""
    settings = {
        "LOG_LEVEL": "DEBUG",
        "MODEL_READ_TIMEOUT": "1",
        "LOG_JSON": "true",
        "RUN_LEASE": "3",
    }
    async with stacks(also=settings) as stack:
        visitor = await stack.visitor()
        session = visitor.http.cookies["sessionid"]
        asked: list[AcceptedRun] = []
        for fault in FAULTS:
            wish = {"fault": fault, "fault_at": 3 if not fault.isdigit() else 0}
            text = script(text=[CANARY] * 6, seed=f"{CANARY}-{fault}", **wish)
            asked.append(await visitor.ask(text, title=CANARY))
        asked.append(await visitor.ask(script(tokens=300, rate=50, seed=CANARY)))
        followers = [visitor.follower(one.conversation, cursor=one.cursor) for one in asked]
        async with following(followers, within=90):
            stack.worker.kill()
            rung = [task for _, task in await stack.valkey.queued_tasks()]
            await stack.add_worker()
            reports = [await refused(visitor, CANARY)]
        stack.valkey.kill()
        answer = await visitor.http.post("/api/conversations/", json={"message": CANARY})
        assert answer.status_code == 202
        stack.valkey.start()
        await stack.valkey.answers()
        reports.append([json.dumps(await visitor.run(one.run)) for one in asked])
        words = said_by_all(stack)
        assert all("DEBUG" in words[part.name] for part in (stack.web, stack.worker))
        for name, text in words.items():
            for secret in (CANARY, KEY, session, visitor.http.cookies["csrftoken"]):
                for form in forms(secret):
                    at = text.find(form)
                    assert at < 0, (name, text[max(0, at - 400) : at + 100])
        rung += [task for _, task in await stack.valkey.queued_tasks()]
        for task in rung:
            for secret in (CANARY, KEY, session):
                assert not any(form.encode() in task for form in forms(secret))
        for text in [text for said in reports for text in said]:
            assert KEY not in text
            assert session not in text


async def test_no_model_error_quotes_the_prompt_or_the_key(stacks: Stacks) -> None:
    async with stacks() as stack:
        visitor = await stack.visitor()
        for fault in ("context", "401", "404", "500"):
            one = await visitor.ask(script(fault=fault, seed=CANARY))
            follower = visitor.follower(one.conversation)
            async with following([follower], within=60):
                pass
            run = await visitor.run(one.run)
            assert run["status"] == "failed"
            assert CANARY not in json.dumps(run["error"])
            assert KEY not in json.dumps(run)


def forged(call: object, /, **also: Any) -> str:
    """A task as a broker holds it, with one fault."""
    id = secrets.token_hex(16)
    message: dict[str, Any] = {
        "body": base64.b64encode(json.dumps(call).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": TASK,
            "id": id,
            "root_id": id,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": "{}",
            "origin": "evil",
        },
        "properties": {
            "correlation_id": id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "unspool"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": secrets.token_hex(16),
        },
    }
    headers = message["headers"] | also.pop("headers", {})
    return json.dumps(message | also | {"headers": headers})


def forgeries() -> Iterator[str]:
    """Tasks that no worker should run."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    for args in ([], ["no uuid"], [None], [{"$": 1}], [["x"] * 100], ["a", "b"], ["\ud800"]):
        yield forged([args, {}, embed])
    yield forged([[], {"run": "x", "other": 1}, embed])
    yield forged([[f"{0:032x}"], {}, embed])  # a run that there is not
    yield forged("not three parts")
    yield forged([1, 2, 3])
    yield forged({"args": []})
    yield forged([[], {}, embed], headers={"task": "os.system"})
    yield forged([[], {}, embed], headers={"task": None})
    yield forged([[], {}, embed], headers={"eta": "no time", "expires": "never"})
    yield forged([["x"], {}, embed], headers={"asked_by": {"not": "sane"}})
    pickled = base64.b64encode(b"cos\nsystem\n(S'touch pwned'\ntR.").decode()
    yield forged([], **{"content-type": "application/x-python-serialize", "body": pickled})


def garbage() -> Iterator[str | bytes]:
    """Messages that are no task, or whose envelope or body cannot be read."""
    ring: dict[str, Any] = json.loads(forged([[], {}, None]))
    yield from (
        "garbage",
        "",
        "{",
        "null",
        "[]",
        "1",
        '"text"',
        "{}",
        b"\xff\x00\xfe",
        "[" * 100_000,
    )
    wrong: object
    for part in ("properties", "headers", "body", "content-type", "content-encoding"):
        yield json.dumps({name: value for name, value in ring.items() if name != part})
        for wrong in (None, 1, "text", [], {}, {"task": TASK}):
            yield json.dumps(ring | {part: wrong})
    for name in ring["properties"]:
        for wrong in (None, -1, "text", [], {"$": 1}):
            yield json.dumps(ring | {"properties": ring["properties"] | {name: wrong}})
    for name in ring["headers"]:
        for wrong in (None, float("inf"), "text", [], {"$": 1}, [1, 2, 3]):
            yield json.dumps(ring | {"headers": ring["headers"] | {name: wrong}})
    for body in ("no base64!", base64.b64encode(b"no json").decode(), "AAAA"):
        yield json.dumps(ring | {"body": body})
    for call in ("[" * 100_000, '[[{"__type__": "decimal", "__value__": "x"}], {}, {}]'):
        yield json.dumps(ring | {"body": base64.b64encode(call.encode()).decode()})
    for encoding in ("zip", "utf-16", "no such encoding"):
        yield json.dumps(ring | {"content-encoding": encoding})
        yield json.dumps(ring | {"headers": ring["headers"] | {"compression": encoding}})


async def test_forged_tasks_and_garbage_leave_the_worker_alive(stacks: Stacks) -> None:
    """More of them than the worker takes at once: each must give its place back."""
    async with stacks(also={"WORKER_CONCURRENCY": "4"}) as stack:
        visitor = await stack.visitor()
        for task in (*forgeries(), *garbage()):
            await stack.valkey.client.lpush("unspool", task)
        async with asyncio.timeout(60):
            while await stack.valkey.client.llen("unspool"):
                assert stack.worker.running
                await asyncio.sleep(POLL_INTERVAL)
        one = await visitor.ask(script(tokens=5))
        follower = visitor.follower(one.conversation, cursor=one.cursor)
        async with following([follower], within=30):
            pass
        assert (await visitor.run(one.run))["status"] == "completed"
        assert stack.worker.running
        assert "Connected to" in stack.worker.log.read_text().split("ready.")[0]
        assert "Connected to" not in stack.worker.log.read_text().split("ready.")[1]
        assert not await stack.valkey.client.exists("unacked")
        assert not (stack.web.directory / "pwned").exists()
