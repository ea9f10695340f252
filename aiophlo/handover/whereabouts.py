"""Where a customer is once the agent is out, by what events told of their calls.

Pure. It is for a process that knows no more of a handover than its agent, when it
began, and a digest of its customer's number, unless that was withheld. So all that it
can say is that the agent has left a conversation of that customer's, and who is in it
still: those who were there before, and the one who was rung. Nothing is concluded from
what may be incomplete or unclear: an event that came a moment ago, one without a
conversation, or two who were rung.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from typing import Final

import attrs

from aiophlo.coordination import Whereabouts
from aiophlo.model.call_events import CallEvent

SETTLED: Final = 2.0  # seconds by which events may be behind the call
LATEST: Final = 10.0  # seconds by which none is, even where all that run are starved


@attrs.define
class _Call:
    """One call in a conversation; of those without an id, all of a member's."""

    keys: set[str]
    joined_at: float | None = None
    left_at: float | None = None
    called_in: bool = False

    @property
    def inside(self) -> bool:
        return self.joined_at is not None and self.left_at is None

    def is_of(self, keys: Collection[str]) -> bool:
        return not self.keys.isdisjoint(keys)

    def note(self, event: CallEvent) -> None:
        self.keys.update(event.keys)
        self.called_in |= event.called_in
        if event.left:
            self.left_at = event.at
        else:
            self.joined_at = min(event.at, self.joined_at or event.at)


def where_is_customer(
    events: Iterable[CallEvent],
    agent: Collection[str],
    customer: Collection[str],
    *,
    began_at: float,
    now: float,
) -> Whereabouts:
    """Say where the customer is whose agent isn't in the call any more.

    Args:
        events: All that were told of calls that go on, or ended lately.
        agent: The agent's keys, as events have them.
        customer: The customer's; empty if nobody knows them.
        began_at: When the handover began, by the clock of the events' `at`.
        now: The time by that clock.
    """
    conversation = _latest_of(events, agent)
    if not conversation or max(one.at for one in conversation) > now - SETTLED:
        return Whereabouts.UNKNOWN
    if customer and not _is_in(conversation, customer):
        return Whereabouts.UNKNOWN  # it may be another one's, whose events came late
    calls = _calls(conversation)
    own = [call for call in calls if call.is_of(agent)]
    others = [call for call in calls if not call.is_of(agent)]
    left_at = max((call.left_at or -1.0 for call in own), default=-1.0)
    if left_at < began_at or any(call.inside for call in own):
        return Whereabouts.UNKNOWN
    rung = [
        one
        for one in others
        if not one.called_in and not one.is_of(customer) and _is_rung(one, began_at)
    ]
    before = [one for one in others if one not in rung]
    if before and not any(one.inside for one in before):
        return Whereabouts.OVER
    if any(one.inside for one in before) and sum(one.inside for one in rung) == 1:
        return Whereabouts.WITH_PARTNER
    return Whereabouts.UNKNOWN


def where_is_former_customer(
    events: Iterable[CallEvent],
    agent: AbstractSet[str],
    customer: Collection[str],
    *,
    began_at: float,
    now: float,
) -> Whereabouts | None:
    """Say where the customer is whose agent is in a newer call by now.

    Args:
        events: As for `where_is_customer`, like all that follow.
        agent: The agent's keys.
        customer: The customer's.
        began_at: When the handover began.
        now: The time.

    Returns:
        None if the agent may be in the handover's call, or nobody can say.
    """
    events = list(events)
    newer = _newer_calls(events, agent, began_at + LATEST)
    theirs = {one.conference_uuid for one in events if one.is_of(customer)}
    if not newer or len(theirs) != 1 or not newer.isdisjoint(theirs):
        return None
    older = [one for one in events if one.conference_uuid in theirs]
    found = where_is_customer(older, agent, customer, began_at=began_at, now=now)
    return None if found is Whereabouts.UNKNOWN else found


def _newer_calls(
    events: Iterable[CallEvent], agent: AbstractSet[str], since: float
) -> set[str]:
    """Return the conversations that the agent has joined since, and is in."""
    conversations: defaultdict[str, list[CallEvent]] = defaultdict(list)
    for one in events:
        if one.conference_uuid and one.is_of(agent):
            conversations[one.conference_uuid].append(one)
    return {
        uuid
        for uuid, told in conversations.items()
        if min(one.at for one in told) > since
        if any(call.inside for call in _calls(told))
    }


def _latest_of(events: Iterable[CallEvent], agent: Collection[str]) -> list[CallEvent]:
    """Return the events of the conversation that the agent was first heard of last.

    What is told last may be of the one before: its end, told late.
    """
    events = list(events)
    first: dict[str, float] = {}
    for one in events:
        if one.is_of(agent):
            heard_at = first.get(one.conference_uuid, one.at)
            first[one.conference_uuid] = min(one.at, heard_at)
    last = max(first, key=first.__getitem__, default="")
    if not last or "" in first:  # a conversation may be the one without an id
        return []
    return [one for one in events if one.conference_uuid == last]


def _is_in(conversation: Iterable[CallEvent], who: Collection[str]) -> bool:
    """Say whether somebody was ever heard of in a conversation."""
    return any(one.is_of(who) for one in conversation)


def _calls(conversation: Iterable[CallEvent]) -> list[_Call]:
    """Return the calls in it; a leave without an id ends all of its member's."""
    calls: dict[object, _Call] = {}
    for event in conversation:
        name = event.call_uuid or event.keys
        calls.setdefault(name, _Call(set())).note(event)
    for event in conversation:
        if event.left and not event.call_uuid:
            for call in calls.values():
                if call.is_of(event.keys):
                    call.left_at = max(event.at, call.left_at or event.at)
    return list(calls.values())


def _is_rung(call: _Call, began_at: float) -> bool:
    """Say whether a call was first heard of since the handover began."""
    times = [at for at in (call.joined_at, call.left_at) if at is not None]
    return min(times) > began_at
