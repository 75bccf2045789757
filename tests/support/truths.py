"""The stored state of conversations at the end, for the checker."""

from __future__ import annotations

from tests.support.checker import Truth
from tests.support.script import expected
from tests.support.visitor import AcceptedRun, Visitor


async def truths(visitor: Visitor, *asked: AcceptedRun) -> dict[str, Truth]:
    """The state of each conversation with these runs, as this visitor's API shows it."""
    runs: dict[str, list[AcceptedRun]] = {}
    for one in asked:
        runs.setdefault(one.conversation, []).append(one)
    return {
        conversation: Truth(
            conversation=await visitor.conversation(conversation),
            runs={one.run: await visitor.run(one.run) for one in those},
            scripts={one.run: expected(one.script) for one in those},
        )
        for conversation, those in runs.items()
    }
