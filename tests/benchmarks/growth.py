"""The cost of ten times as many followers, channels, tokens of a reply, or stored conversations.

Costs are the processor time for each delivery or token, and the time that a client waits if the
database holds many conversations. A ratio of 1 means that each delivery, token or request costs the
same as before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.benchmarks.cost import MEASURED, Cost, pin
from tests.benchmarks.fanout import load
from tests.benchmarks.peer_servers import OURS
from tests.benchmarks.report import Row, Wishes, benchmark, part
from tests.benchmarks.service import Service, service

LOOKS = 60  # requests of each kind
BITE = 10_000  # conversations that one process stores

FILL = """
from datetime import timedelta
from django.utils import timezone
from django.contrib.auth import get_user_model
from streams.models import Conversation, Message, Run
owner = "user:%d" % get_user_model().objects.get(username="bench").pk
for _ in range(5):
    made = Conversation.objects.bulk_create(
        Conversation(owner=owner, title="filled", model="scripted", head=9)
        for _ in range({count}))
    asked = Message.objects.bulk_create(
        Message(conversation=one, role="user", content="?", turn=1, event=1) for one in made)
    told = Message.objects.bulk_create(
        Message(conversation=one.conversation, role="assistant", content="!", turn=1,
                reply_to=one, event=9) for one in asked)
    Run.objects.bulk_create(
        Run(conversation=one.conversation, owner=owner, message=one.reply_to, reply=one,
            model="scripted", status="completed", attempt=1, queued_event_id=2, ended_event_id=9,
            created_at=timezone.now() - timedelta(days=1))
        for one in told)
"""


async def fill(home: Service, conversations: int) -> None:
    """Store conversations of one finished turn, in several bites, as a process has a time limit."""
    bite = min(BITE, conversations)
    for _ in range(conversations // bite):
        script = FILL.replace("{count}", str(bite // 5))
        await home.stack.manage("shell", "--no-imports", "-c", script)


def grown(what: str, unit: str, few: float, many: float) -> Row:
    return {
        "what grows": what,
        "cost": unit,
        "before": round(few, 2),
        "ten times": round(many, 2),
        "ratio": round(many / few, 2),
    }


async def each_delivery(
    wishes: Wishes, *, followers: int, channels: int, events: int, rate: float
) -> float:
    """The web process's µs for each delivery, with `rate` events a second on each channel."""
    events = min(events, 4) if wishes.small else events
    row = await load(
        OURS, wishes, followers=followers, channels=channels, events=events, rate=rate * channels
    )
    delivered = row["events/s at a full core"]
    assert isinstance(delivered, int)
    return 1e6 / delivered


async def each_token(home: Service, tokens: int) -> float:
    """The µs of worker and Redis for each token of a reply that is as fast as the model can."""
    costs = [Cost(pid).begin() for pid in (home.stack.worker.pid, home.stack.valkey.pid)]
    await home.over([await home.client.ask(tokens=tokens)], within=120)
    return 1e6 * sum(cost.seconds for cost in costs) / tokens


async def waits(home: Service, wishes: Wishes) -> dict[str, float]:
    """The median ms of a POST, a snapshot and the list."""
    asked, took = [], []
    for n in range(wishes.size(LOOKS, 5)):
        asked.append(await home.client.ask(tokens=1, seed=n))
        took.append(asked[-1].accepted - asked[-1].posted)
        await home.over(asked[-1:], within=30)
    found = {"POST": 1000 * part(took, 0.5)}
    for what, path in (("snapshot", f"{asked[0].conversation}/"), ("list", "")):
        calls = [
            await home.client.call("GET", f"/api/conversations/{path}")
            for _ in range(wishes.size(LOOKS, 5))
        ]
        found[what] = 1000 * part([seconds for _, _, seconds in calls], 0.5)
    return found


async def measure(wishes: Wishes) -> AsyncIterator[Row]:
    many = wishes.size(500, 40)
    few = await each_delivery(wishes, followers=many // 10, channels=1, events=100, rate=20)
    more = await each_delivery(wishes, followers=many, channels=1, events=10, rate=20)
    yield grown(f"followers of a channel, to {many}", "web CPU µs a delivery", few, more)
    all_of = {"followers": many, "channels": many}
    tenth = {"followers": many // 10, "channels": many // 10}
    more = await each_delivery(wishes, **all_of, events=10, rate=2)
    few = await each_delivery(wishes, **tenth, events=10, rate=2)
    yield grown(f"channels followed, to {many}, each as lively", "the same", few, more)
    few = await each_delivery(wishes, **tenth, events=100, rate=20)
    yield grown(f"channels followed, to {many}, as much said in all", "the same", few, more)
    async with service(wishes) as home:
        pin(MEASURED, home.stack.web.pid)
        tokens = wishes.size(20_000, 1_000)
        few, more = await each_token(home, tokens // 10), await each_token(home, tokens)
        yield grown(f"tokens of a reply, to {tokens:,}", "worker, Redis CPU µs a token", few, more)
        stored = wishes.size(100_000, 1_000)
        await fill(home, stored // 10)
        before = await waits(home, wishes)
        await fill(home, stored - stored // 10)
        after = await waits(home, wishes)
        for what, wait in before.items():
            yield grown(f"conversations, to {stored:,}", f"{what}, p50 ms", wait, after[what])


if __name__ == "__main__":
    benchmark("growth", measure)
