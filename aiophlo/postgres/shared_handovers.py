"""Leases of the handovers of one pool, and what it takes over from others.

A lease is good for some seconds, and prolonged after a third of them. An owner that
can't prolong it, as it was stopped or is cut off, stops acting before another pool
begins: it counts from before it asked, by a clock that goes on while a machine sleeps.

A server that crashes forgets the last moment: whoever is connected anew says again
what it holds, whom it has engaged, and what it has just ended.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from aiophlo.coordination import TakeOver, Whereabouts
from aiophlo.handover.whereabouts import where_is_customer, where_is_former_customer
from aiophlo.logs import logger
from aiophlo.model.accounts import Account
from aiophlo.model.address_matching import party_keys
from aiophlo.model.call_events import CallEvent
from aiophlo.model.handover_records import OpenHandover
from aiophlo.postgres.connection import unawaited, wait_for_event
from aiophlo.postgres.keyed_hash import secret_of
from aiophlo.postgres.lease import (
    BEGAN_AT,
    CUSTOMER,
    PATIENCE,
    UNCLAIMED,
    PostgresLease,
)
from aiophlo.postgres.operations import Answer, Operation, Operations
from aiophlo.postgres.server_clock import ServerClock
from aiophlo.postgres.shared_calls import CallDigests, read_told, unpacked

_GRACE: Final = 2 / 15  # of a lease, from its end until another pool acts
_PROLONGED: Final = 1 / 3  # of a lease, until it is prolonged
_RETURN: Final = 3.0  # seconds until all pools are back that were away, too
_FORGOTTEN: Final = 10.0  # seconds; what a crash of the server takes was told after
LOCK: Final = 0x68616E64  # of all handovers: "hand"
_FIELDS: Final = tuple(attrs.fields_dict(OpenHandover))


def boot_clock() -> float:
    """Return seconds, by a clock that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@attrs.define
class _End:
    """The end of a handover, which other pools have to know of."""

    details: Operation
    asked: asyncio.Future[Answer]
    told_at: float = math.inf  # by the boot clock


class PostgresHandovers:
    """The handovers of one pool, as `coordination.SharedHandovers`.

    Args:
        accounts: Whose handovers may be taken over.
        secret: Key of hashes that all accounts have in common.
        take_over: Called with each that is.
        operations: Asks the database.
        digests: Under which events are shared.
        pool: This pool's number.
        server_clock: The server's, as seen from the event loop's.
        seconds: How long a lease is good for.

    Attributes:
        operations: The same.
        seconds: The same.
        clock: Goes on while the machine sleeps.
    """

    def __init__(
        self,
        accounts: Iterable[Account],
        secret: bytes,
        take_over: TakeOver,
        operations: Operations,
        *,
        digests: CallDigests,
        pool: int,
        server_clock: ServerClock,
        seconds: float,
    ) -> None:
        self.operations = operations
        self.seconds = seconds
        self.clock = boot_clock
        self._secrets = {it.auth_id: (secret_of(it), secret) for it in accounts}
        self._digests = digests
        self._take_over = take_over
        self._takes_over = True
        self._pool = pool
        self._leases: dict[str, PostgresLease] = {}
        self._ends: dict[str, _End] = {}
        self._prolonged_at = self._beat_at = -math.inf
        self._take_over_from = self.clock() + _RETURN
        self._server_clock = server_clock
        self._offset = server_clock.to_server(0.0)
        self._back = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def reached(self) -> bool:
        """Whether the database is, at present."""
        return self.operations.open

    def lease(
        self, handover: OpenHandover, customer: str | None = None
    ) -> PostgresLease:
        """Return the lease of a handover that is about to begin."""
        keys = self._hidden(customer)
        return self._lease(handover, epoch=1, until=-UNCLAIMED, customer=keys)

    def adopt(self, handover: OpenHandover) -> PostgresLease:
        """Return the lease of a handover whose process is known to have died."""
        age = time.time() - handover.began_at
        return self._lease(
            handover,
            epoch=None,
            until=self.clock(),
            began_at=self.server_time() - age if self.reached else None,
        )

    def _lease(
        self,
        handover: OpenHandover,
        *,
        epoch: int | None,
        until: float,
        began_at: float | None = None,
        customer: Sequence[str] = (),
    ) -> PostgresLease:
        return PostgresLease(
            self,
            handover,
            self._secrets.get(handover.account, (b"",)),
            epoch=epoch,
            until=until,
            began_at=began_at,
            customer=customer,
        )

    def _hidden(self, address: str | None) -> list[str]:
        """Return somebody's keys as events have them; none of a withheld number."""
        keys = filter(None, party_keys(address or ""))
        return [self._digests.hide(key) for key in keys]

    def server_time(self) -> float:
        """Return the time by the server's clock."""
        return self._server_clock.to_server(asyncio.get_running_loop().time())

    async def look(
        self, agent: str, customer: Sequence[str], began_at: float
    ) -> Whereabouts:
        """Say where the customer is of an agent who is out, as events tell.

        Raises:
            AwayError: The database can't be reached.
        """
        events, keys = await self._told(agent)
        began, now = self._times(began_at)
        return where_is_customer(events, keys, customer, began_at=began, now=now)

    async def look_elsewhere(
        self, agent: str, customer: Sequence[str], began_at: float
    ) -> Whereabouts | None:
        """Say the same of an agent who is in a newer call; None if none is told of.

        Raises:
            AwayError: The database can't be reached.
        """
        events, keys = await self._told(agent)
        began, now = self._times(began_at)
        return where_is_former_customer(events, keys, customer, began_at=began, now=now)

    async def _told(self, agent: str) -> tuple[list[CallEvent], set[str]]:
        """Return what is told of calls, and the agent's keys in it."""
        now = asyncio.get_running_loop().time
        told = read_told(self.operations, self._digests.fingerprint)
        events = [unpacked(packed, now()) async for packed in told]
        return events, set(self._hidden(agent))

    def _times(self, began_at: float) -> tuple[float, float]:
        """Return when a handover began, and the time, by the loop's clock."""
        now = asyncio.get_running_loop().time()
        return self._server_clock.to_loop(began_at), now

    def stop_taking_over(self) -> None:
        """Take no more handovers over from other pools."""
        self._takes_over = False

    def keep(self, lease: PostgresLease) -> None:
        """Prolong a lease from now on."""
        self._leases[lease.handover.id] = lease

    def forget(self, lease: PostgresLease) -> None:
        """Prolong a lease no more."""
        if self._leases.get(lease.handover.id) is lease:
            del self._leases[lease.handover.id]

    def is_kept_by_another(self, lease: PostgresLease) -> bool:
        """Say whether this pool has taken the handover over, by another lease."""
        return self._leases.get(lease.handover.id, lease) is not lease

    def end(self, handover: str, details: Operation) -> None:
        """Tell the database, now or later, that a handover has ended."""
        ending = self.operation("end_handover") | {"id": handover, **details}
        self._tell_end(handover, ending)

    async def ended(self, handover: str) -> None:
        """Wait until the database knows that a handover has ended, if it can be."""
        end = self._ends.get(handover)
        if end is not None:
            await asyncio.wait({end.asked}, timeout=PATIENCE)

    def _tell_end(self, handover: str, ending: Operation) -> None:
        def told(asked: asyncio.Future[Answer]) -> None:
            if asked.exception() is None:
                end.told_at = self.clock()

        end = _End(ending, self.operations.ask(ending))
        self._ends[handover] = end
        end.asked.add_done_callback(told)

    async def comes_back(self) -> bool:
        """Say whether the database is reached, or is soon after it was lost."""
        if not self.reached:
            self._back.clear()
            away = asyncio.get_running_loop().time() - self.operations.closed_at
            await wait_for_event(self._back, _RETURN - away)
        return self.reached

    def catch_up(self) -> None:
        """Say again what the database may not know, now that it is reached."""
        self._back.set()
        self._prolonged_at = -math.inf
        away = asyncio.get_running_loop().time() - self.operations.closed_at
        if away > _PROLONGED * self.seconds:
            # Leases of owners that were away, too, may have run out meanwhile: they
            # have to be back first.
            self._take_over_from = self.clock() + _RETURN
        for handover, end in list(self._ends.items()):
            self._tell_end(handover, end.details)
        held = {
            id_: {"epoch": lease.epoch, "engaged": list(lease.engaged)}
            for id_, lease in self._leases.items()
            if lease.changed_at > self._beat_at - _FORGOTTEN
        }
        if held:
            _ = self.operations.ask(self.operation("restore") | {"held": held})

    def beat(self) -> None:
        """Prolong what is held, and look for what has run out; about once a second."""
        self._beat_at = now = self.clock()
        self._see_server_clock(now)
        for handover, end in list(self._ends.items()):
            if now > end.told_at + _FORGOTTEN:
                del self._ends[handover]
        if self._leases and now >= self._prolonged_at + _PROLONGED * self.seconds:
            self._prolonged_at = now
            self._prolong()
        if self._takes_over and now >= self._take_over_from:
            self._look_for_overdue(now)

    def _see_server_clock(self, now: float) -> None:
        """Prolong at once where the server's clock was set, and let others do so."""
        before, self._offset = self._offset, self._server_clock.to_server(0.0)
        if abs(self._offset - before) > _GRACE * self.seconds:
            self._prolonged_at = -math.inf
            self._take_over_from = max(self._take_over_from, now + _RETURN)

    def _prolong(self) -> None:
        asked_at = self.clock()
        held = dict(self._leases)

        def prolonged(asked: asyncio.Future[Answer]) -> None:
            if asked.exception():
                return
            lost = set(asked.result()["lost"])
            for handover, lease in held.items():
                if handover not in lost:
                    lease.until = asked_at + self.seconds
                elif self._leases.get(handover) is lease:
                    unawaited(lease.claim_anew(), self._tasks)

        self._set_until(
            {id_: one.epoch for id_, one in held.items()}, self.seconds
        ).add_done_callback(prolonged)

    def _set_until(
        self, epochs: dict[str, int | None], seconds: float
    ) -> asyncio.Future[Answer]:
        prolonging = self.operation("prolong") | {"epochs": epochs, "lease": seconds}
        return self.operations.ask(prolonging)

    def _look_for_overdue(self, asked_at: float) -> None:
        looking = self.operation("take_over") | {
            "grace": _GRACE * self.seconds,
            "accounts": list(self._secrets),
            # What this pool may have lost, it has to end before it takes it over.
            "not": [id_ for id_, lease in self._leases.items() if not lease.holds],
        }
        self.operations.ask(looking).add_done_callback(
            lambda asked: self._taken(asked, asked_at)
        )

    def _taken(self, asked: asyncio.Future[Answer], asked_at: float) -> None:
        if asked.exception():
            return  # then they run out again
        taken = asked.result()["taken"]
        if not self._takes_over and taken:
            _ = self._set_until({one["id"]: one["epoch"] for one in taken}, 0.0)
            return
        for one in taken:
            lease = self._leases.get(one["id"])
            if lease is not None:  # its own, as the server's clock was set
                lease.epoch = one["epoch"]
                continue
            try:
                handover = OpenHandover(**{it: one["entry"][it] for it in _FIELDS})
            except (KeyError, TypeError) as error:  # another version has written it
                logger.failure("a handover can't be taken over", error=error)
                continue
            lease = self._lease(
                handover,
                epoch=one["epoch"],
                until=asked_at + self.seconds,
                began_at=one["entry"].get(BEGAN_AT),
                customer=one["entry"].get(CUSTOMER, ()),
            )
            self.keep(lease)
            self._take_over(handover, lease, one["overdue"])

    def operation(self, do: str) -> Operation:
        """Return what all operations on handovers have in common."""
        return {"do": do, "key": LOCK, "pool": self._pool, "lease": self.seconds}
