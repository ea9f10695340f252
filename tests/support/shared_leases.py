"""Leases that pools share in this process, whose answers come when a test lets them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiophlo.coordination import Claim, Whereabouts
from aiophlo.model.handover_records import OpenHandover


async def some_turns() -> None:
    """Be as slow as a database is: some turns of the event loop."""
    for _ in range(4):
        await asyncio.sleep(0)


class SharedLeases:
    """The handovers of some pools, as `coordination.SharedHandovers`.

    What is asked is done at once, whoever goes on waiting for the answer.

    Args:
        answer: Awaited before each answer, with the name of what was asked.

    Attributes:
        engaged: Who is in which handover.
        open: The ids of those that are open.
        whereabouts: Where events say that customers are.
        elsewhere: The same of agents who are in a newer call; None if none is.
    """

    def __init__(
        self, answer: Callable[[str], Awaitable[None]] = lambda _: some_turns()
    ) -> None:
        self.answer = answer
        self.engaged: dict[str, str] = {}
        self.open: set[str] = set()
        self.whereabouts = Whereabouts.UNKNOWN
        self.elsewhere: Whereabouts | None = None

    def lease(
        self,
        handover: OpenHandover,
        customer: str | None = None,  # noqa: ARG002 -- the protocol's
    ) -> "MemoryLease":
        """Return the lease of a handover that is about to begin."""
        return MemoryLease(self, handover)

    adopt = lease

    def stop_taking_over(self) -> None:
        """Take no more handovers over: there are none."""

    def engage(self, who: str, handover: str) -> bool:
        """Engage somebody for an open handover."""
        if handover not in self.open:
            return True
        return self.engaged.setdefault(who, handover) == handover


class MemoryLease:
    """The lease of one handover, as `coordination.Lease`."""

    may_ring = holds = may_bring_back = True

    def __init__(self, shared: SharedLeases, handover: OpenHandover) -> None:
        self.when_taken_over: Callable[[], None] = lambda: None
        self._shared = shared
        self._handover = handover

    async def begin(
        self, *, targets: Sequence[str], conference_uuid: str | None
    ) -> str | None:
        """Take it, and engage the agent in all pools."""
        agent, engaged = self._handover.agent, self._shared.engaged
        refusal = None
        if agent in engaged:
            refusal = "agent"
        elif targets and set(targets) <= set(engaged):
            refusal = "to"
        else:
            self._shared.open.add(self._handover.id)
            for who in filter(None, (agent, conference_uuid)):
                assert self._shared.engage(who, self._handover.id)
        await self._shared.answer("begin")
        return refusal

    async def engage(self, target: str) -> bool:
        """Engage a target in all pools; False if it is in another handover."""
        engaged = self._shared.engage(target, self._handover.id)
        await self._shared.answer("engage")
        return engaged

    def release(self, target: str) -> None:
        """Let other handovers engage a target."""
        if self._shared.engaged.get(target) == self._handover.id:
            del self._shared.engaged[target]

    async def claim(self) -> Claim:
        """Claim it again: it is held."""
        await self._shared.answer("claim")
        return Claim.HELD

    async def look(self) -> Whereabouts:
        """Say where the customer is."""
        await self._shared.answer("look")
        return self._shared.whereabouts

    async def look_elsewhere(self) -> Whereabouts | None:
        """Say where the customer is of an agent who is in a newer call."""
        await self._shared.answer("look")
        return self._shared.elsewhere

    def end(self, *, alarmed: bool = False) -> None:  # noqa: ARG002 -- the protocol's
        """Give it up."""
        self._shared.open.discard(self._handover.id)
        for who, handover in list(self._shared.engaged.items()):
            if handover == self._handover.id:
                del self._shared.engaged[who]

    async def ended(self) -> None:
        """Wait until other pools know of its end."""
        await self._shared.answer("ended")
