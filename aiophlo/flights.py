"""Single flight: two equal dials at the same moment are one double click."""

import asyncio
import struct
import time

import attrs

from aiophlo.actions import AbortTransfer, Action, DialAction, Hangup
from aiophlo.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason
from aiophlo.rivals import Party, party_of
from aiophlo.wire import Answer, NoAnswer, decode

_Joiners = dict[asyncio.Future[Outcome | None], None]
_Kept = bytes | tuple[float, Outcome]  # when it ended, and what it came to

_FIGURES = struct.Struct("=dHIdd")  # ended, status, attempts, seconds, waited
_CUTTING = (AbortTransfer, Hangup)
_REMEMBERED = (Accepted, InDoubt)
MEMORY = 3.0  # seconds after its end in which a flight still answers its equals


class Flights:
    """The dials of one account that are under way, or have only just ended.

    What is remembered is kept small: hundreds of accounts at full rate make it
    tens of thousands of flights, and objects that lie about for seconds cost
    more, in caches and to the garbage collector, than all else here. So they
    are forgotten all at once: those of one period when the next one is over.

    Args:
        loop: The event loop they run on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._under_way: dict[str, _Joiners | None] = {}
        self._ended: dict[str, _Kept] = {}  # in this period of `MEMORY` seconds
        self._ended_before: dict[str, _Kept] = {}  # in the one before
        self._period_ends = loop.time() + MEMORY
        self._cuts: dict[Party | None, str] = {}  # the latest one's number
        self._count = 0

    def __len__(self) -> int:
        ended = len(self._ended) + len(self._ended_before)
        return len(self._under_way) + ended + len(self._cuts)

    def key(self, action: DialAction) -> str:
        """Return what the dials that are one double click have in common.

        An abort or a hang-up in between, of who dials or who is dialled, makes
        two of them: who dials again after it means it.
        """
        self._forget()  # now, not once the key names what is then forgotten
        who = (action.trigger_source, action.to, action.role)
        key = " ".join((action.verb, action.phlo_id, action.node_id, *who))
        cuts = self._cuts_of(action) if self._cuts else None
        return f"{max(cuts, key=int)} {key}" if cuts else key

    def _cuts_of(self, action: DialAction) -> list[str]:
        called = (action.phlo_id, action.node_id, action.to)
        parties = (party_of(action), called)
        return [self._cuts[party] for party in parties if party in self._cuts]

    def note(self, action: Action) -> None:
        """Take note that `action` begins, whatever it is."""
        if isinstance(action, _CUTTING):
            self._forget()
            self._count += 1
            self._cuts[party_of(action)] = str(self._count)

    def lead(self, key: str) -> bool:
        """Begin a flight, unless there is an equal one to `join`.

        Returns:
            Whether the caller leads one now, and must `land` it.
        """
        if key in self._under_way:
            return False
        kept = self._kept(key)
        if kept is not None and self._loop.time() - _ended_at(kept) < MEMORY:
            return False
        self._under_way[key] = None
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
        kept = None if key in self._under_way else self._kept(key)
        if kept is not None:
            outcome: Outcome | None = _unpacked(kept, action)
        else:
            outcome = await self._end_of(key)
        return outcome and attrs.evolve(outcome, action=action, joined=True)

    def _kept(self, key: str) -> _Kept | None:
        return self._ended.get(key) or self._ended_before.get(key)

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
            now = self._forget()
            self._ended[key] = _packed(now, outcome, answer)

    def _hand_over(self, key: str) -> None:
        joiners = self._under_way[key]
        while joiners:
            joiner = next(iter(joiners))
            del joiners[joiner]
            if not joiner.done():
                joiner.set_result(None)
                return
        del self._under_way[key]

    def _forget(self) -> float:
        """Begin a new period if the last one is over; return the time."""
        now = self._loop.time()
        if now >= self._period_ends:
            long_over = now >= self._period_ends + MEMORY
            self._ended_before = {} if long_over else self._ended
            self._ended = {}
            self._period_ends = now + MEMORY
            if self._cuts:
                self._forget_cuts()
        return now

    def _forget_cuts(self) -> None:
        """Forget the cuts of those who have no dial left to tell from a later one."""
        have_dials = set()
        for key in (*self._under_way, *self._ended_before):
            *_, phlo_id, node_id, trigger_source, to, _ = key.split(" ")
            have_dials.add((phlo_id, node_id, trigger_source))
            have_dials.add((phlo_id, node_id, to))
        self._cuts = {
            party: number for party, number in self._cuts.items() if party in have_dials
        }


def _packed(ended: float, outcome: Outcome, answer: Answer | NoAnswer | None) -> _Kept:
    """Return what is enough to tell `outcome` again."""
    if not (isinstance(outcome, Accepted) and isinstance(answer, Answer)):
        return ended, outcome
    figures = _FIGURES.pack(
        ended, answer.status, outcome.attempts, outcome.seconds, outcome.waited
    )
    return figures + answer.body


def _ended_at(kept: _Kept) -> float:
    ended: float = _FIGURES.unpack_from(kept)[0] if isinstance(kept, bytes) else kept[0]
    return ended


def _unpacked(kept: _Kept, action: Action) -> Outcome:
    if not isinstance(kept, bytes):
        return kept[1]
    _, status, attempts, seconds, waited = _FIGURES.unpack_from(kept)
    return decode(
        action,
        Answer(status, {}, kept[_FIGURES.size :]),
        now=time.time,
        attempts=attempts,
        seconds=seconds,
        waited=waited,
    )
