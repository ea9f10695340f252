"""Sends again, of what is in doubt, only what was looked for and is unseen."""

import time
from collections.abc import Awaitable, Callable

import attrs

from aiophlo.model.accounts import Account
from aiophlo.model.actions import DialAction
from aiophlo.model.outcomes import InDoubt, Outcome
from aiophlo.model.sightings import Sighting


@attrs.frozen
class Unseen:
    """The condition on which a batch sends again what an earlier run left in doubt.

    Attributes:
        look: Looks once for a dial of an account, when its questions have their turn.
        after: Seconds since it left, before which it is left alone.
        now: Gives Unix time.
    """

    look: Callable[[InDoubt, Account], Awaitable[Sighting]]
    after: float
    now: Callable[[], float] = time.time

    async def settle(self, doubt: InDoubt, account: Account) -> Outcome | None:
        """Return what a doubt comes to; None if it is to be sent again."""
        if not isinstance(doubt.action, DialAction) or doubt.left_at is None:
            return doubt
        if self.now() - doubt.left_at < self.after:
            return doubt
        sighting = await self.look(doubt, account)
        return None if sighting.nothing_listed else sighting.outcome
