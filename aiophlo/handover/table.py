"""What a crash must not make anybody forget: the handovers that are open.

They are rows of `handovers`, a table in a journal's file:

===========  ====  ===========================================================
column       type  meaning
===========  ====  ===========================================================
id           text  random
account      text  auth_id of the account
phlo_id      text  PHLO
node_id      text  its multi-party-call node
agent        text  the agent's address, **in the clear**: without it nobody
                   could bring the customer back
customer     text  the customer's address, masked
targets      text  whom the agent was to reach, masked
began_at     real  Unix time, before the first request left
===========  ====  ===========================================================

A row is deleted, and overwritten, once the customer is known to be with the
agent, with the partner, or gone; `-wal` forgets it when the journal is closed, if
not before. The mode of both is 0600.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from aiophlo.addresses import mask

BEGIN: Final = "INSERT OR REPLACE INTO handovers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
END: Final = "DELETE FROM handovers WHERE id = ?"


@attrs.frozen(kw_only=True)
class OpenHandover:
    """A handover whose customer may be on hold.

    Attributes:
        account: auth_id of the account.
        phlo_id: PHLO the call runs in.
        node_id: Its multi-party-call node.
        agent: Address of the agent, in the clear.
        customer: Address of the customer, masked.
        targets: Those whom the agent was to reach, masked.
        began_at: Unix time.
        id: Random.
    """

    account: str
    phlo_id: str
    node_id: str
    agent: str = attrs.field(repr=mask)
    customer: str
    targets: str
    began_at: float = attrs.field(factory=time.time)
    id: str = attrs.field(factory=lambda: secrets.token_hex(8))


class HandoverTable:
    """The open handovers in one journal's file.

    Args:
        write: Puts a statement with its values on disk.
        read: Gives all rows.
    """

    def __init__(
        self,
        write: Callable[[str, tuple[object, ...]], asyncio.Future[None]],
        read: Callable[[], list[tuple[Any, ...]]],
    ) -> None:
        self._write = write
        self._read = read
        self._cared_for: set[str] = set()

    async def begin(self, handover: OpenHandover) -> None:
        """Note a handover, before anything of it leaves.

        Raises:
            JournalError: It could not be written: send nothing.
        """
        self._cared_for.add(handover.id)
        values = (
            handover.id,
            handover.account,
            handover.phlo_id,
            handover.node_id,
            handover.agent,
            handover.customer,
            handover.targets,
            handover.began_at,
        )
        await self._write(BEGIN, values)

    async def end(self, handover: OpenHandover) -> None:
        """Forget a handover whose customer is known to be well.

        Raises:
            JournalError: It could not be written.
        """
        self._cared_for.discard(handover.id)
        await self._write(END, (handover.id,))

    def let_go(self, handover: OpenHandover) -> None:
        """Leave a handover to whoever recovers what is open."""
        self._cared_for.discard(handover.id)

    def care_for(self, handover: OpenHandover) -> bool:
        """Take a handover that `left_open` gave; False if somebody else has."""
        if handover.id in self._cared_for:
            return False
        self._cared_for.add(handover.id)
        return True

    def left_open(self) -> list[OpenHandover]:
        """Return those that nobody in this process cares for, the oldest first.

        Raises:
            JournalError: They can't be read.
        """
        handovers = [
            OpenHandover(
                id=row[0],
                account=row[1],
                phlo_id=row[2],
                node_id=row[3],
                agent=row[4],
                customer=row[5],
                targets=row[6],
                began_at=row[7],
            )
            for row in self._read()
        ]
        return [one for one in handovers if one.id not in self._cared_for]
