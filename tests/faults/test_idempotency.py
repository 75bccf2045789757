"""Requests that are sent again under their Idempotency-Key: done once, and answered alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import httpx

from tests.faults.conftest import Judge, Size, Stacks
from tests.support.many_followers import following
from tests.support.stack import Stack
from tests.support.visitor import AcceptedRun, Visitor, script
from tests.support.waiting import until

AT_ONCE = 50  # equal requests
TALKS = "/api/conversations/"


async def repeated(
    visitors: Sequence[Visitor], path: str, body: dict[str, str], key: str
) -> list[httpx.Response]:
    """The answers to one request that is sent many times at once; a broken one has none."""
    answers = await asyncio.gather(
        *(
            visitors[n % len(visitors)].http.post(path, json=body, headers={"Idempotency-Key": key})
            for n in range(AT_ONCE)
        ),
        return_exceptions=True,
    )
    given = [answer for answer in answers if isinstance(answer, httpx.Response)]
    assert all(isinstance(answer, httpx.Response | httpx.HTTPError) for answer in answers)
    # 409: the first of them is still in progress.
    assert {answer.status_code for answer in given} <= {202, 409}
    return [answer for answer in given if answer.status_code == 202]


def are_one(answers: list[httpx.Response]) -> None:
    """All responses are equal, and all but the first are marked as replayed."""
    assert len({answer.content for answer in answers}) == 1
    first = [answer for answer in answers if "Idempotency-Replayed" not in answer.headers]
    assert len(first) <= 1


async def restart(stack: Stack) -> None:
    for web in stack.webs:
        web.kill()
        web.start()
    for web in stack.webs:
        await stack.ready(web)


async def test_fifty_equal_requests_at_once_are_one_also_after_a_restart(
    stacks: Stacks, judge: Judge
) -> None:
    async with stacks(webs=2) as stack:
        visitor = await stack.visitor()
        both = [visitor, visitor.at(stack.ports[stack.webs[1].name])]
        asked: list[AcceptedRun] = []
        message = script(tokens=60, rate=30, seed=1)
        answers = await repeated(both, TALKS, {"message": message}, "begin")
        asked.append(AcceptedRun.of(answers[0], message))
        again = script(tokens=20, rate=30, seed=2)
        path = f"{TALKS}{asked[0].conversation}/messages/"
        interrupting = {"message": again, "when_busy": "interrupt"}
        more = await repeated(both, path, interrupting, "interrupt")
        asked.append(AcceptedRun.of(more[0], again))
        await restart(stack)
        answers += await repeated(both, TALKS, {"message": message}, "begin")
        more += await repeated(both, path, interrupting, "interrupt")
        are_one(answers)
        are_one(more)
        assert len(more) >= AT_ONCE  # those after the restart at least
        headers = {"Idempotency-Key": "begin"}
        other = await visitor.http.post(TALKS, json={"message": "Else"}, headers=headers)
        assert other.status_code == 422
        readers = [visitor.follower(asked[0].conversation, cursor=0) for _ in range(2)]
        async with following(readers, within=60):
            pass
        assert len(await visitor.conversations()) == 1
        report = await judge(visitor, asked, readers)
        assert report.clean, report
        messages = (await visitor.conversation(asked[0].conversation))["messages"]
        assert [m["content"] for m in messages if m["role"] == "user"] == [message, again]
        assert (await visitor.run(asked[1].run))["status"] == "completed"
        await both[1].close()


async def test_a_crash_among_equal_requests_leaves_no_key_half_used(
    stacks: Stacks, judge: Judge, size: Size[int], chance: random.Random
) -> None:
    async with stacks() as stack:
        visitor = await stack.visitor(stack.web)
        asked: list[AcceptedRun] = []
        for number in range(size(5, 30)):
            message = script(tokens=5, seed=number)
            body, key = {"message": message}, f"crash-{number}"
            crowd = asyncio.create_task(repeated([visitor], TALKS, body, key))
            await asyncio.sleep(chance.uniform(0, 0.3))  # wherever that happens to be
            await restart(stack)
            answers = await crowd + await repeated([visitor], TALKS, body, key)
            are_one(answers)
            asked.append(AcceptedRun.of(answers[0], message))
        assert len(await visitor.conversations()) == len(asked)
        readers = [visitor.follower(one.conversation, cursor=0) for one in asked]
        async with following(readers, within=60):
            pass
        report = await judge(visitor, asked, readers)
        assert report.clean, report


async def test_repeats_that_wait_for_one_run_share_its_looks(
    stacks: Stacks, size: Size[int]
) -> None:
    """A web process spends the same on the run, however many requests wait for its end."""
    count, seconds = size(150, 1500), size(3, 10)
    async with stacks(also={"MAX_REPEATS": "5000"}) as stack:
        visitor = await stack.visitor()
        message = script(tokens=2, first=60)
        headers = {"Idempotency-Key": "waits", "Prefer": "wait=60"}
        async with httpx.AsyncClient(
            base_url=visitor.http.base_url,
            headers={**visitor.http.headers, **headers},
            cookies=visitor.http.cookies,
            limits=httpx.Limits(max_connections=count + 1),
            timeout=120,
            trust_env=False,
        ) as http:
            waiting = [asyncio.create_task(http.post(TALKS, json={"message": message}))]
            await until(
                lambda: stack.model.stats()["requests"], within=20, what="the model's request"
            )
            alone = await processor_during(stack, seconds)
            for _ in range(count - 1):
                waiting.append(asyncio.create_task(http.post(TALKS, json={"message": message})))
                await asyncio.sleep(0.01)
            # The web process answers in order, so it has taken in all requests before this one.
            body = {"message": message}
            last = await http.post(TALKS, json=body, headers={"Prefer": ""}, timeout=60)
            assert last.status_code == 202
            while await processor_during(stack, 0.5) > 0.2:
                pass  # the last of them may still be in a thread
            beside = await processor_during(stack, seconds)
            assert not any(one.done() for one in waiting)
            [asked] = await visitor.conversations()
            snapshot = await visitor.conversation(asked["id"])
            await visitor.cancel(snapshot["runs"][0]["id"])
            answers = await asyncio.gather(*waiting)
    print(f"{alone:.3f} of a core for 1 request, {beside:.3f} for {count}")
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert beside <= alone + 0.05


async def processor_during(stack: Stack, seconds: float) -> float:
    """The share of a core that the web process uses."""
    before = stack.web.processor()
    await asyncio.sleep(seconds)
    return (stack.web.processor() - before) / seconds
