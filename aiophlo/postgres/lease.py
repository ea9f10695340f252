"""The lease of one handover: what a pool may do in it, and until when.

What was asked and not answered may have been done, or not: a lease goes on as if it
were done where somebody might be forgotten otherwise, and as if it weren't where
somebody might be rung.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import attrs

from aiophlo.coordination import AwayError, Claim, Whereabouts
from aiophlo.model.handover_records import OpenHandover
from aiophlo.postgres.keyed_hash import keyed_hash
from aiophlo.postgres.operations import Answer, Operation, Operations

BEGAN_AT: Final = "server_began_at"  # in a handover's entry
CUSTOMER: Final = "customer_digests"  # there, too
UNCLAIMED: Final = 60.0  # seconds after its end in which no newer transfer is feared
PATIENCE: Final = 1.0  # seconds for an answer
_AGAIN: Final = 4.0  # seconds for a database that comes back at once
_REMEMBERED: Final = 43_200.0  # seconds; the database remembers an end twice as long


class Leases(Protocol):
    """What a lease needs of its pool's handovers.

    Attributes:
        operations: Asks the database.
        seconds: How long a lease is good for.
        clock: Goes on while the machine sleeps.
        reached: Whether the database is, at present.
    """

    operations: Operations
    seconds: float
    clock: Callable[[], float]

    @property
    def reached(self) -> bool:
        """Whether the database is, at present."""

    async def comes_back(self) -> bool:
        """Say whether the database is reached, or is soon after it was lost."""

    def keep(self, lease: "PostgresLease") -> None:
        """Prolong a lease from now on."""

    def forget(self, lease: "PostgresLease") -> None:
        """Prolong a lease no more."""

    def is_kept_by_another(self, lease: "PostgresLease") -> bool:
        """Say whether this pool has taken the handover over, by another lease."""

    def end(self, handover: str, details: Operation) -> None:
        """Tell the database, now or later, that a handover has ended."""

    async def ended(self, handover: str) -> None:
        """Wait until the database knows that a handover has ended, if it can be."""

    def operation(self, do: str) -> Operation:
        """Return what all operations on handovers have in common."""

    def server_time(self) -> float:
        """Return the time by the server's clock."""

    async def look(
        self, agent: str, customer: Sequence[str], began_at: float
    ) -> Whereabouts:
        """Say where the customer is of an agent who is out, as events tell.

        Args:
            agent: The agent's address.
            customer: The customer's keys, as events have them; none if withheld.
            began_at: When the handover began, by the server's clock.

        Raises:
            AwayError: The database can't be reached.
        """

    async def look_elsewhere(
        self, agent: str, customer: Sequence[str], began_at: float
    ) -> Whereabouts | None:
        """Say the same of an agent who is in a newer call; None if none is told of.

        Raises:
            AwayError: The database can't be reached.
        """


class PostgresLease:
    """The lease of one handover, as `coordination.Lease`.

    Args:
        handovers: The pool's.
        handover: Which.
        secrets: Keys of hashes: the account's, and one of all accounts, as somebody
            may be in handovers of several.
        epoch: How often it changed hands; None for one that is still to be claimed.
        until: When it ends, by the boot clock.
        began_at: When the handover began, by the server's clock; None where nobody
            knows.
        customer: The customer's keys, as events have them; none if nobody knows.

    Attributes:
        handover: The same.
        when_taken_over: Called once it is known that another pool has taken over.
        epoch: The same.
        until: The same.
        engaged: Hashes of those who are engaged for it.
        changed_at: When somebody was engaged or released last, by the boot clock.
    """

    def __init__(
        self,
        handovers: Leases,
        handover: OpenHandover,
        secrets: Sequence[bytes],
        *,
        epoch: int | None,
        until: float,
        began_at: float | None = None,
        customer: Sequence[str] = (),
    ) -> None:
        self.handover = handover
        self.when_taken_over: Callable[[], None] = _nothing
        self.epoch = epoch
        self.until = until
        self._began_at = began_at
        self._customer = customer
        self._handovers = handovers
        self._secrets = secrets
        self._agent = self._who(handover.agent)
        self.engaged = set(self._agent)
        self.changed_at = handovers.clock()
        self._is_known = True  # who was engaged last, or couldn't be
        self._may_be_written = epoch is not None and epoch > 1  # in the database
        self._may_be_claimed = False  # by an answer that was lost
        self._taken_over = self._ended = False

    @property
    def may_ring(self) -> bool:
        """Whether who was engaged last may be rung: not where nobody can be asked."""
        return self.holds and self._handovers.reached and self._is_known

    @property
    def holds(self) -> bool:
        """Whether the agent may be hung up now."""
        return self._handovers.clock() < self.until and not self._taken_over

    @property
    def may_bring_back(self) -> bool:
        """Whether the customer may be brought back now."""
        alone = not self._handovers.reached and not self._taken_over
        return self.holds or (alone and self._is_recent)

    @property
    def _is_recent(self) -> bool:
        return self._handovers.clock() < self.until + UNCLAIMED

    async def begin(
        self, *, targets: Sequence[str], conference_uuid: str | None
    ) -> str | None:
        """Take it, and engage the agent in all pools.

        Raises:
            AwayError: The database can't be reached.
        """
        place = [] if conference_uuid is None else [("conference", conference_uuid)]
        conversation = [keyed_hash(self._secrets[0], *one) for one in place]
        self.engaged.update(conversation)
        self._may_be_written = True
        self._began_at = self._handovers.server_time()
        answer, asked_at = await self._ask(
            self._operation("begin_handover")
            | {
                "targets": [self._who(target) for target in targets],
                "conversation": conversation,
            }
        )
        refusal: str | None = answer["refusal"]
        if refusal is None:
            self._hold(asked_at)
        else:
            self._may_be_written = False
        return refusal

    async def engage(self, target: str) -> bool:
        """Engage a target in all pools; without an answer nobody is rung anyway."""
        who = self._who(target)
        self.engaged.update(who)
        self.changed_at = self._handovers.clock()
        self._is_known = False
        try:
            answer, _ = await self._ask(self._about("engage", who))
        except AwayError:
            return True
        self._is_known = True
        if not answer["engaged"]:
            self.engaged.difference_update(who)
        return bool(answer["engaged"])

    def release(self, target: str) -> None:
        """Let other handovers engage a target."""
        who = self._who(target)
        self.engaged.difference_update(who)
        self.changed_at = self._handovers.clock()
        self._handovers.operations.tell(self._about("release", who))

    async def claim(self) -> Claim:
        """Claim it again, if it is over; say who may bring the customer back."""
        if self._taken_over or self._ended:
            return Claim.TAKEN_OVER
        if self.holds:
            return Claim.HELD
        late = self._handovers.clock() > self.until + _REMEMBERED
        if late or self._handovers.is_kept_by_another(self):
            return self._lost()
        self._may_be_written = True
        try:
            answer, asked_at = await self._ask_again_and_again("claim")
        except AwayError:
            return Claim.UNCLAIMED if self._is_recent else Claim.UNKNOWN
        return self._claimed(answer, asked_at)

    def _claimed(self, answer: Answer, asked_at: float) -> Claim:
        if answer.get("engaged"):
            return Claim.ENGAGED
        if answer["epoch"] is None:
            return self._lost()
        self.epoch = answer["epoch"]
        self._hold(asked_at)
        return Claim.HELD

    def _lost(self) -> Claim:
        self.lose()
        return Claim.TAKEN_OVER

    async def look(self) -> Whereabouts:
        """Say where the customer is, now that the agent is known to be out."""
        if self._began_at is None:
            return Whereabouts.UNKNOWN
        try:
            return await self._handovers.look(
                self.handover.agent, self._customer, self._began_at
            )
        except AwayError:
            return Whereabouts.UNKNOWN

    async def look_elsewhere(self) -> Whereabouts | None:
        """Say where the customer is of an agent who is in a newer call; else None."""
        if self._began_at is None:
            return None
        try:
            return await self._handovers.look_elsewhere(
                self.handover.agent, self._customer, self._began_at
            )
        except AwayError:
            return None

    def end(self, *, alarmed: bool = False) -> None:
        """Give it up, in the database as soon as it can be reached."""
        if self._ended:
            return
        self._ended = True
        self._handovers.forget(self)
        if self._may_be_written and not self._taken_over:
            details = {"epoch": self.epoch, "alarmed": alarmed}
            self._handovers.end(self.handover.id, details)

    async def ended(self) -> None:
        """Wait until other pools know of its end, for a second at most."""
        await self._handovers.ended(self.handover.id)

    async def claim_anew(self) -> None:
        """Claim it though it seems to hold: the database doesn't know of it."""
        self.until = min(self.until, self._handovers.clock())
        await self.claim()

    def lose(self) -> None:
        """Learn that another pool has taken over."""
        if not self._taken_over:
            self._taken_over = True
            self._handovers.forget(self)
            self.when_taken_over()

    def _hold(self, asked_at: float) -> None:
        self.until = asked_at + self._handovers.seconds
        if not self._ended:
            self._handovers.keep(self)

    async def _ask(self, operation: Operation) -> tuple[Answer, float]:
        asked_at = self._handovers.clock()
        asked = self._handovers.operations.ask(operation)
        await asyncio.wait({asked}, timeout=PATIENCE)
        if not asked.done():
            raise AwayError("no answer in time")
        return asked.result(), asked_at

    async def _ask_again_and_again(self, do: str) -> tuple[Answer, float]:
        """Ask until there is an answer, or the database stays away.

        Whoever wakes from a long sleep finds the connection lost, and would act
        though another pool has long taken over.
        """
        late = self._handovers.clock() + _AGAIN
        while True:
            try:
                return await self._ask(self._operation(do))
            except AwayError:
                self._may_be_claimed = True
                back = await self._handovers.comes_back()
                if not back or self._handovers.clock() > late:
                    raise

    def _operation(self, do: str) -> Operation:
        return self._handovers.operation(do) | {
            "id": self.handover.id,
            "epoch": self.epoch,
            "again": self._may_be_claimed,
            "agent": self._agent,
            "engaged": list(self.engaged),
            "entry": attrs.asdict(self.handover)
            | {BEGAN_AT: self._began_at, CUSTOMER: list(self._customer)},
        }

    def _about(self, do: str, who: list[int]) -> Operation:
        about = {"id": self.handover.id, "who": who}
        return self._handovers.operation(do) | about

    def _who(self, address: str) -> list[int]:
        return [keyed_hash(it, "address", address) for it in self._secrets]


def _nothing() -> None:
    """Do nothing: nobody needs to know."""
