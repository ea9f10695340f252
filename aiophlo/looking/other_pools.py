"""Asks whom other pools have dialled lately, where the pool shares that with them."""

import time

from aiophlo.coordination import AwayError
from aiophlo.looking.matching import Window
from aiophlo.model.accounts import Account
from aiophlo.model.actions import DialAction
from aiophlo.model.outcomes import InDoubt
from aiophlo.sending.account_senders import AccountSenders


class OtherPools:
    """The pools that share a coordinator with this one, if there are any.

    They remember a dial for about a minute after its end.

    Args:
        senders: The pool's, open.
    """

    def __init__(self, senders: AccountSenders) -> None:
        self._senders = senders

    async def have_dialled(
        self, outcome: InDoubt, account: Account, window: Window
    ) -> bool:
        """Say whether a dial of theirs can have rung the phone of one in doubt.

        While nobody can be asked, it can.

        Args:
            outcome: The one in doubt, of this pool, joined by it, or of an earlier one.
            account: Whose.
            window: When its call can have begun.
        """
        shared = self._senders.by_auth_id[account.auth_id].shared
        if shared is None:
            return False
        assert isinstance(outcome.action, DialAction)  # noqa: S101 -- checked by callers
        now, left_at = time.time(), outcome.left_at or 0.0
        was_earlier = left_at < self._senders.dials.begun_at  # of a process before
        try:
            return await shared.others_dialled(
                outcome.action,
                since=now - window.begin,
                until=now - window.end,
                joined=outcome.joined or was_earlier,
            )
        except AwayError:
            return True
