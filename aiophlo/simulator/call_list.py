"""The list of an account's calls: queued, live and finished legs, late or never listed.

What Plivo's `GET /v1/Account/{auth_id}/Call/` tells, as plivo-python reads it.
"""

import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import attrs

from aiophlo.simulator.api import Asked, RefusedError
from aiophlo.simulator.event_poster import OUR_NUMBER
from aiophlo.simulator.people import Habit, HangupCause
from aiophlo.simulator.random_faults import draw

_TALK: Final = 60.0  # seconds for which people outside a placed call stay
_MOST: Final = 200_000  # legs that are kept
_PAGE: Final = 20
_WHOLE: Final = 11  # digits from which a number is looked up, and not as a prefix
_DIRECTIONS: Final = ("inbound", "outbound")
_COMPARED: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "end_time__gt": lambda ended, limit: ended > limit,
    "end_time__gte": lambda ended, limit: ended >= limit,
    "end_time__lt": lambda ended, limit: ended < limit,
    "end_time__lte": lambda ended, limit: ended <= limit,
}
_FORMATS: Final = ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")
_PAGING: Final = frozenset({"limit", "offset"})
_FILTERS: Final[Mapping[str, frozenset[str]]] = {
    "": _PAGING | _COMPARED.keys() | {"to_number", "from_number", "call_direction"},
    "live": _PAGING | {"status", "to_number", "from_number", "call_direction"},
    "queued": _PAGING | {"status"},
}


@attrs.frozen(kw_only=True)
class Listing:
    """How the list of calls tells of them.

    Attributes:
        lag: Seconds by which a leg may be listed late, when it begins and when it
            ends; each by its own share of them.
        unlisted: Chance of a leg that is never listed.
        queued: Seconds for which a dial may wait in Plivo's queue, each its own share
            of them; of dials that are in none of the placed calls.
        ahead: Seconds by which Plivo's clock is ahead of this machine's.
    """

    lag: float = 0.0
    unlisted: float = 0.0
    queued: float = 0.0
    ahead: float = 0.0


class Leg(Protocol):
    """One leg, as the list needs it; times are Unix times."""

    address: str
    dialled: bool
    call_uuid: str

    @property
    def began_at(self) -> float:
        """When it was dialled, or came in."""

    @property
    def answered_at(self) -> float | None:
        """When it was answered; None if it wasn't."""

    @property
    def ended_at(self) -> float | None:
        """When it ends or ended; None while nobody knows."""

    @property
    def hangup(self) -> HangupCause:
        """Why it ended."""


@attrs.define(eq=False)
class LoneLeg:
    """A leg in none of the placed calls: its whole course follows from a habit.

    Attributes:
        address: The one at the other end.
        began_at: Unix time at which their phone rings, or they call in.
        habit: What they do.
        dialled: Whether they were called, or called in.
        call_uuid: Its id.
    """

    address: str = attrs.field(repr=False)
    began_at: float
    habit: Habit
    dialled: bool = True
    call_uuid: str = attrs.field(factory=lambda: str(uuid.uuid4()))

    @property
    def answered_at(self) -> float | None:
        """When it is answered; None if it isn't."""
        return self.began_at + self.habit.after if self.habit.picks_up else None

    @property
    def ended_at(self) -> float:
        """When it ends."""
        if self.answered_at is None:
            return self.began_at + self.habit.after
        return self.answered_at + (
            _TALK if self.habit.stays is None else self.habit.stays
        )

    @property
    def hangup(self) -> HangupCause:
        """Why it ends."""
        return self.habit.hangup


@attrs.define(eq=False)
class _Entry:
    """A leg in the list.

    Attributes:
        leg: The leg.
        account: auth_id of the account that it is billed to.
        ours: The account's number at its other end.
        queued_at: Unix time from which it waits in the queue, if it does.
        begin_lag: Seconds by which its beginning is listed late.
        end_lag: Seconds by which its end is.
        listed: Whether it ever is.
    """

    leg: Leg
    account: str
    ours: str
    queued_at: float
    begin_lag: float
    end_lag: float
    listed: bool

    @property
    def to(self) -> str:
        return _shown(self.leg.address if self.leg.dialled else self.ours)

    @property
    def from_(self) -> str:
        return _shown(self.ours if self.leg.dialled else self.leg.address)

    @property
    def direction(self) -> str:
        return "outbound" if self.leg.dialled else "inbound"

    def status(self, now: float) -> str | None:
        """Return in which list it is; None if it is in none at the moment."""
        leg = self.leg
        if not self.listed:
            return None
        if leg.ended_at is not None and leg.ended_at <= now:
            return "" if leg.ended_at + self.end_lag <= now else None
        if leg.began_at <= now:
            return "live" if leg.began_at + self.begin_lag <= now else None
        return "queued" if self.queued_at + self.begin_lag <= now else None


class CallList:
    """Every leg of every account, and what Plivo's list tells of them.

    Args:
        seed: Seed of which legs are late or never listed.
        now: Gives Unix time.

    Attributes:
        listing: How the legs from now on are listed.
    """

    def __init__(self, seed: int = 0, now: Callable[[], float] = time.time) -> None:
        self.listing = Listing()
        self._seed = seed
        self._now = now
        self._added = 0
        self._entries: deque[_Entry] = deque()
        self._by_party: defaultdict[str, list[_Entry]] = defaultdict(list)
        self._by_uuid: dict[str, _Entry] = {}

    def reset(self) -> None:
        """Forget all legs, and how they were to be listed."""
        self.listing = Listing()
        self._added = 0
        self._entries.clear()
        self._by_party.clear()
        self._by_uuid.clear()

    def dial(
        self,
        account: str,
        address: str,
        habit: Habit,
        *,
        ours: str = OUR_NUMBER,
        dialled: bool = True,
    ) -> LoneLeg:
        """Enter a leg in none of the placed calls.

        Args:
            account: auth_id of the account that it is billed to.
            address: Who is at its other end.
            habit: What they do.
            ours: The account's number that calls, or is called.
            dialled: They are called, and don't call in.
        """
        wait = self.listing.queued and self.listing.queued * self._draw("queue")
        leg = LoneLeg(address, self._now() + wait, habit, dialled)
        self.add(account, leg, ours=ours)
        return leg

    def add(self, account: str, leg: Leg, *, ours: str = OUR_NUMBER) -> None:
        """Enter a leg, unless it is entered."""
        if leg.call_uuid in self._by_uuid:
            return
        listing = self.listing
        entry = _Entry(
            leg,
            account,
            ours,
            queued_at=self._now(),
            begin_lag=listing.lag and listing.lag * self._draw("begin"),
            end_lag=listing.lag and listing.lag * self._draw("end"),
            listed=not listing.unlisted or self._draw("listed") >= listing.unlisted,
        )
        self._added += 1
        self._entries.append(entry)
        self._by_uuid[leg.call_uuid] = entry
        self._by_party[_shown(leg.address)].append(entry)
        if len(self._entries) > _MOST:
            self._forget(self._entries.popleft())

    def is_listed(self, call_uuid: str) -> bool:
        """Say whether a leg is ever listed; for those who judge a client."""
        entry = self._by_uuid.get(call_uuid)
        return entry is not None and entry.listed

    def legs(self, address: str) -> list[Leg]:
        """Return all legs of an address, listed or not, the oldest first."""
        return [entry.leg for entry in self._by_party.get(_shown(address), ())]

    def _forget(self, entry: _Entry) -> None:
        del self._by_uuid[entry.leg.call_uuid]
        party = _shown(entry.leg.address)
        entries = self._by_party[party]
        entries.remove(entry)
        if not entries:
            del self._by_party[party]

    def _draw(self, what: str) -> float:
        return draw(self._seed, what, self._added)

    def answer(self, asked: Asked, account: str) -> dict[str, Any]:
        """Return what the list tells, but for its api_id.

        Raises:
            RefusedError: A parameter is missing or wrong, or there is no such call.
        """
        status = asked.query.get("status", "")
        if status not in _FILTERS:
            raise RefusedError(400, "status must be live or queued")
        if asked.call_uuid:
            return self._describe_one(asked.call_uuid, status, account)
        for name in asked.query:
            if name not in _FILTERS[status]:
                raise RefusedError(400, f"{name}: the simulator doesn't filter by it")
        found = self._find(status, account, asked.query)
        limit, offset = _paging(asked.query)
        page = found[offset : offset + limit]
        if status:
            return {"calls": [entry.leg.call_uuid for entry in page]}
        return {
            "meta": _meta(asked, limit, offset, len(found)),
            "objects": [_finished(entry, self.listing.ahead) for entry in page],
        }

    def _describe_one(
        self, call_uuid: str, status: str, account: str
    ) -> dict[str, Any]:
        entry = self._by_uuid.get(call_uuid)
        now, ahead = self._now(), self.listing.ahead
        if entry is None or entry.account != account or entry.status(now) != status:
            raise RefusedError(404, "not found")
        return _under_way(entry, now, ahead) if status else _finished(entry, ahead)

    @property
    def time(self) -> float:
        """Unix time by Plivo's clock."""
        return self._now() + self.listing.ahead

    def _find(
        self, status: str, account: str, query: Mapping[str, str]
    ) -> list[_Entry]:
        """Return the legs that a query asks for, the newest first."""
        now = self._now()
        filters = [*_entry_filters(query, self.listing.ahead)]
        return [
            entry
            for entry in reversed(self._candidates(query))
            if entry.account == account
            and entry.status(now) == status
            and all(fits(entry) for fits in filters)
        ]

    def _candidates(self, query: Mapping[str, str]) -> list[_Entry] | deque[_Entry]:
        """Return no more than need be looked at."""
        party = _shown(query.get("to_number", ""))
        if len(party) < _WHOLE or "<" in party or party == _shown(OUR_NUMBER):
            return self._entries
        return self._by_party.get(party, [])


def _entry_filters(
    query: Mapping[str, str], ahead: float
) -> Iterable[Callable[[_Entry], bool]]:
    """Yield what a leg must fulfil.

    Source:
        Plivo docs, "Retrieve all calls": numbers are filtered by prefix, too; times
        are UTC.
    """
    if "to_number" in query:
        to = tuple(map(_shown, query["to_number"].split("<")))
        yield lambda entry: entry.to.startswith(to)
    if "from_number" in query:
        from_ = _shown(query["from_number"])
        yield lambda entry: entry.from_.startswith(from_)
    if "call_direction" in query:
        direction = query["call_direction"]
        if direction not in _DIRECTIONS:
            raise RefusedError(400, "call_direction must be inbound or outbound")
        yield lambda entry: entry.direction == direction
    for name, compare in _COMPARED.items():
        if name in query:
            yield _time_filter(compare, _parse_time(name, query[name]) - ahead)


def _time_filter(
    compare: Callable[[float, float], bool], limit: float
) -> Callable[[_Entry], bool]:
    return lambda entry: compare(entry.leg.ended_at or 0.0, limit)


def _parse_time(name: str, text: str) -> float:
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    raise RefusedError(400, f"{name} must be YYYY-MM-DD HH:MM[:ss[.uuuuuu]]")


def _paging(query: Mapping[str, str]) -> tuple[int, int]:
    try:
        limit, offset = int(query.get("limit", _PAGE)), int(query.get("offset", 0))
    except ValueError:
        raise RefusedError(400, "limit and offset must be numbers") from None
    if not 0 < limit <= _PAGE or offset < 0:
        raise RefusedError(400, f"limit must be 1 to {_PAGE}, offset 0 or more")
    return limit, offset


def _meta(asked: Asked, limit: int, offset: int, total: int) -> dict[str, Any]:
    def page(begin: int) -> str:
        query = {**asked.query, "limit": limit, "offset": begin}
        return f"/v1/Account/{asked.owner}/Call/?{urlencode(query)}"

    return {
        "limit": limit,
        "offset": offset,
        "total_count": total,
        "next": page(offset + limit) if offset + limit < total else None,
        "previous": page(max(offset - limit, 0)) if offset else None,
    }


def _under_way(entry: _Entry, now: float, ahead: float) -> dict[str, Any]:
    """Describe a leg that is queued or live.

    Source:
        plivo-python, `live_calls.py` and `queued_calls.py`, and Plivo docs, "Calls".
        Assumed: a queued call has no time.
    """
    leg = entry.leg
    described = {
        "call_uuid": leg.call_uuid,
        "direction": entry.direction,
        "from": entry.from_,
        "to": entry.to,
        "caller_name": entry.from_,
        "request_uuid": None,
    }
    if leg.began_at > now:
        return described | {"call_status": "queued"}
    answered = leg.answered_at is not None and leg.answered_at <= now
    return described | {
        "call_status": "in-progress" if answered else "ringing",
        "session_start": _plain_time(leg.began_at + ahead),
    }


def _finished(entry: _Entry, ahead: float) -> dict[str, Any]:
    leg, ended = entry.leg, entry.leg.ended_at or 0.0
    answered = leg.answered_at
    seconds = 0 if answered is None else int(ended - answered)
    return {
        "answer_time": None if answered is None else _time(answered + ahead),
        "bill_duration": seconds,
        "billed_duration": -(-seconds // 60) * 60,
        "call_direction": entry.direction,
        "call_duration": seconds,
        "call_uuid": leg.call_uuid,
        "end_time": _time(ended + ahead),
        "from_number": entry.from_,
        "hangup_cause_code": leg.hangup.code,
        "hangup_cause_name": leg.hangup.name,
        "hangup_source": leg.hangup.source,
        "initiation_time": _time(leg.began_at + ahead),
        "parent_call_uuid": None,
        "resource_uri": f"/v1/Account/{entry.account}/Call/{leg.call_uuid}/",
        "to_number": entry.to,
        "total_amount": "0.00000",
        "total_rate": "0.00850",
    }


def _time(at: float) -> str:
    return f"{_plain_time(at)}+00:00"


def _plain_time(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%d %H:%M:%S")


def _shown(address: str) -> str:
    """Return an address as the list shows it: a number without its `+`.

    Source:
        Plivo docs, "Calls", examples. Assumed: a SIP endpoint as it was dialled.
    """
    return address.removeprefix("+")
