"""The table of open handovers, from which they are recovered after a crash.

They are rows of `handovers`, a table in a journal's file:

===========  ====  ===========================================================
column       type  meaning
===========  ====  ===========================================================
id           text  random
account      text  auth_id of the account
phlo_id      text  PHLO
node_id      text  its multi-party-call node
agent        text  the agent's address, **in the clear**: without it the
                   customer could not be brought back
customer     text  the customer's address, masked
targets      text  whom the agent was to reach, masked
began_at     real  Unix time, before the first request left
===========  ====  ===========================================================

A row is deleted, and overwritten, once the customer is known to be with the
agent, with the partner, or gone; `-wal` forgets it when the journal is closed, if
not before. The mode of both is 0600.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from aiophlo.journal.database import fields_of
from aiophlo.model.handover_records import OpenHandover

_COLUMNS: Final = fields_of(OpenHandover)
BEGIN: Final = (
    f"INSERT OR REPLACE INTO handovers ({', '.join(_COLUMNS)})"  # noqa: S608 -- ours
    f" VALUES (:{', :'.join(_COLUMNS)})"
)
END: Final = "DELETE FROM handovers WHERE id = :id"


class HandoverTable:
    """The open handovers in one journal's file.

    Args:
        write: Puts a statement with its values on disk.
        read: Gives all of them.
    """

    def __init__(
        self,
        write: Callable[[str, Mapping[str, object]], asyncio.Future[None]],
        read: Callable[[], list[OpenHandover]],
    ) -> None:
        self._write = write
        self._read = read
        self._cared_for: set[str] = set()

    async def begin(self, handover: OpenHandover) -> None:
        """Write the row of a handover, before any of its requests leaves.

        Raises:
            JournalError: It could not be written: send nothing.
        """
        self._cared_for.add(handover.id)
        await self._write(BEGIN, attrs.asdict(handover))

    async def end(self, handover: OpenHandover) -> None:
        """Delete the row of a handover whose customer is known not to be on hold.

        Raises:
            JournalError: It could not be written.
        """
        self._cared_for.discard(handover.id)
        await self._write(END, {"id": handover.id})

    def let_go(self, handover: OpenHandover) -> None:
        """Unclaim a handover, so that `recover_handovers` may take it."""
        self._cared_for.discard(handover.id)

    def care_for(self, handover: OpenHandover) -> bool:
        """Claim a handover that `left_open` returned; False if it has been claimed."""
        if handover.id in self._cared_for:
            return False
        self._cared_for.add(handover.id)
        return True

    def left_open(self) -> list[OpenHandover]:
        """Return the handovers that are not claimed in this process, the oldest first.

        Raises:
            JournalError: They can't be read.
        """
        return [one for one in self._read() if one.id not in self._cared_for]
