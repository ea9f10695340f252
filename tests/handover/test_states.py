"""What a handover may believe, over every situation that can be reached."""

import inspect
import re
from collections.abc import Iterator
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.handover import states
from aiophlo.handover.conversations import Presence
from aiophlo.handover.states import ENDS, EVENTS, Input, Phase, Situation

I, P = Input, Phase  # noqa: E741 -- the tables below are read by columns
ANSWERS = [I.ACCEPTED, I.REFUSED, I.NO_TRANSFER, I.NOT_SENT, I.IN_DOUBT, I.NO_AGENT]


def after(*inputs: Input) -> Situation:
    """Return the situation after so much has happened."""
    situation = Situation()
    for what in inputs:
        situation = situation.after(what)
    return situation


def reachable() -> set[Situation]:
    """Return every situation that any order of inputs leads to."""
    found = {Situation()}
    new = set(found)
    while new:
        new = {one.after(what) for one in new for what in Input} - found
        found |= new
    return found


def steps() -> Iterator[tuple[Situation, Input, Situation]]:
    """Yield every step from every situation."""
    for situation in reachable():
        for what in Input:
            yield situation, what, situation.after(what)


RUNG = (I.ASK, I.ACCEPTED)
TALKING = (*RUNG, I.PARTNER_JOINED)
HUNG_UP = (*TALKING, I.COMPLETE, I.ACCEPTED)
GONE = (*TALKING, I.AGENT_LEFT)
UNPROVEN = (*GONE, I.IN_DOUBT, I.TIME_OVER)
GIVEN_UP = (*TALKING, I.GIVE_UP)
IN_DOUBT = (*TALKING, I.COMPLETE, I.IN_DOUBT)


@pytest.mark.parametrize(
    ("inputs", "phase"),
    [
        ((), P.WITH_AGENT),
        ((I.ASK,), P.ASKING),
        ((I.ASK, I.REFUSED), P.WITH_AGENT),
        ((I.ASK, I.NOT_SENT), P.WITH_AGENT),
        ((I.ASK, I.NOT_SENT, I.ASK), P.ASKING),
        (RUNG, P.RINGING),
        ((I.ASK, I.IN_DOUBT), P.RINGING),
        ((I.ASK, I.PARTNER_JOINED, I.ACCEPTED), P.CONSULTING),
        ((I.ASK, I.PARTNER_JOINED, I.NOT_SENT), P.CONSULTING),
        ((I.ASK, I.CUSTOMER_LEFT, I.ACCEPTED), P.BRINGING_BACK),
        ((I.ASK, I.CUSTOMER_LEFT, I.REFUSED), P.OVER),
        ((I.ASK, I.AGENT_LEFT, I.REFUSED), P.ON_HOLD),
        (TALKING, P.CONSULTING),
        ((*RUNG, I.PARTNER_LEFT), P.BRINGING_BACK),
        ((*RUNG, I.CUSTOMER_LEFT), P.BRINGING_BACK),
        ((*RUNG, I.GIVE_UP), P.BRINGING_BACK),
        ((*RUNG, I.AGENT_LEFT), P.RINGING),
        ((*RUNG, I.AGENT_LEFT, I.GIVE_UP), P.ON_HOLD),
        ((*RUNG, I.AGENT_LEFT, I.PARTNER_LEFT), P.ON_HOLD),
        ((*RUNG, I.AGENT_LEFT, I.PARTNER_JOINED), P.CHECKING),
        ((*TALKING, I.PARTNER_LEFT), P.CONSULTING),
        ((*TALKING, I.PARTNER_LEFT, I.COMPLETE), P.CONSULTING),
        ((*TALKING, I.CUSTOMER_LEFT, I.COMPLETE), P.CONSULTING),
        ((*TALKING, I.AGENT_LEFT), P.CHECKING),
        ((*TALKING, I.PARTNER_LEFT, I.AGENT_LEFT), P.ON_HOLD),
        ((*TALKING, I.CUSTOMER_LEFT, I.AGENT_LEFT), P.OVER),
        ((*TALKING, I.COMPLETE), P.COMPLETING),
        ((*TALKING, I.COMPLETE, I.REFUSED), P.CONSULTING),
        ((*TALKING, I.COMPLETE, I.NOT_SENT), P.CONSULTING),
        ((*TALKING, I.COMPLETE, I.AGENT_LEFT), P.CHECKING),
        ((*TALKING, I.COMPLETE, I.CUSTOMER_LEFT, I.ACCEPTED), P.OVER),
        (HUNG_UP, P.CHECKING),
        ((*HUNG_UP, I.TIME_OVER), P.WITH_PARTNER),
        ((*HUNG_UP, I.PARTNER_LEFT, I.TIME_OVER), P.ON_HOLD),
        ((*GONE, I.ACCEPTED, I.TIME_OVER), P.WITH_PARTNER),
        ((*GONE, I.NO_AGENT, I.TIME_OVER), P.WITH_PARTNER),
        ((*GONE, I.NO_AGENT, I.PARTNER_LEFT, I.TIME_OVER), P.ON_HOLD),
        ((*GONE, I.REFUSED, I.TIME_OVER), P.BRINGING_BACK),
        ((*GONE, I.NOT_SENT, I.TIME_OVER), P.BRINGING_BACK),
        ((*UNPROVEN, I.IN_DOUBT), P.BRINGING_BACK),
        ((*UNPROVEN, I.REFUSED), P.BRINGING_BACK),
        ((*UNPROVEN, I.TIME_OVER), P.ON_HOLD),
        ((*UNPROVEN, I.ACCEPTED), P.ON_HOLD),
        ((*UNPROVEN, I.NO_AGENT, I.TIME_OVER), P.WITH_PARTNER),
        ((*UNPROVEN, I.NO_TRANSFER, I.TIME_OVER), P.WITH_PARTNER),
        ((*UNPROVEN, I.CUSTOMER_LEFT, I.TIME_OVER), P.OVER),
        ((*UNPROVEN, I.PARTNER_LEFT, I.NO_AGENT), P.ON_HOLD),
        ((*HUNG_UP, I.PARTNER_LEFT, I.CUSTOMER_LEFT), P.OVER),
        ((*HUNG_UP, I.CUSTOMER_LEFT), P.OVER),
        (IN_DOUBT, P.COMPLETING),
        ((*IN_DOUBT, I.REFUSED), P.COMPLETING),
        ((*IN_DOUBT, I.ACCEPTED), P.CHECKING),
        ((*IN_DOUBT, I.AGENT_LEFT), P.CHECKING),
        ((*IN_DOUBT, I.TIME_OVER), P.BRINGING_BACK),
        ((*IN_DOUBT, I.TIME_OVER, I.ACCEPTED), P.WITH_AGENT),
        ((*IN_DOUBT, I.TIME_OVER, I.ACCEPTED, I.AGENT_LEFT), P.ON_HOLD),
        ((*IN_DOUBT, I.TIME_OVER, I.NO_TRANSFER), P.CHECKING),
        ((*IN_DOUBT, I.TIME_OVER, I.PARTNER_LEFT, I.NO_TRANSFER), P.ON_HOLD),
        ((*GIVEN_UP, I.ACCEPTED), P.WITH_AGENT),
        ((*GIVEN_UP, I.NO_TRANSFER), P.WITH_AGENT),
        ((*GIVEN_UP, I.REFUSED), P.BRINGING_BACK),
        ((*GIVEN_UP, I.NOT_SENT), P.BRINGING_BACK),
        ((*GIVEN_UP, I.IN_DOUBT), P.BRINGING_BACK),
        ((*GIVEN_UP, I.TIME_OVER), P.ON_HOLD),
        ((*GIVEN_UP, I.CUSTOMER_LEFT, I.TIME_OVER), P.OVER),
        ((*GIVEN_UP, I.AGENT_LEFT), P.BRINGING_BACK),
        ((*GIVEN_UP, I.AGENT_LEFT, I.ACCEPTED), P.ON_HOLD),
        ((*GIVEN_UP, I.AGENT_LEFT, I.REFUSED), P.CHECKING),
        ((*GIVEN_UP, I.AGENT_LEFT, I.PARTNER_LEFT, I.REFUSED), P.ON_HOLD),
        ((*RUNG, I.GIVE_UP, I.AGENT_LEFT, I.IN_DOUBT), P.ON_HOLD),
        ((*RUNG, I.GIVE_UP, I.NO_TRANSFER, I.PARTNER_JOINED), P.BRINGING_BACK),
    ],
)
def test_step_leads_where_it_is_drawn(inputs: tuple[Input, ...], phase: Phase) -> None:
    """Every line of the drawing, and every crossing of two that may happen."""
    assert after(*inputs).phase is phase


def drawn(text: str) -> list[str]:
    """Return the drawing's lines, without their indent."""
    lines = text.partition("stateDiagram-v2\n")[2].splitlines()
    return [line.strip() for line in takewhile(lambda line: "-->" in line, lines)]


def test_drawing_shows_every_step_and_no_other() -> None:
    """A picture that lacks an arrow, or shows one too many, is worse than none."""
    found: dict[tuple[str, str], set[str]] = {}
    for situation, what, then in steps():
        if then.phase is not situation.phase and what is not I.TAKEN_OVER:
            found.setdefault((situation.phase, then.phase), set()).add(what)
    pictured = {}
    for line in drawn(inspect.getdoc(states) or ""):
        start, end, label = re.findall(r"^(\S+) --> (\S+)(?: : (.+))?$", line)[0]
        if "[*]" not in {start, end}:
            inputs = label.replace("other answer", ", ".join(ANSWERS[1:]))
            inputs = inputs.replace("answer", ", ".join(ANSWERS))
            assert (start, end) not in pictured
            pictured[start, end] = set(inputs.split(", "))
    assert pictured == found


def test_drawing_shows_where_it_begins_and_ends() -> None:
    """Else nobody finds a way into it."""
    lines = set(drawn(inspect.getdoc(states) or ""))
    assert {line for line in lines if "[*]" in line} == {
        f"[*] --> {Situation().phase}",
        *(f"{phase} --> [*]" for phase in ENDS - {P.TAKEN_OVER}),
    }


def test_other_process_may_take_over_until_the_end() -> None:
    """Who went on would undo what the other one does, or alarm for nothing."""
    for situation in reachable():
        then = situation.after(I.TAKEN_OVER).phase
        assert then is (situation.phase if situation.ended else P.TAKEN_OVER)


@pytest.mark.parametrize(
    ("inputs", "phase"),
    [
        ((), P.BRINGING_BACK),
        ((I.ASK,), P.ASKING),
        (RUNG, P.RINGING),
        (TALKING, P.CONSULTING),
        ((*TALKING, I.COMPLETE), P.COMPLETING),
        (HUNG_UP, P.CHECKING),
        ((*HUNG_UP, I.TIME_OVER), P.WITH_PARTNER),
        (GIVEN_UP, P.BRINGING_BACK),
    ],
)
def test_former_who_joins_leads_back_only_from_the_agent(
    inputs: tuple[Input, ...], phase: Phase
) -> None:
    """The customer is where they are; only a transfer nobody asked for is ended."""
    assert after(*inputs, I.FORMER_JOINED).phase is phase


@pytest.mark.parametrize("before", [TALKING, (*TALKING, I.COMPLETE)])
def test_agent_is_not_hung_up_once_a_former_has_joined(
    before: tuple[Input, ...],
) -> None:
    """The customer would be left to two strangers."""
    situation = after(*before, I.FORMER_JOINED)
    assert not situation.may_complete
    assert situation.after(I.REFUSED).after(I.COMPLETE).phase is P.CONSULTING
    assert situation.after(I.REFUSED).after(I.GIVE_UP).phase is P.BRINGING_BACK


def test_nobody_is_rung_until_the_former_is_known_to_be_out() -> None:
    """A refused abort says nothing about who is on the line."""
    met = after(*GIVEN_UP, I.FORMER_JOINED)
    refused, accepted = met.after(I.NO_TRANSFER), met.after(I.ACCEPTED)
    assert refused.phase is accepted.phase is P.WITH_AGENT
    assert not refused.may_ask
    assert refused.after(I.ASK) == refused
    assert refused.after(I.GIVE_UP).phase is P.BRINGING_BACK
    assert accepted.may_ask


def test_former_in_the_call_stops_everything_new() -> None:
    """Nobody can say whom the customer would meet."""
    for situation, what, then in steps():
        if situation.former_inside and then.phase is not situation.phase:
            assert then.phase not in {P.ASKING, P.COMPLETING}
            gone = what is I.ACCEPTED and situation.phase is P.BRINGING_BACK
            assert then.former_inside is not gone


def test_every_phase_is_reached() -> None:
    """A state that nothing leads to is a mistake in the others."""
    assert {situation.phase for situation in reachable()} == set(Phase)


def test_end_is_an_end() -> None:
    """An alarm that takes itself back would not be believed."""
    for situation, _, then in steps():
        if situation.phase in ENDS:
            assert situation.ended
            assert then is situation


def test_nobody_is_rung_unless_the_one_before_is_out() -> None:
    """Two supervisors on one line, and the customer with neither."""
    for situation, what, then in steps():
        if then.phase is P.ASKING and situation.phase is not P.ASKING:
            assert what is I.ASK
            assert situation.partner is not Presence.INSIDE
            assert not situation.agent_left
            assert not situation.customer_left


def test_ringing_ends_only_by_what_is_known() -> None:
    """Whoever may still be rung is not yet out."""
    proofs = {I.ACCEPTED, I.NO_TRANSFER, I.REFUSED, I.NOT_SENT, I.NO_AGENT}
    for situation, what, then in steps():
        if then.phase is P.WITH_AGENT and situation.phase is not P.WITH_AGENT:
            assert what in proofs
            assert situation.phase in {P.ASKING, P.BRINGING_BACK}
            if situation.phase is P.BRINGING_BACK:
                assert what in {I.ACCEPTED, I.NO_TRANSFER}


def test_agent_is_hung_up_only_when_the_partner_is_there() -> None:
    """Else the customer is alone, by our own hand."""
    for situation, what, then in steps():
        if then.phase is P.COMPLETING and situation.phase is not P.COMPLETING:
            assert what is I.COMPLETE
            assert situation.may_complete
            assert situation.partner is Presence.INSIDE


def test_customer_is_with_the_partner_only_when_that_was_seen() -> None:
    """Silence proves nothing: without an answer seen, nobody has the customer."""
    for situation, _, then in steps():
        if then.phase is P.WITH_PARTNER and situation is not then:
            assert situation.phase is P.CHECKING
            assert then.partner is Presence.INSIDE
            assert then.proved


def test_agent_is_gone_only_when_a_request_has_proved_it() -> None:
    """A stray event would end in success, with the customer on hold."""
    proofs = {I.ACCEPTED, I.NO_AGENT, I.NO_TRANSFER}
    for situation, what, then in steps():
        if then.proved and not situation.proved:
            assert what in proofs
            assert situation.phase in {P.COMPLETING, P.CHECKING, P.BRINGING_BACK}
            assert what is not I.NO_AGENT or situation.agent_left


def test_agent_who_is_said_to_be_gone_is_hung_up_only_for_the_partner() -> None:
    """Whoever they would leave alone needs them."""
    for situation in reachable():
        if situation.may_prove:
            assert situation.agent_left
            assert situation.phase is P.CHECKING
            assert situation.partner is Presence.INSIDE
            assert not situation.customer_left
            assert not situation.former_inside
            assert not situation.proved


def test_silence_settles_only_a_check() -> None:
    """That time has passed says nothing about where anybody is."""
    for situation, what, then in steps():
        if what is I.TIME_OVER and situation.phase is not P.CHECKING:
            assert then.phase in {
                situation.phase,
                P.BRINGING_BACK,
                P.CHECKING,
                P.OVER,
                P.ON_HOLD,
            }


def test_no_alarm_for_a_customer_who_has_hung_up() -> None:
    """Whoever cries wolf is not heard when it counts."""
    for situation, _, then in steps():
        if then.phase is P.ON_HOLD and situation is not then:
            assert not then.customer_left


def test_event_told_twice_changes_nothing() -> None:
    """Webhooks come at least once."""
    for _, what, then in steps():
        if what in EVENTS:
            assert then.after(what) == then


@given(st.lists(st.sampled_from(Input), max_size=30))
def test_what_left_stays_away(inputs: list[Input]) -> None:
    """A join that comes late is no return."""
    situation, left = Situation(), False
    for what in inputs:
        asked = situation.after(what).phase is P.ASKING
        fresh = asked and situation.phase is P.WITH_AGENT
        left = (left or what is I.PARTNER_LEFT) and not (fresh or situation.ended)
        situation = situation.after(what)
        if left and not situation.ended:
            assert situation.partner is Presence.LEFT


@given(st.lists(st.sampled_from(Input), max_size=30), st.sampled_from(ANSWERS))
def test_giving_up_always_comes_to_an_end(inputs: list[Input], answer: Input) -> None:
    """Whatever has happened, an end is a few answers away."""
    situation = after(*inputs)
    if situation.phase is P.ASKING:
        situation = situation.after(answer)
    if situation.phase is P.COMPLETING:
        situation = situation.after(answer).after(I.TIME_OVER)
    situation = situation.after(I.GIVE_UP)
    for _ in range(3):
        if situation.phase in {P.BRINGING_BACK, P.CHECKING}:
            situation = situation.after(answer).after(I.TIME_OVER)
    assert situation.ended or situation.phase is P.WITH_AGENT
