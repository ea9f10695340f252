"""Leases of the handovers of one pool, and what it takes over from others.

A lease is good for some seconds, and prolonged after a third of them. An owner that
can't prolong it, as it was stopped or is cut off, stops acting before another pool
begins: it counts from before it asked, by a clock that goes on while a machine sleeps.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from aiophlo.coordination import AwayError, Claim, TakeOver
from aiophlo.model.accounts import Account
from aiophlo.model.handover_records import OpenHandover
from aiophlo.postgres.connection import unawaited
from aiophlo.postgres.keyed_hash import keyed_hash, secret_of
from aiophlo.postgres.operations import Answer, Operation, Operations

_GRACE: Final = 2 / 15  # of a lease, from its end until another pool acts
_PROLONGED: Final = 1 / 3  # of a lease, until it is prolonged
_UNCLAIMED: Final = 60.0  # seconds after its end in which no newer transfer is feared
_PATIENCE: Final = 1.0  # seconds for an answer
LOCK: Final = 0x68616E64  # of all handovers: "hand"


def boot_clock() -> float:
    """Return seconds, by a clock that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class PostgresLease:
    """The lease of one handover, as `coordination.Lease`.

    Args:
        handovers: The pool's.
        handover: Which.
        secret: Key of the account's hashes.
        epoch: How often it changed hands; None for one that is still to be claimed.
        until: When it ends, by the boot clock.

    Attributes:
        when_taken_over: Called once it is known that another pool has taken over.
        epoch: The same.
        until: The same.
    """

    def __init__(
        self,
        handovers: "PostgresHandovers",
        handover: OpenHandover,
        secret: bytes,
        *,
        epoch: int | None,
        until: float,
    ) -> None:
        self.when_taken_over: Callable[[], None] = _nothing
        self.epoch = epoch
        self.until = until
        self._handovers = handovers
        self._handover = handover
        self._secret = secret
        self._taken_over = self._ended = False

    @property
    def may_ring(self) -> bool:
        """Whether somebody may be rung now: not where nobody can be asked."""
        return self.holds and self._handovers.reached

    @property
    def holds(self) -> bool:
        """Whether the agent may be hung up now, and the customer brought back."""
        return self._handovers.clock() < self.until and not self._taken_over

    async def begin(
        self, *, targets: Sequence[str], conference_uuid: str | None
    ) -> str | None:
        """Take it, and engage the agent in all pools.

        Raises:
            AwayError: The database can't be reached.
        """
        place = [] if conference_uuid is None else [("conference", conference_uuid)]
        self._handovers.keep(self._handover.id, self)
        answer, asked_at = await self._ask(
            self._operation("begin_handover")
            | {
                "targets": [self._who(target) for target in targets],
                "conversation": [keyed_hash(self._secret, *one) for one in place],
            }
        )
        refusal: str | None = answer["refusal"]
        if refusal is None:
            self.until = asked_at + self._handovers.seconds
        else:
            self._handovers.forget(self._handover.id)
        return refusal

    async def engage(self, target: str) -> bool:
        """Engage a target in all pools; without the database nobody is rung anyway."""
        try:
            answer, _ = await self._ask(self._about("engage", target))
        except AwayError:
            return True
        return bool(answer["engaged"])

    def release(self, target: str) -> None:
        """Let other handovers engage a target."""
        self._handovers.operations.tell(self._about("release", target))

    async def claim(self) -> Claim:
        """Claim it again, if it is over; say who may bring the customer back."""
        if self._taken_over:
            return Claim.TAKEN_OVER
        if self.holds:
            return Claim.HELD
        try:
            answer, asked_at = await self._ask(self._operation("claim"))
        except AwayError:
            recent = self._handovers.clock() < self.until + _UNCLAIMED
            return Claim.UNCLAIMED if recent else Claim.UNKNOWN
        if answer["epoch"] is None:
            self._lose()
            return Claim.TAKEN_OVER
        self.epoch = answer["epoch"]
        self.until = asked_at + self._handovers.seconds
        self._handovers.keep(self._handover.id, self)
        return Claim.HELD

    def end(self) -> None:
        """Give it up, in the database as soon as it can be reached."""
        if not self._ended:
            self._ended = True
            self._handovers.end(self._handover.id)

    async def ended(self) -> None:
        """Wait until other pools know of its end, for a second at most."""
        await self._handovers.ended(self._handover.id)

    async def claim_anew(self) -> None:
        """Claim it though it seems to hold: the database doesn't know of it."""
        self.until = min(self.until, self._handovers.clock())
        await self.claim()

    def _lose(self) -> None:
        self._taken_over = True
        self._handovers.forget(self._handover.id)
        self.when_taken_over()

    async def _ask(self, operation: Operation) -> tuple[Answer, float]:
        asked_at = self._handovers.clock()
        asked = self._handovers.operations.ask(operation)
        await asyncio.wait({asked}, timeout=_PATIENCE)
        if not asked.done():
            raise AwayError("no answer in time")
        return asked.result(), asked_at

    def _operation(self, do: str) -> Operation:
        return self._handovers.operation(do) | {
            "id": self._handover.id,
            "epoch": self.epoch,
            "agent": [self._who(self._handover.agent)],
            "entry": attrs.asdict(self._handover),
        }

    def _about(self, do: str, address: str) -> Operation:
        about = {"id": self._handover.id, "who": self._who(address)}
        return self._handovers.operation(do) | about

    def _who(self, address: str) -> int:
        return keyed_hash(self._secret, "address", address)


class PostgresHandovers:
    """The handovers of one pool, as `coordination.SharedHandovers`.

    Args:
        accounts: Whose handovers may be taken over.
        take_over: Called with each that is.
        operations: Asks the database.
        pool: This pool's number.
        seconds: How long a lease is good for.
        clock: Goes on while the machine sleeps.

    Attributes:
        operations: The same.
        seconds: The same.
        clock: The same.
    """

    def __init__(
        self,
        accounts: Iterable[Account],
        take_over: TakeOver,
        operations: Operations,
        pool: int,
        *,
        seconds: float,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self.operations = operations
        self.seconds = seconds
        self.clock = clock
        self._secrets = {one.auth_id: secret_of(one) for one in accounts}
        self._take_over: TakeOver | None = take_over
        self._pool = pool
        self._leases: dict[str, PostgresLease] = {}
        self._ending: dict[str, asyncio.Future[Answer]] = {}  # till it is known
        self._prolonged_at = -math.inf
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def reached(self) -> bool:
        """Whether the database is, at present."""
        return self.operations.open

    def lease(self, handover: OpenHandover) -> PostgresLease:
        """Return the lease of a handover that is about to begin."""
        return self._lease(handover, epoch=1, until=-_UNCLAIMED)

    def adopt(self, handover: OpenHandover) -> PostgresLease:
        """Return the lease of one whose process is known to have died."""
        return self._lease(handover, epoch=None, until=self.clock())

    def _lease(
        self, handover: OpenHandover, *, epoch: int | None, until: float
    ) -> PostgresLease:
        secret = self._secrets.get(handover.account, b"")
        return PostgresLease(self, handover, secret, epoch=epoch, until=until)

    def stop_taking_over(self) -> None:
        """Take no more handovers over from other pools."""
        self._take_over = None

    def keep(self, handover: str, lease: PostgresLease) -> None:
        """Prolong a lease from now on."""
        self._leases[handover] = lease

    def forget(self, handover: str) -> None:
        """Prolong a lease no more."""
        self._leases.pop(handover, None)

    def end(self, handover: str) -> None:
        """Tell the database, now or later, that a handover has ended."""
        if self._leases.pop(handover, None) is not None:
            self._tell_end(handover)

    async def ended(self, handover: str) -> None:
        """Wait until the database knows that a handover has ended, if it can be."""
        asked = self._ending.get(handover)
        if asked is not None:
            await asyncio.wait({asked}, timeout=_PATIENCE)

    def _tell_end(self, handover: str) -> None:
        def told(asked: asyncio.Future[Answer]) -> None:
            if not asked.exception():
                self._ending.pop(handover, None)

        ending = self.operation("end_handover") | {"id": handover}
        self._ending[handover] = asked = self.operations.ask(ending)
        asked.add_done_callback(told)

    def catch_up(self) -> None:
        """Tell what could not be told while the database was away."""
        self._prolonged_at = -math.inf
        for handover in list(self._ending):
            self._tell_end(handover)

    def beat(self) -> None:
        """Prolong what is held, and look for what has run out; about once a second."""
        now = self.clock()
        if self._leases and now >= self._prolonged_at + _PROLONGED * self.seconds:
            self._prolonged_at = now
            self._prolong()
        if self._take_over is not None:
            looking = self.operation("take_over") | {
                "grace": _GRACE * self.seconds,
                "accounts": list(self._secrets),
            }
            asked_at = self.clock()
            self.operations.ask(looking).add_done_callback(
                lambda asked: self._taken(asked, asked_at)
            )

    def _prolong(self) -> None:
        asked_at = self.clock()
        held = dict(self._leases)

        def prolonged(asked: asyncio.Future[Answer]) -> None:
            if asked.exception():
                return
            mine = set(asked.result()["mine"])
            for handover, lease in held.items():
                if handover in mine:
                    lease.until = asked_at + self.seconds
                elif self._leases.get(handover) is lease:
                    unawaited(lease.claim_anew(), self._tasks)

        epochs = {id_: one.epoch for id_, one in held.items() if one.epoch is not None}
        prolonging = self.operation("prolong") | {"epochs": epochs}
        self.operations.ask(prolonging).add_done_callback(prolonged)

    def _taken(self, asked: asyncio.Future[Answer], asked_at: float) -> None:
        if asked.exception() or self._take_over is None:
            return  # then they run out again
        for one in asked.result()["taken"]:
            handover = OpenHandover(**one["entry"])
            lease = self._lease(
                handover, epoch=one["epoch"], until=asked_at + self.seconds
            )
            self.keep(handover.id, lease)
            self._take_over(handover, lease, one["overdue"])

    def operation(self, do: str) -> Operation:
        """Return what all operations on handovers have in common."""
        return {"do": do, "key": LOCK, "pool": self._pool, "lease": self.seconds}


def _nothing() -> None:
    """Do nothing: nobody needs to know."""
