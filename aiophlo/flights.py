"""Single flight: two equal dials at the same moment are one double click."""

import asyncio
import struct
import time
from collections import deque

import attrs

from aiophlo.actions import AbortTransfer, Action, DialAction, Hangup
from aiophlo.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason
from aiophlo.rivals import Party, party_of
from aiophlo.wire import Answer, NoAnswer, decode

_Joiners = dict[asyncio.Future[Outcome | None], None]

_FIGURES = struct.Struct("=HIdd")  # status, attempts, seconds, waited
_CUTTING = (AbortTransfer, Hangup)
_REMEMBERED = (Accepted, InDoubt)
MEMORY = 3.0  # seconds after its end in which a flight still answers its equals


class Flights:
    """The dials of one account that are under way, or have only just ended.

    What is remembered is kept small: hundreds of accounts at full rate make it
    tens of thousands of flights, and objects that lie about for seconds cost
    more, in caches and to the garbage collector, than all else here.

    Args:
        loop: The event loop they run on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._under_way: dict[str, _Joiners | None] = {}
        self._ended: dict[str, bytes | Outcome] = {}
        self._endings: deque[str] = deque()  # the keys of `_ended`, oldest first
        self._ended_at: deque[float] = deque()
        self._cuts: dict[Party | None, str] = {}  # the latest one's number
        self._since: dict[str, int] = {}  # flights begun since, by number
        self._cut: deque[tuple[float, Party | None, str]] = deque()
        self._count = 0

    def __len__(self) -> int:
        cuts = len(self._cuts) + len(self._since)
        return len(self._under_way) + len(self._ended) + cuts

    def key(self, action: DialAction) -> str:
        """Return what the dials that are one double click have in common.

        An abort or a hang-up in between, of who dials or who is dialled, makes
        two of them: who dials again after it means it.
        """
        place = (action.verb, action.phlo_id, action.node_id)
        key = " ".join((*place, action.trigger_source, action.to, action.role))
        cuts = self._cuts_of(action) if self._cuts else []
        return f"{max(cuts, key=int)} {key}" if cuts else key

    def _cuts_of(self, action: DialAction) -> list[str]:
        called = (action.phlo_id, action.node_id, action.to)
        parties = (party_of(action), called)
        return [self._cuts[party] for party in parties if party in self._cuts]

    def note(self, action: Action) -> None:
        """Take note that `action` begins, whatever it is."""
        if isinstance(action, _CUTTING):
            self._forget()
            party = party_of(action)
            self._count += 1
            number = self._cuts[party] = str(self._count)
            self._since[number] = 0
            self._cut.append((self._loop.time(), party, number))

    def lead(self, key: str) -> bool:
        """Begin a flight, unless there is an equal one to `join`.

        Returns:
            Whether the caller leads one now, and must `land` it.
        """
        self._forget()
        if key in self._ended or key in self._under_way:
            return False
        self._under_way[key] = None
        self._counted(key, 1)
        return True

    async def join(self, key: str, action: Action) -> Outcome | None:
        """Return the outcome of the equal flight that there is, waiting for it.

        Args:
            key: Of both.
            action: The caller's own, which the outcome is to bear.

        Returns:
            None if its leader went away before anything left: the caller leads
            it now, and must `land` it.
        """
        if key in self._ended:
            outcome: Outcome | None = _unpacked(self._ended[key], action)
        else:
            outcome = await self._end_of(key)
        return outcome and attrs.evolve(outcome, action=action, joined=True)

    async def _end_of(self, key: str) -> Outcome | None:
        joiners = self._under_way[key]
        if joiners is None:
            joiners = self._under_way[key] = {}
        joiner: asyncio.Future[Outcome | None] = self._loop.create_future()
        joiners[joiner] = None
        try:
            return await joiner
        except asyncio.CancelledError:
            if joiner.cancelled():
                joiners.pop(joiner, None)
            elif joiner.result() is None:
                self._hand_over(key)  # it was to lead, and is going too
            raise

    def land(
        self, key: str, outcome: Outcome, answer: Answer | NoAnswer | None = None
    ) -> None:
        """End the flight that the caller leads.

        One whose leader went away before anything left is handed to the first
        who joined it. Accepted and in doubt are remembered.

        Args:
            key: Of the flight.
            outcome: What came of it.
            answer: What decided it; takes less room than the outcome.
        """
        if isinstance(outcome, NotSent) and outcome.reason is Reason.CANCELLED:
            self._hand_over(key)
            return
        for joiner in self._under_way.pop(key) or ():
            if not joiner.done():
                joiner.set_result(outcome)
        if isinstance(outcome, _REMEMBERED):
            self._ended[key] = _packed(outcome, answer)
            self._endings.append(key)
            self._ended_at.append(self._loop.time())
        else:
            self._counted(key, -1)

    def _hand_over(self, key: str) -> None:
        joiners = self._under_way[key]
        while joiners:
            joiner = next(iter(joiners))
            del joiners[joiner]
            if not joiner.done():
                joiner.set_result(None)
                return
        del self._under_way[key]
        self._counted(key, -1)

    def _counted(self, key: str, change: int) -> None:
        number = key.partition(" ")[0] if self._cuts else ""
        if number in self._since:
            self._since[number] += change

    def _forget(self) -> None:
        oldest = self._loop.time() - MEMORY
        while self._ended_at and self._ended_at[0] <= oldest:
            self._ended_at.popleft()
            key = self._endings.popleft()
            del self._ended[key]
            self._counted(key, -1)
        while self._cut and self._cut[0][0] <= oldest:
            self._forget_cut(*self._cut.popleft()[1:])

    def _forget_cut(self, party: Party | None, number: str) -> None:
        """Forget a cut, unless flights begun since would lose their equals."""
        latest = self._cuts[party] == number
        if latest and self._since[number]:
            self._cut.append((self._loop.time(), party, number))
            return
        del self._since[number]
        if latest:
            del self._cuts[party]


def _packed(outcome: Outcome, answer: Answer | NoAnswer | None) -> bytes | Outcome:
    """Return what is enough to tell `outcome` again."""
    if not (isinstance(outcome, Accepted) and isinstance(answer, Answer)):
        return outcome
    figures = _FIGURES.pack(
        answer.status, outcome.attempts, outcome.seconds, outcome.waited
    )
    return figures + answer.body


def _unpacked(kept: bytes | Outcome, action: Action) -> Outcome:
    if isinstance(kept, Outcome):
        return kept
    status, attempts, seconds, waited = _FIGURES.unpack_from(kept)
    return decode(
        action,
        Answer(status, {}, kept[_FIGURES.size :]),
        now=time.time,
        attempts=attempts,
        seconds=seconds,
        waited=waited,
    )
