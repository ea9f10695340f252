"""Where a customer is once the agent is out, by what events told of their calls.

Pure. It is for a process that knows no more of a handover than its agent, and when it
began. So all that it can say is that the agent has left a conversation, and who is in
it still: those who were there before, and the one who was rung. Nothing is concluded
from what may be incomplete or unclear: an event that came a moment ago, one without a
conversation, or two who were rung.
"""

from collections.abc import Collection, Iterable
from typing import Final

import attrs

from aiophlo.coordination import Whereabouts
from aiophlo.model.call_events import CallEvent

SETTLED: Final = 2.0  # seconds by which events may be behind the call


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
    events: Iterable[CallEvent], agent: Collection[str], *, began_at: float, now: float
) -> Whereabouts:
    """Say where the customer is whose agent isn't in the call any more.

    Args:
        events: All that were told of calls that go on, or ended lately.
        agent: The agent's keys, as events have them.
        began_at: When the handover began, by the clock of the events' `at`.
        now: The time by that clock.
    """
    conversation = _latest_of(events, agent)
    if not conversation or max(one.at for one in conversation) > now - SETTLED:
        return Whereabouts.UNKNOWN
    calls = _calls(conversation)
    own = [call for call in calls if call.is_of(agent)]
    others = [call for call in calls if not call.is_of(agent)]
    left_at = max((call.left_at or -1.0 for call in own), default=-1.0)
    if left_at < began_at or any(call.inside for call in own):
        return Whereabouts.UNKNOWN
    rung = [one for one in others if not one.called_in and _is_rung(one, began_at)]
    before = [one for one in others if one not in rung]
    if before and not any(one.inside for one in before):
        return Whereabouts.OVER
    if any(one.inside for one in before) and sum(one.inside for one in rung) == 1:
        return Whereabouts.WITH_PARTNER
    return Whereabouts.UNKNOWN


def _latest_of(events: Iterable[CallEvent], agent: Collection[str]) -> list[CallEvent]:
    """Return the events of the conversation that the agent was heard of in last."""
    events = list(events)
    of_agent = [one for one in events if not set(one.keys).isdisjoint(agent)]
    last = max(of_agent, key=lambda one: one.at, default=None)
    if last is None or not last.conference_uuid:
        return []
    return [one for one in events if one.conference_uuid == last.conference_uuid]


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
