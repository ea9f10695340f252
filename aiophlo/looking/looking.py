"""A pool's looker, with one sender to the Voice API per account."""

from collections.abc import Callable, Iterable
from typing import Final, TypeGuard

from aiophlo.looking.call_list import CallList, Reading
from aiophlo.looking.caller_ids import Node
from aiophlo.looking.looker import LOOK_FOR, Looker, LookOptions
from aiophlo.looking.matching import Window
from aiophlo.looking.other_pools import OtherPools
from aiophlo.looking.recent_dials import MadeDial, RecentDials
from aiophlo.model.accounts import Account
from aiophlo.model.actions import DialAction
from aiophlo.model.outcomes import InDoubt, Outcome
from aiophlo.model.sightings import Sighting
from aiophlo.protocol.http_client import HttpClient
from aiophlo.sending.account_senders import AccountSenders
from aiophlo.sending.sender import Sender

_LATEST: Final = 1e11  # Unix time that is one, though 3,000 years away
PATIENCE: Final = 120.0  # seconds for which the questions of a batch wait their turn


class Looking:
    """Looks for the dials of a pool. From when it is made, every dial is remembered.

    Args:
        senders: The pool's, open.
        voice_client_of: Returns an account's client of the Voice API.
        caller_ids: Numbers that dials call from; empty if they aren't known.
    """

    def __init__(
        self,
        senders: AccountSenders,
        voice_client_of: Callable[[Account], HttpClient],
        caller_ids: frozenset[str],
    ) -> None:
        self._senders = senders
        self._voice_client_of = voice_client_of
        recent = RecentDials(senders.dials)
        others = OtherPools(senders)
        self._looker = Looker(LookOptions(caller_ids, others.have_dialled), recent)
        self._voice: dict[str, Sender] = {}

    def close(self) -> None:
        """Let no look wait any longer."""
        self._looker.close()

    def can_look_for(self, outcome: Outcome) -> TypeGuard[InDoubt]:
        """Say whether it is a dial in doubt of which it is known when it left."""
        return (
            isinstance(outcome, InDoubt)
            and isinstance(outcome.action, DialAction)
            and outcome.left_at is not None
            and 0.0 <= outcome.left_at <= _LATEST
        )

    async def look(
        self,
        outcome: InDoubt,
        account: Account,
        *,
        look_for: float = LOOK_FOR,
        is_alone: bool = True,
        wanted: Callable[[Sighting], bool] | None = None,
        once: bool = False,
    ) -> Sighting:
        """Look for a dial in doubt, as `Looker.look` does."""
        return await self._looker.look(
            outcome,
            self.voice_sender(account),
            look_for=look_for,
            is_alone=is_alone,
            wanted=wanted,
            once=once,
        )

    async def look_once(
        self, outcome: InDoubt, account: Account, *, is_alone: bool = True
    ) -> Sighting:
        """Look once, when all calls are listed and the questions have their turn."""
        return await self.look(
            outcome, account, look_for=PATIENCE, is_alone=is_alone, once=True
        )

    async def learn(
        self, account: Account, node: Node, samples: Iterable[MadeDial]
    ) -> None:
        """Learn what a node's dials call from, by some of an earlier run."""
        calls = CallList(self.voice_sender(account))

        async def read(dial: MadeDial) -> Reading:
            return await calls.read(
                node[0],
                dial.to,
                since=Window.around(dial.left_at).begin,
                within=PATIENCE,
                queued=False,
            )

        await self._looker.caller_ids.learn(node, read, samples)

    async def read(
        self, account: Account, phlo_id: str, to: str, *, since: float, within: float
    ) -> Reading:
        """Read the lists of calls to an address, as `CallList.read` does."""
        calls = CallList(self.voice_sender(account))
        return await calls.read(phlo_id, to, since=since, within=within)

    def voice_sender(self, account: Account) -> Sender:
        """Return what sends to the Voice API for an account."""
        sender = self._voice.get(account.auth_id)
        if sender is None:
            client = self._voice_client_of(account)
            sender = self._senders.sender_over(account, client)
            self._voice[account.auth_id] = sender
        return sender
