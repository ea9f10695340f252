"""Deduplication (single flight): equal dials at the same time share one outcome.

Every dial is registered, however it was sent: awaited, streamed, or by a handover.
Whether a dial joins an equal one is decided by the sender.
"""

import asyncio
import math
import struct
import time
from collections import deque
from typing import TypeAlias

from aiophlo.model.actions import Action, DialAction, PartyKey
from aiophlo.model.address_matching import phone_of
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason
from aiophlo.protocol.codec import Answer, NoAnswer, decode
from aiophlo.sending.superseding import party_of

# ended, status, attempts, seconds, waited, id, length of the request id
_FIGURES = struct.Struct("=dHIddQB")
_REMEMBERED = (Accepted, InDoubt)
MEMORY = 3.0  # seconds after its end in which a dial still answers its equals
_ID_BYTES = 255  # of a request id
_PERIODS = 4  # the one that runs, and those that hold what ended within MEMORY
_PERIOD = MEMORY / (_PERIODS - 1)


def dial_key(dial: DialAction) -> str:
    """Return what equal dials have in common, however their addresses are spelled."""
    return " ".join(
        (
            dial.verb,
            dial.phlo_id,
            dial.node_id,
            phone_of(dial.trigger_source),
            phone_of(dial.to),
            dial.role,
        )
    )


class RegisteredDial:
    """A dial under way, which its equals may join.

    Attributes:
        action: What is asked.
        id: What observers know it by; 0 for none.
        joiners: The dials that joined it, each with the future it awaits; or None.
    """

    __slots__ = ("action", "id", "joiners")

    action: Action

    def __init__(self) -> None:
        self.id = 0
        self.joiners: _Joiners | None = None

    @property
    def has_left(self) -> bool:
        """Whether a phone can be ringing, for all that is known so far."""
        raise NotImplementedError


_Joiners: TypeAlias = dict[
    RegisteredDial, asyncio.Future[tuple[Outcome | None, int] | None]
]
_Kept = bytes | tuple[float, Outcome, int]  # when it ended, what it came to, its id


class DialRegistry:
    """The dials of one account that are under way, or have only just ended.

    A dial that has ended is kept as packed bytes by 64 bits of a hash, and all dials
    of a period of a second are forgotten at once, when three more are over. Hundreds
    of accounts at full rate have tens of thousands of dials in memory, and as objects
    these would cost more, in caches and in the garbage collector, than all else here.

    Args:
        loop: The event loop they run on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._under_way: dict[
            str, RegisteredDial | list[RegisteredDial]
        ] = {}  # a list only where `on_duplicate` lets equals ring
        # By their key's hash, which takes least memory; the period that runs is first.
        self._ended: deque[dict[int, _Kept]] = deque(maxlen=_PERIODS)
        self._ended.extend({} for _ in range(_PERIODS))
        self._period_ends = loop.time() + _PERIOD
        self._cuts: dict[PartyKey | None, str] = {}  # last abort's number
        self._cut_until: dict[
            PartyKey | None, float
        ] = {}  # loop time for which it's kept
        self._count = 0

    def __len__(self) -> int:
        ended = sum(map(len, self._ended))
        return len(self._under_way) + ended + len(self._cuts)

    def key(self, action: DialAction) -> str:
        """Return the key by which equal dials are found.

        After an abort or a hang-up of the agent or of the one dialled, the same dial
        has another key: an agent who dials again after it means it.
        """
        self._forget()  # now, not once the key names what is then forgotten
        key = dial_key(action)
        cuts = self._cuts_of(action) if self._cuts else None
        return f"{max(cuts, key=int)} {key}" if cuts else key

    def _cuts_of(self, action: DialAction) -> list[str]:
        return [self._cuts[party] for party in self._cut_parties(action)]

    def _cut_parties(self, dial: DialAction) -> list[PartyKey | None]:
        called = (dial.phlo_id, dial.node_id, phone_of(dial.to))
        return [party for party in (party_of(dial), called) if party in self._cuts]

    def note(self, action: Action) -> None:
        """Give the dials after `action` other keys, if it ends dials."""
        if action.ends_dials:
            self.cut(party_of(action))

    def cut(self, party: PartyKey | None) -> None:
        """Give the dials from now on that are about `party` other keys."""
        now = self._forget()
        self._count += 1
        self._cuts[party] = str(self._count)
        self._cut_until[party] = now + MEMORY

    def begin(self, key: str, dial: RegisteredDial) -> None:
        """Register a dial that is under way now; it must be passed to `finish`."""
        equal = self._under_way.get(key)
        if equal is None:
            self._under_way[key] = dial
        elif isinstance(equal, list):
            equal.append(dial)
        else:
            self._under_way[key] = [equal, dial]

    def has_equal(self, key: str) -> bool:
        """Say whether there is an equal dial whose outcome `wait` returns."""
        return key in self._under_way or self._recent(key) is not None

    async def wait(
        self, key: str, dial: RegisteredDial, *, deadline: float = math.inf
    ) -> tuple[Outcome | None, int] | None:
        """Return what an equal dial came to, waiting for it if it is under way.

        One that has just been accepted or left in doubt comes first: whatever
        comes of others, that phone may be ringing.

        Args:
            key: Key of both dials.
            dial: The caller's own.
            deadline: Loop time by which the other must have left.

        Returns:
            Its outcome and id; no outcome if it had not left in time; None if its
            leader went away before anything left, or what was remembered has been
            forgotten since `has_equal`: then the caller's own is registered, and
            must `finish`.
        """
        kept = self._recent(key)
        if kept is not None:
            return _unpacked(kept, dial.action)
        equal = self._under_way.get(key)
        if equal is None:
            self.begin(key, dial)
            return None
        if isinstance(equal, list):
            equal = next((one for one in equal if one.has_left), equal[0])
        return await self._end_of(equal, key, dial, deadline)

    def _recent(self, key: str) -> _Kept | None:
        key_hash = hash(key)
        for ended in self._ended:
            if kept := ended.get(key_hash):
                is_recent = self._loop.time() - _ended_at(kept) < MEMORY
                return kept if is_recent else None
        return None

    async def _end_of(
        self, leader: RegisteredDial, key: str, dial: RegisteredDial, deadline: float
    ) -> tuple[Outcome | None, int] | None:
        joiner: asyncio.Future[tuple[Outcome | None, int] | None] = (
            self._loop.create_future()
        )
        if leader.joiners is None:
            leader.joiners = {}
        leader.joiners[dial] = joiner
        timer = None
        if deadline < math.inf:
            timer = self._loop.call_at(deadline, self._give_up, key, dial)
        try:
            return await joiner
        except asyncio.CancelledError:
            if joiner.cancelled():
                self._part(key, dial)
            elif joiner.result() is None:
                self._hand_over(key, dial)  # the heir is cancelled, too
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _leader_of(self, key: str, dial: RegisteredDial) -> RegisteredDial | None:
        """Return which of those under way `dial` has joined."""
        equal = self._under_way.get(key)
        for one in equal if isinstance(equal, list) else (equal,):
            if one is not None and one.joiners and dial in one.joiners:
                return one
        return None

    def _part(self, key: str, dial: RegisteredDial) -> None:
        leader = self._leader_of(key, dial)
        if leader is not None and leader.joiners is not None:
            del leader.joiners[dial]

    def _give_up(self, key: str, dial: RegisteredDial) -> None:
        """End a joiner's wait for one that hasn't left by the joiner's deadline."""
        leader = self._leader_of(key, dial)
        if leader is None or leader.joiners is None or leader.has_left:
            return
        joiner = leader.joiners.pop(dial)
        if not joiner.done():
            joiner.set_result((None, leader.id))

    def finish(
        self,
        key: str,
        dial: RegisteredDial,
        outcome: Outcome,
        answer: Answer | NoAnswer | None = None,
    ) -> None:
        """End a registered dial, and give its outcome to the dials that joined it.

        Where it was cancelled before anything left, the first dial that joined it
        takes its place. Accepted and in doubt are remembered.

        Args:
            key: Key of the dial.
            dial: The dial.
            outcome: Its outcome.
            answer: The answer that decided it; takes less room than the outcome.
        """
        if isinstance(outcome, NotSent) and outcome.reason is Reason.CANCELLED:
            self._hand_over(key, dial)
            return
        self._replace(key, dial, None)
        if dial.joiners:
            for joiner in dial.joiners.values():
                if not joiner.done():
                    joiner.set_result((outcome, dial.id))
        if isinstance(outcome, _REMEMBERED) and not outcome.joined:
            if self._cuts and isinstance(dial.action, DialAction):
                for party in self._cut_parties(dial.action):
                    self._cut_until[party] = self._loop.time() + MEMORY
            now = self._forget()
            self._ended[0][hash(key)] = _packed(now, outcome, answer, dial.id)

    def _hand_over(self, key: str, dial: RegisteredDial) -> None:
        joiners, dial.joiners = dial.joiners, None
        while joiners:
            heir = next(iter(joiners))
            joiner = joiners.pop(heir)
            if not joiner.done():
                heir.joiners = joiners
                self._replace(key, dial, heir)
                joiner.set_result(None)
                return
        self._replace(key, dial, None)

    def _replace(
        self, key: str, dial: RegisteredDial, heir: RegisteredDial | None
    ) -> None:
        equal = self._under_way[key]
        if equal is dial:
            if heir is None:
                del self._under_way[key]
            else:
                self._under_way[key] = heir
            return
        assert isinstance(equal, list)  # noqa: S101 -- as `begin` made it
        number = equal.index(dial)
        equal[number : number + 1] = () if heir is None else (heir,)
        if len(equal) == 1:
            self._under_way[key] = equal[0]

    def _forget(self) -> float:
        """Begin a new period if the last one is over; return the time."""
        now = self._loop.time()
        if now >= self._period_ends:
            long_over = now >= self._period_ends + MEMORY
            for _ in range(_PERIODS if long_over else 1):
                self._ended.appendleft({})
            self._period_ends = now + _PERIOD
            if self._cuts:
                self._forget_cuts(now)
        return now

    def _forget_cuts(self, now: float) -> None:
        """Forget the aborts and hang-ups of parties whose dials are all forgotten."""
        kept = {party for party, until in self._cut_until.items() if until > now}
        for key in self._under_way:
            *_, phlo_id, node_id, trigger_source, to, _ = key.split(" ")
            kept.update({(phlo_id, node_id, trigger_source), (phlo_id, node_id, to)})
        for party in self._cuts.keys() - kept:
            del self._cuts[party], self._cut_until[party]


def _packed(
    ended: float, outcome: Outcome, answer: Answer | NoAnswer | None, number: int
) -> _Kept:
    """Return `outcome` in the form in which it takes least memory."""
    if not (isinstance(outcome, Accepted) and isinstance(answer, Answer)):
        return ended, outcome, number
    request_id = (outcome.request_id or "").encode(errors="replace")[:_ID_BYTES]
    figures = _FIGURES.pack(
        ended,
        answer.status,
        outcome.attempts,
        outcome.seconds,
        outcome.waited,
        number,
        len(request_id),
    )
    return figures + request_id + answer.body


def _ended_at(kept: _Kept) -> float:
    ended: float = _FIGURES.unpack_from(kept)[0] if isinstance(kept, bytes) else kept[0]
    return ended


def _unpacked(kept: _Kept, action: Action) -> tuple[Outcome, int]:
    if not isinstance(kept, bytes):
        return kept[1:]
    _, status, attempts, seconds, waited, number, length = _FIGURES.unpack_from(kept)
    body_at = _FIGURES.size + length
    request_id = kept[_FIGURES.size : body_at].decode(errors="replace")
    answer = Answer(status, {"X-Request-ID": request_id}, kept[body_at:])
    outcome = decode(
        action,
        answer,
        now=time.time,
        attempts=attempts,
        seconds=seconds,
        waited=waited,
    )
    return outcome, number
