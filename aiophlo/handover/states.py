"""The state machine of a handover: its phases, its inputs, and the steps.

Pure: no I/O, no clock. What is known of the call is what Plivo answered and what
events told; that nothing was heard proves nothing. When all goes well, it is ::

    with_agent, asking, ringing, consulting, completing, checking, with_partner

and these are all the steps there are, with the inputs that may cause them; `answer`
is any of the first six, `other answer` any of them but `accepted`. Where one input
leads to several phases, what is known of agent, customer and partner decides. ::

    stateDiagram-v2
        [*] --> with_agent
        with_agent --> asking : ask
        with_agent --> checking : agent_left
        with_agent --> bringing_back : give_up, partner_joined, former_joined
        with_agent --> over : customer_left
        with_agent --> on_hold : agent_left
        asking --> with_agent : refused, no_transfer, not_sent, no_agent
        asking --> ringing : accepted, in_doubt
        asking --> consulting : answer
        asking --> checking : answer
        asking --> bringing_back : accepted, in_doubt
        asking --> over : answer
        asking --> on_hold : answer
        ringing --> consulting : partner_joined
        ringing --> checking : partner_joined
        ringing --> bringing_back : give_up, partner_left, customer_left
        ringing --> on_hold : give_up, partner_left
        consulting --> completing : complete
        consulting --> checking : agent_left
        consulting --> bringing_back : give_up
        consulting --> over : agent_left
        consulting --> on_hold : agent_left
        completing --> consulting : refused, no_transfer, not_sent, no_agent
        completing --> checking : accepted, agent_left
        completing --> bringing_back : time_over, give_up
        completing --> over : accepted, agent_left
        checking --> bringing_back : time_over
        checking --> with_partner : time_over
        checking --> over : customer_left
        checking --> on_hold : time_over
        bringing_back --> with_agent : accepted, no_transfer
        bringing_back --> checking : other answer, time_over
        bringing_back --> over : answer, time_over
        bringing_back --> on_hold : answer, time_over
        with_partner --> [*]
        over --> [*]
        on_hold --> [*]

`with_agent` (customer and agent talk) is where it begins and where a next partner
may be asked. `with_partner`, `over` (the customer has hung up), `on_hold` and
`taken_over` (another process sees to the customer; not drawn, as it may come at any
time before) are ends; `on_hold` is the alarm: nobody can say that the customer isn't
alone or hearing music.

An agent who hangs up by themselves in the consult has completed it; one who
hangs up before anybody has answered leaves the customer to whoever still does.
That an event says so is not enough: in `checking` a hang-up proves it, and an abort
where that can't; or a newer call in which events tell that the agent is.
A target that was given up and joins after all (`former_joined`) leads back from
`with_agent`; in every other phase it is remembered, and nobody is rung, nor the
agent hung up, until an abort has been accepted.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

import attrs

from aiophlo.handover.conversations import Presence


class Phase(StrEnum):
    """What is going on."""

    WITH_AGENT = "with_agent"
    ASKING = "asking"
    RINGING = "ringing"
    CONSULTING = "consulting"
    COMPLETING = "completing"
    CHECKING = "checking"
    BRINGING_BACK = "bringing_back"
    WITH_PARTNER = "with_partner"
    OVER = "over"
    ON_HOLD = "on_hold"
    TAKEN_OVER = "taken_over"


ENDS: Final = frozenset(
    {Phase.WITH_PARTNER, Phase.OVER, Phase.ON_HOLD, Phase.TAKEN_OVER}
)


class Input(StrEnum):
    """What can happen. The first seven are what became of the request under way."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NO_TRANSFER = "no_transfer"  # an abort was refused because there is none
    NOT_SENT = "not_sent"
    IN_DOUBT = "in_doubt"
    NO_AGENT = "no_agent"  # refused because the agent isn't in the call
    TIME_OVER = "time_over"  # no more is tried, no more news waited for
    TAKEN_OVER = "taken_over"  # by another process: it sees to the customer now

    ASK = "ask"
    COMPLETE = "complete"
    GIVE_UP = "give_up"

    PARTNER_JOINED = "partner_joined"
    PARTNER_LEFT = "partner_left"
    AGENT_LEFT = "agent_left"
    CUSTOMER_LEFT = "customer_left"
    FORMER_JOINED = "former_joined"  # one whose transfer was taken for none


EVENTS: Final = frozenset(
    {
        Input.PARTNER_JOINED,
        Input.PARTNER_LEFT,
        Input.AGENT_LEFT,
        Input.CUSTOMER_LEFT,
        Input.FORMER_JOINED,
    }
)


@attrs.frozen(kw_only=True)
class Situation:
    """A handover at one moment.

    Attributes:
        phase: What is going on.
        partner: What is known of the one who is being rung, or has answered.
        agent_left: Whether the agent is known to have left.
        customer_left: Whether the customer is known to have left.
        hangup_in_doubt: Whether the agent may have been hung up.
        proved: Whether a request has proved that the agent's transfer is through:
            they were hung up, are not in the call, or have no transfer.
        unproven: Whether no hang-up could prove it.
        former_inside: Whether somebody has joined whose transfer was in doubt and
            then taken for none: nobody can say whom the customer would meet.
    """

    phase: Phase = Phase.WITH_AGENT
    partner: Presence = Presence.UNSEEN
    agent_left: bool = False
    customer_left: bool = False
    hangup_in_doubt: bool = False
    proved: bool = False
    unproven: bool = False
    former_inside: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing can change any more."""
        return self.phase in ENDS

    @property
    def _is_undisturbed(self) -> bool:
        """Whether agent and customer are there, and nobody who was given up."""
        return not (self.agent_left or self.customer_left or self.former_inside)

    @property
    def may_ask(self) -> bool:
        """Whether a target may be rung: the one before is known to be out."""
        return (
            self.phase is Phase.WITH_AGENT
            and self.partner is not Presence.INSIDE
            and self._is_undisturbed
        )

    @property
    def may_ring(self) -> bool:
        """Whether a transfer that was asked for may still leave."""
        return (
            self.phase is Phase.ASKING
            and self.partner is not Presence.INSIDE
            and self._is_undisturbed
        )

    @property
    def may_complete(self) -> bool:
        """Whether the agent may be hung up."""
        return (
            self.phase in {Phase.CONSULTING, Phase.COMPLETING}
            and self.partner is Presence.INSIDE
            and self._is_undisturbed
        )

    @property
    def may_prove(self) -> bool:
        """Whether a hang-up may prove that the agent has left, as an event said."""
        return (
            self.phase is Phase.CHECKING
            and self.partner is Presence.INSIDE
            and not (self.proved or self.customer_left or self.former_inside)
        )

    def after(self, what: Input) -> "Situation":
        """Return the situation after something has happened.

        What makes no sense now, such as a late answer or an event that has been
        told before, changes nothing.
        """
        noted = self._noted(what)
        if self.ended or (what in EVENTS and noted == self):
            return self
        if what is Input.TAKEN_OVER:
            return _to(self, Phase.TAKEN_OVER)
        return _STEPS[self.phase](noted, what)

    def _noted(self, what: Input) -> "Situation":
        """Return the situation with an event noted; whoever has left stays out."""
        match what:
            case Input.PARTNER_JOINED if self.partner is Presence.UNSEEN:
                return attrs.evolve(self, partner=Presence.INSIDE)
            case Input.PARTNER_LEFT:
                return attrs.evolve(self, partner=Presence.LEFT)
            case Input.AGENT_LEFT:
                return attrs.evolve(self, agent_left=True)
            case Input.CUSTOMER_LEFT:
                return attrs.evolve(self, customer_left=True)
            case Input.FORMER_JOINED:
                return attrs.evolve(self, former_inside=True)
        return self


_NOTHING_BEGAN: Final = frozenset(
    {Input.REFUSED, Input.NO_TRANSFER, Input.NOT_SENT, Input.NO_AGENT}
)


def _to(now: Situation, phase: Phase) -> Situation:
    return attrs.evolve(now, phase=phase)


def _inside(now: Situation) -> bool:
    return now.partner is Presence.INSIDE


def _without_agent(now: Situation) -> Situation:
    """Return who has the customer once the agent is gone."""
    if now.customer_left:
        return _to(now, Phase.OVER)
    can_tell = now.proved or not now.unproven
    return _to(now, Phase.CHECKING if _inside(now) and can_tell else Phase.ON_HOLD)


def _with_agent(now: Situation, what: Input) -> Situation:
    if what is Input.ASK and now.may_ask:
        return attrs.evolve(
            now,
            phase=Phase.ASKING,
            partner=Presence.UNSEEN,
            hangup_in_doubt=False,
            proved=False,
        )
    if now.customer_left:
        return _to(now, Phase.OVER)
    if now.agent_left:
        return _without_agent(now)
    if what is Input.PARTNER_JOINED and _inside(now):
        return _to(now, Phase.BRINGING_BACK)  # a transfer took effect late
    if now.former_inside and what in {Input.FORMER_JOINED, Input.GIVE_UP}:
        return _to(now, Phase.BRINGING_BACK)
    return now


def _asking(now: Situation, what: Input) -> Situation:
    if what in {Input.ACCEPTED, Input.IN_DOUBT}:
        return _look(_to(now, Phase.RINGING))
    if what in _NOTHING_BEGAN:
        if _inside(now):  # who is there, was rung
            return _look(_to(now, Phase.RINGING))
        return _with_agent(_to(now, Phase.WITH_AGENT), what)
    return now


def _ringing(now: Situation, what: Input) -> Situation:
    if what is Input.GIVE_UP:
        if now.agent_left:
            return _without_agent(now)
        return _to(now, Phase.BRINGING_BACK)
    return _look(now)


def _look(now: Situation) -> Situation:
    """Return the situation that follows from the facts once a phone has rung."""
    if now.partner is Presence.UNSEEN:
        return _to(now, Phase.BRINGING_BACK) if now.customer_left else now
    if now.agent_left:
        return _without_agent(now)
    return _to(now, Phase.CONSULTING if _inside(now) else Phase.BRINGING_BACK)


def _consulting(now: Situation, what: Input) -> Situation:
    if now.agent_left:
        return _without_agent(now)
    if what is Input.GIVE_UP:
        return _to(now, Phase.BRINGING_BACK)
    if what is Input.COMPLETE and now.may_complete:
        return _to(now, Phase.COMPLETING)
    return now


def _completing(now: Situation, what: Input) -> Situation:
    if what is Input.ACCEPTED or now.agent_left:
        phase = Phase.OVER if now.customer_left else Phase.CHECKING
        proved = now.proved or what is Input.ACCEPTED
        return attrs.evolve(now, phase=phase, agent_left=True, proved=proved)
    if what is Input.IN_DOUBT:
        return attrs.evolve(now, hangup_in_doubt=True)
    if what in _NOTHING_BEGAN:
        return now if now.hangup_in_doubt else _to(now, Phase.CONSULTING)
    if what in {Input.TIME_OVER, Input.GIVE_UP}:
        return _to(now, Phase.BRINGING_BACK) if now.hangup_in_doubt else now
    return now


def _checking(now: Situation, what: Input) -> Situation:
    if now.customer_left:
        return _to(now, Phase.OVER)
    match what:
        case Input.ACCEPTED | Input.NO_AGENT:
            return attrs.evolve(now, proved=True)
        case Input.IN_DOUBT:
            return attrs.evolve(now, hangup_in_doubt=True)
        case Input.TIME_OVER if _inside(now) and not now.proved:
            return attrs.evolve(now, phase=Phase.BRINGING_BACK, unproven=True)
        case Input.TIME_OVER:
            return _to(now, Phase.WITH_PARTNER if _inside(now) else Phase.ON_HOLD)
    return now


def _bringing_back(now: Situation, what: Input) -> Situation:
    match what:
        case Input.ACCEPTED:
            return _returned(
                attrs.evolve(now, partner=Presence.LEFT, former_inside=False)
            )
        case Input.NO_TRANSFER:
            proved = attrs.evolve(now, proved=now.agent_left or now.hangup_in_doubt)
            return (_without_agent if now.hangup_in_doubt else _returned)(proved)
        case Input.NO_AGENT if now.agent_left:
            return _without_agent(attrs.evolve(now, proved=True))
        case Input.REFUSED | Input.NOT_SENT | Input.IN_DOUBT:
            tell_by_event = now.agent_left and not now.unproven
            return _without_agent(now) if tell_by_event else now
        case Input.TIME_OVER:
            return _without_agent(now) if now.agent_left else _forsaken(now)
    return now


def _returned(now: Situation) -> Situation:
    if now.agent_left or now.customer_left:
        return _without_agent(now)
    return _to(now, Phase.WITH_AGENT)


def _forsaken(now: Situation) -> Situation:
    return _to(now, Phase.OVER if now.customer_left else Phase.ON_HOLD)


_STEPS: Final[dict[Phase, Callable[[Situation, Input], Situation]]] = {
    Phase.WITH_AGENT: _with_agent,
    Phase.ASKING: _asking,
    Phase.RINGING: _ringing,
    Phase.CONSULTING: _consulting,
    Phase.COMPLETING: _completing,
    Phase.CHECKING: _checking,
    Phase.BRINGING_BACK: _bringing_back,
}
