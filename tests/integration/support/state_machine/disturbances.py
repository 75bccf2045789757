"""The steps that disturb Redis and the readers: losses, trims, cuts."""

from __future__ import annotations

from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.integration.support.listener import SteppedReader
from tests.integration.support.state_machine.promises import Promises

READERS = 3


class Disturbances(Promises):
    """The steps that no use case makes."""

    @rule(later=st.sampled_from([1013, 1_000_003, -1_000_003]))
    def lose(self, later: int) -> None:
        """Redis is emptied; the clock may be a second back."""
        self.valkey.flushall()
        self.clock += later
        self.lost = True
        self.life, self.events, self.said = None, {}, {}
        self._allow_resets()

    @rule(steps=st.integers(1, 4))
    @precondition(lambda self: len(self.past) > 4)
    def lose_the_tail(self, steps: int) -> None:
        """A failover to a replica that lagged: another server continues from an earlier state."""
        kept = self.past[-1 - steps]
        self.valkey.flushall()
        for key, value in kept.keys.items():
            self.world.raw.restore(key, 24 * 3600 * 1000, value)
        state = f"{{{self.channel}}}:state"
        if self.valkey.hexists(state, "server"):
            self.valkey.hset(state, "server", uuid4().hex)
        self.clock += 1013
        self.lost = True
        self.life = self.valkey.hget(state, "epoch_start")
        self.said = dict(kept.said)
        self.events = self._entries()
        self._allow_resets()
        if self.deleted:
            # A failover takes longer than a lease check, so no worker writes for an ended run.
            self.workers.clear()
        for reader in self.readers:
            self._do(reader.cut_subscription())

    @rule(kept=st.integers(0, 5))
    def trim(self, kept: int) -> None:
        """The log's oldest events are removed, or all of them. Its state stays."""
        self.valkey.xtrim(f"{{{self.channel}}}:events", maxlen=kept, approximate=False)
        self._allow_resets(to_those_behind=True)

    # What happens to readers.

    @rule(who=st.integers(0, READERS - 1), kept=st.lists(st.booleans(), min_size=1, max_size=6))
    def hear(self, who: int, kept: list[bool]) -> None:
        """Messages arrive, and some get lost."""
        self._do(self.readers[who].deliver(kept))

    @rule(who=st.integers(0, READERS - 1), after=st.integers(0, 5))
    def drop_and_resume(self, who: int, after: int) -> None:
        self._do(self.readers[who].drop_after(after))

    @rule(who=st.integers(0, READERS - 1))
    def lose_the_subscription(self, who: int) -> None:
        self._do(self.readers[who].cut_subscription())

    @rule(who=st.integers(0, READERS - 1))
    def come_anew(self, who: int) -> None:
        """Replace this reader by a new reader without a cursor."""
        reader = self.readers[who]
        self._do(reader.disconnect())
        new = SteppedReader(self.conversation, reader.time)
        self.readers[who] = new
        self.resets_allowed[new] = False
        self._do(new.connect())

    @rule(who=st.integers(0, READERS - 1))
    def catch_up(self, who: int) -> None:
        self._compare(self.readers[who])
