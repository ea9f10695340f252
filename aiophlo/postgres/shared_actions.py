"""One dial per double click, and the last word to a party, in all pools.

A dial is registered in a row under a keyed hash of what equal dials have in common; an
awaited one that finds an equal row waits for what that comes to. Every action on a
party is told to all pools, whose own actions it may supersede.
"""

import asyncio
import secrets
from collections import deque
from typing import Any, Final

import attrs

from aiophlo.coordination import AwayError, Heard, UnderWay
from aiophlo.model import address_matching
from aiophlo.model.accounts import Account
from aiophlo.model.actions import Action, DialAction, PartyKey
from aiophlo.model.address_matching import phone_of
from aiophlo.model.outcomes import (
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
)
from aiophlo.model.redaction import mask_text
from aiophlo.postgres.connection import wait_for_event
from aiophlo.postgres.keyed_hash import keyed_hash, secret_of
from aiophlo.postgres.operations import Answer, Operation, Operations
from aiophlo.sending.deduplication import MEMORY, dial_key
from aiophlo.sending.superseding import party_of

_LOOK_EVERY: Final = 0.5  # seconds, at what is joined: notices can get lost
_FIRST_LOOK: Final = 0.1  # seconds to the second one, which tells whether it has left
_LAST_WORD: Final = 0.2  # seconds in which one that has left just in time says so
_AWAY: Final = 5.0  # seconds without the database; then nobody waits for its word
_DEAD_AFTER: Final = 2  # looks that find its pool gone: a listener may connect anew
_PATIENCE: Final = 3.0  # seconds in which the database answers, or is away
_KNOWN: Final = MEMORY + 2.0  # seconds that parties are known after an action's end
_UNHURRIED: Final = 0.05  # seconds that an end nobody waits for may be told later
_REPEATED: Final = 60.0  # seconds after its deadline until an action surely has ended
_LONGEST_KNOWN: Final = 86_400.0  # seconds that what has no deadline hears of dials
_ON_ITS_WAY: Final = 17.0  # seconds from a dial's end, as an abort sets it, to its call
_SKEW: Final = 1.0  # seconds for the question's own way
_OWN: Final = Reason.CANCELLED, Reason.CLOSED  # one in another pool takes its place
_KINDS: Final = {kind.verdict: kind for kind in (Accepted, Rejected, NotSent, InDoubt)}


@attrs.frozen
class _Row:
    key: int  # 0 for what is no dial
    id: int
    parties: tuple[tuple[int, PartyKey], ...]  # the agent's, and who is called


class PostgresActions:
    """The actions under way of one account, as `coordination.SharedActions`.

    Args:
        account: Whose. Its token keys the hashes: only who may send can tell whom a
            row is about.
        heard: Told of other pools' actions on parties of this one's.
        operations: Asks the database.
        pool: This pool's number.
    """

    def __init__(
        self, account: Account, heard: Heard, operations: Operations, pool: int
    ) -> None:
        self._secret = secret_of(account)
        self._heard = heard
        self._operations = operations
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._rows: dict[UnderWay, _Row] = {}
        self._by_id: dict[int, UnderWay] = {}
        self._asked: set[int] = set()  # of these, for which others wait
        self._joined: dict[int, asyncio.Event] = {}  # set when it has ended
        self._parties: dict[int, tuple[PartyKey, int]] = {}  # with how many know it
        self._past: deque[tuple[float, int]] = deque()  # parties, and until when
        self._untold: list[tuple[_Row, Outcome | None, float]] = []  # of their ends

    async def begin(self, dial: UnderWay) -> Outcome | None:
        """Register a dial, unless an equal one of another pool stands for it."""
        row = self._row_of(dial.action)
        self._know(row)
        try:
            return await self._begin(dial, row)
        finally:
            if dial not in self._rows:  # else `finish` does
                self._forget_later(row)

    async def _begin(self, dial: UnderWay, row: _Row) -> Outcome | None:
        while True:
            answer = await self._answer(dial, row)
            if answer is None or "join" not in answer:
                return None
            outcome = await self._join(row.key, int(answer["join"]), answer, dial)
            if outcome is not None:
                return outcome
            row = attrs.evolve(row, id=_new_id())

    async def _answer(self, dial: UnderWay, row: _Row) -> Answer | None:
        """Return the answer; None if the database is away, or too slow for the dial.

        Even where no answer comes, the row may be there, and has to be ended: else it
        would be joined for as long as this pool lives.
        """
        if not self._operations.open:
            return None
        assert isinstance(dial.action, DialAction)  # noqa: S101 -- alone joins another
        asked = self._operations.ask(self._dial(row, dial.action, once=True))
        patience = dial.deadline - self._loop.time()
        answer = None
        try:
            with dial.coming():
                if patience < _PATIENCE:
                    await asyncio.wait({asked}, timeout=max(patience, 0.0))
                    answer = asked.result() if asked.done() else None
                else:
                    answer = await asked
        except AwayError:
            pass
        finally:
            if answer is None or "join" not in answer:
                self._enter(dial, row)
        return answer

    async def others_dialled(
        self, dial: DialAction, *, since: float, until: float, joined: bool
    ) -> bool:
        """Say whether another pool's dial can have rung the same phone."""
        answer = await self._operations.ask(
            {
                "do": "others_dialled",
                "phone": self._phone(dial),
                "pool": self._pool,
                "since": since + _ON_ITS_WAY,
                "until": until - _SKEW,
                "joined": joined,
                "equal": self._hash(dial_key(dial)),
            },
            within=_UNHURRIED,
        )
        return bool(answer["others"])

    def register(self, action: UnderWay) -> None:
        """Register an action that joins no other, such as a streamed dial."""
        asked = action.action
        if isinstance(asked, DialAction):
            row = self._row_of(asked)
            if self._operations.tell(self._dial(row, asked, once=False)):
                self._enter(action, row)
                self._know(row)
            return
        party = party_of(asked)
        if party is None:
            return
        row = _Row(0, 0, ((self._hash(*party), party),))
        self._rows[action] = row
        self._know(row)
        note = self._knowing(action, row) if asked.idempotent else {}
        note |= {
            "do": "note",
            "party": row.parties[0][0],
            "action": type(asked).__name__,
            "ends_dials": asked.ends_dials,
            "pool": self._pool,
        }
        self._operations.tell(note)

    def _knowing(self, action: UnderWay, row: _Row) -> Operation:
        """Let dials be told of: after one, the action isn't repeated."""
        left = min(action.deadline - self._loop.time(), _LONGEST_KNOWN)
        return {
            "do": "know",
            "party": row.parties[0][0],
            "pool": self._pool,
            "known_for": left + _REPEATED,
        }

    def finish(self, action: UnderWay, outcome: Outcome) -> None:
        """Tell whoever joined it, in whatever pool, what it came to."""
        row = self._rows.pop(action, None)
        if row is None:
            return
        self._forget_later(row)
        if row.id:
            del self._by_id[row.id]
            within = 0.0 if row.id in self._asked else _UNHURRIED
            self._asked.discard(row.id)
            is_own = isinstance(outcome, NotSent) and outcome.reason in _OWN
            self._end(row, None if is_own else outcome, within=within)

    def _end(
        self,
        row: _Row,
        outcome: Outcome | None,
        since: float = 0.0,
        *,
        within: float = 0.0,
    ) -> None:
        now = self._loop.time()
        since = since or now
        remembered = isinstance(outcome, (Accepted, InDoubt))
        memory = MEMORY - (now - since) if remembered else 0.0

        def told(answer: Answer | None) -> None:
            if answer is None:
                self._untold.append((row, outcome, since))

        self._operations.call(
            {
                "do": "finish",
                "key": row.key,
                "id": row.id,
                "memory": max(memory, 0.0),
                "outcome": None if outcome is None else _packed(outcome),
            },
            told,
            within=within,
        )

    def tell_untold(self) -> None:
        """Tell of ends that could not be told while the database was away."""
        untold, self._untold = self._untold, []
        for row, outcome, since in untold:
            self._end(row, outcome, since)

    def catch_up(self) -> None:
        """Hear of dials again, after others weren't heard."""
        for action, row in self._rows.items():
            if action.action.idempotent:
                self._operations.tell(self._knowing(action, row))

    async def _join(
        self, key: int, leader: int, answer: Answer, dial: UnderWay
    ) -> Outcome | None:
        """Return what the leader came to; None if it went away before it left."""
        if answer["outcome"] is not None:
            return _unpacked(answer["outcome"], dial.action)
        ended = self._joined.setdefault(leader, asyncio.Event())
        looks_without_life = 0
        pause, found_at = _FIRST_LOOK, self._loop.time()
        try:
            while True:
                left = dial.deadline - self._loop.time()
                found = await self._look(key, leader, soon=not dial.left_elsewhere)
                now = self._loop.time()
                if found is None:
                    if left <= 0 or now > found_at + _AWAY:
                        return _in_doubt(dial.action, "the database is away")
                    continue
                found_at = now
                if found["ended"]:
                    packed = found["outcome"]
                    return packed and _unpacked(packed, dial.action)
                dial.left_elsewhere = found["has_left"]
                looks_without_life = 0 if found["lives"] else looks_without_life + 1
                if looks_without_life >= _DEAD_AFTER:
                    return _in_doubt(dial.action, "the process of the equal dial ended")
                if left <= -_LAST_WORD and not dial.left_elsewhere:
                    return NotSent(
                        action=dial.action, reason=Reason.EXPIRED, attempts=0
                    )
                if left > -_LAST_WORD:
                    pause = min(pause, max(left, _LAST_WORD / 4))
                await wait_for_event(ended, pause)
                pause = _LOOK_EVERY
        finally:
            dial.left_elsewhere = False
            self._joined.pop(leader, None)

    async def _look(self, key: int, leader: int, *, soon: bool) -> Answer | None:
        operation = {"do": "ask", "key": key, "id": leader, "soon": soon}
        try:
            return await self._operations.ask(operation)
        except AwayError:
            await asyncio.sleep(0.1)
            return None

    def hear(self, kind: str, details: list[Any]) -> None:
        """Hear a notice, which may be about another account."""
        if kind == "finished":
            ended = self._joined.get(int(details[0]))
            if ended is not None:
                ended.set()
        elif kind == "asked":
            dial = self._by_id.get(int(details[0]))
            if dial is not None:
                self._asked.add(int(details[0]))
            if dial is not None and dial.has_left:
                row = self._rows[dial]
                self._operations.tell({"do": "left", "key": row.key, "id": row.id})
        elif kind == "begun":
            party, action, ends_dials, pool = details
            known = self._parties.get(party)
            if known is not None and pool != self._pool:
                self._heard(known[0], action, ends_dials=ends_dials)

    def _enter(self, dial: UnderWay, row: _Row) -> None:
        self._rows[dial] = row
        self._by_id[row.id] = dial

    def _know(self, row: _Row) -> None:
        for number, party in row.parties:
            _, times = self._parties.get(number, (party, 0))
            self._parties[number] = party, times + 1

    def _forget_later(self, row: _Row) -> None:
        until = self._loop.time() + _KNOWN
        self._past.extend((until, number) for number, _ in row.parties)
        self._forget()

    def _forget(self) -> None:
        now = self._loop.time()
        while self._past and self._past[0][0] < now:
            _, number = self._past.popleft()
            party, times = self._parties[number]
            if times > 1:
                self._parties[number] = party, times - 1
            else:
                del self._parties[number]

    def _phone(self, dial: DialAction) -> int:
        return self._hash("phone", address_matching.party_of(dial.to))

    def _dial(self, row: _Row, action: DialAction, *, once: bool) -> Operation:
        (agent, _), (called, _) = row.parties
        return {
            "do": "dial",
            "key": row.key,
            "id": row.id,
            "pool": self._pool,
            "agent": agent,
            "called": called,
            "phone": self._phone(action),
            "action": type(action).__name__,
            "once": once,
            "memory": MEMORY,
        }

    def _row_of(self, action: Action) -> _Row:
        assert isinstance(action, DialAction)  # noqa: S101 -- alone has a row
        agent = party_of(action)
        assert agent is not None  # noqa: S101 -- every dial has an agent
        called = (action.phlo_id, action.node_id, phone_of(action.to))
        parties = ((self._hash(*agent), agent), (self._hash(*called), called))
        return _Row(self._hash(dial_key(action)), _new_id(), parties)

    def _hash(self, *words: str) -> int:
        return keyed_hash(self._secret, *words)


def _new_id() -> int:
    return secrets.randbits(62) + 1


def _packed(outcome: Outcome) -> dict[str, Any]:
    details = {
        "verdict": outcome.verdict,
        "reason": getattr(outcome, "reason", None),
        "retry_after": getattr(outcome, "retry_after", None),
        "attempts": outcome.attempts,
        "seconds": outcome.seconds,
        "waited": outcome.waited,
        "status": outcome.status,
        "api_id": outcome.api_id,
        "request_id": outcome.request_id,
        "left_at": getattr(outcome, "left_at", None),
        "error": outcome.error and mask_text(outcome.error),
    }
    return {name: it for name, it in details.items() if it is not None}


def _unpacked(packed: dict[str, Any], action: Action) -> Outcome:
    details = dict(packed)
    verdict = details.pop("verdict")
    if "reason" in details:
        details["reason"] = Reason(details["reason"])
    outcome: Outcome = _KINDS[verdict](action=action, joined=True, **details)
    return outcome


def _in_doubt(action: Action, error: str) -> InDoubt:
    return InDoubt(
        action=action,
        reason=Reason.INTERRUPTED,
        attempts=0,
        error=error,
        joined=True,
    )
