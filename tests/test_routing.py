"""Each event reaches the one handover that it is about, or none."""

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.errors import InvalidInputError
from aiophlo.events import Event, parse_event
from aiophlo.routing import EventRouter, Party, Presence, Watch

AGENT, OTHER_AGENT = "+14152223333", "+14152223334"
CUSTOMER, STRANGER = "+14152224444", "+14152224445"
PARTNER, SECOND = "+14152225555", "+14152225556"
HERE, ELSEWHERE = "conference-1", "conference-2"
INSIDE, LEFT = Presence.INSIDE, Presence.LEFT

Told = list[tuple[Party, Presence]]


def said(name: str, member: str, where: str | None = HERE, leg: str = "") -> Event:
    """Make an event about a member, as Plivo would post it."""
    outbound = member not in {CUSTOMER, STRANGER}
    return parse_event(
        {
            "event": name,
            "direction": "outbound" if outbound else "inbound",
            "to" if outbound else "from": member,
            "conference_uuid": where,
            "call_uuid": leg or f"{member} in {where}",
        }
    )


def enter(member: str, where: str | None = HERE, leg: str = "") -> Event:
    """Say that somebody came in."""
    return said("ConferenceEnter", member, where, leg)


def leave(member: str, where: str | None = HERE, leg: str = "") -> Event:
    """Say that somebody left."""
    return said("ConferenceExit", member, where, leg)


def listen(
    router: EventRouter, agent: str = AGENT, customer: str = CUSTOMER
) -> tuple[Watch, Told]:
    """Open a watch; give it with what it is told."""
    told: Told = []
    watch = router.watch(
        agent=agent, customer=customer, tell=lambda *what: told.append(what)
    )
    return watch, told


def in_a_call(router: EventRouter) -> tuple[Watch, Told]:
    """Open a watch on agent and customer who talk; forget what that told."""
    router.feed(enter(CUSTOMER))
    router.feed(enter(AGENT))
    watch, told = listen(router)
    told.clear()
    return watch, told


def test_partner_is_seen_when_they_join_the_conversation() -> None:
    """A consult that never begins leaves a supervisor talking to nobody."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    assert router.feed(enter(PARTNER))
    assert told == [(Party.PARTNER, INSIDE)]
    assert router.feed(leave(PARTNER))
    assert told[1:] == [(Party.PARTNER, LEFT)]


def test_conversation_is_found_when_its_events_came_before() -> None:
    """Most calls are minutes old when somebody thinks of transferring them."""
    router = EventRouter()
    watch, _ = in_a_call(router)
    assert watch.conference_uuid == HERE


def test_partner_in_another_call_is_not_taken_for_an_answer() -> None:
    """Completing then would hang the agent up on a customer left alone."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    router.feed(enter(STRANGER, ELSEWHERE))
    assert not router.feed(enter(PARTNER, ELSEWHERE))
    assert told == []


def test_partner_alone_is_not_enough_to_know_a_conversation_by() -> None:
    """The same, when the call's own events were missed."""
    router = EventRouter()
    watch, told = listen(router)
    router.follow(watch, PARTNER)
    assert not router.feed(enter(PARTNER, ELSEWHERE))
    assert told == []
    assert router.feed(enter(AGENT, ELSEWHERE))  # two of three are
    assert dict(told) == {Party.AGENT: INSIDE, Party.PARTNER: INSIDE}


def test_partner_is_seen_when_the_conversation_is_given() -> None:
    """After a deployment nobody remembers who is in which call."""
    router = EventRouter()
    told: Told = []
    watch = router.watch(
        agent=AGENT,
        customer=CUSTOMER,
        tell=lambda *what: told.append(what),
        conference_uuid=HERE,
    )
    router.follow(watch, PARTNER)
    router.feed(enter(PARTNER))
    assert told == [(Party.PARTNER, INSIDE)]


def test_conversation_of_another_open_handover_is_refused() -> None:
    """Without its events this one would wait for an answer that nobody tells of."""
    router = EventRouter()
    first, _ = in_a_call(router)
    options = {"customer": CUSTOMER, "tell": lambda *_: None, "conference_uuid": HERE}
    with pytest.raises(InvalidInputError, match="conference_uuid") as caught:
        router.watch(agent=OTHER_AGENT, **options)  # type: ignore[arg-type]
    assert caught.value.field == "conference_uuid"
    assert repr(router) == "<EventRouter 1 handovers, 1 conversations>"
    router.forget(first)
    watch = router.watch(agent=OTHER_AGENT, **options)  # type: ignore[arg-type]
    assert watch.conference_uuid == HERE


def test_earlier_conversation_of_the_same_people_is_not_this_one() -> None:
    """A customer who calls again must not meet the ghost of their first call."""
    router = EventRouter()
    for member in (CUSTOMER, AGENT):
        router.feed(enter(member, ELSEWHERE))
    for member in (CUSTOMER, AGENT):
        router.feed(leave(member, ELSEWHERE))
    watch, _ = in_a_call(router)
    assert watch.conference_uuid == HERE


def test_event_that_fits_two_settles_none() -> None:
    """Guessing would complete the wrong customer's transfer."""
    router = EventRouter()
    first, told_first = listen(router, AGENT)
    second, told_second = listen(router, OTHER_AGENT)
    assert not router.feed(leave(CUSTOMER, None))
    router.feed(enter(CUSTOMER))
    router.follow(first, PARTNER)
    router.follow(second, PARTNER)
    assert not router.feed(enter(PARTNER))
    assert told_first == told_second == []
    assert first.conference_uuid is second.conference_uuid is None


def test_two_conversations_that_fit_equally_are_neither() -> None:
    """The same, seen from the other side."""
    router = EventRouter()
    for where in (HERE, ELSEWHERE):
        router.feed(enter(CUSTOMER, where))
        router.feed(enter(AGENT, where))
    watch, told = listen(router)
    assert watch.conference_uuid is None
    router.follow(watch, PARTNER)
    assert router.feed(enter(PARTNER, ELSEWHERE))  # now one fits better
    assert (Party.PARTNER, INSIDE) in told
    assert watch.conference_uuid == ELSEWHERE


def test_event_without_conversation_counts_when_it_fits_one() -> None:
    """A PHLO may be set up to post only some of the variables."""
    router = EventRouter()
    watch, told = listen(router)
    router.follow(watch, PARTNER)
    assert router.feed(enter(PARTNER, None))
    assert router.feed(leave(PARTNER, None))
    assert router.feed(enter(PARTNER, None))  # late or double: they have left
    assert told == [
        (Party.PARTNER, INSIDE),
        (Party.PARTNER, LEFT),
        (Party.PARTNER, LEFT),
    ]
    router.follow(watch, PARTNER)
    assert router.feed(enter(PARTNER, None))
    assert told[-1] == (Party.PARTNER, INSIDE)


def test_leave_that_overtakes_its_join_counts() -> None:
    """A partner who is gone must not be taken for one who has come."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    router.feed(leave(PARTNER))
    router.feed(enter(PARTNER))
    assert told == [(Party.PARTNER, LEFT)] * 2


@given(st.permutations(range(6)))
def test_order_and_doubles_change_nothing_in_the_end(order: list[int]) -> None:
    """Webhooks come at least once, in no order."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    events = [enter(PARTNER), leave(PARTNER), leave(AGENT)] * 2
    for index in order:
        router.feed(events[index])
    assert dict(told) == {Party.PARTNER: LEFT, Party.AGENT: LEFT}


def test_member_who_came_back_is_inside() -> None:
    """An agent whose softphone reconnected has not left."""
    router = EventRouter()
    _, told = in_a_call(router)
    router.feed(enter(AGENT, leg="second leg"))
    router.feed(leave(AGENT))
    assert told[-1] == (Party.AGENT, INSIDE)
    router.feed(leave(AGENT, leg="second leg"))
    assert told[-1] == (Party.AGENT, LEFT)


def test_earlier_call_of_the_partner_is_no_answer() -> None:
    """A supervisor who was asked before, and declined, has not come now."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.feed(enter(PARTNER, leg="before"))
    router.follow(watch, PARTNER)
    assert router.feed(enter(PARTNER, leg="before"))
    router.feed(leave(PARTNER, leg="before"))
    assert told == []
    router.feed(enter(PARTNER, leg="now"))
    assert told == [(Party.PARTNER, INSIDE)]


def test_earlier_call_without_id_is_no_answer_either() -> None:
    """The same where the node doesn't post call_uuid."""
    router = EventRouter()
    watch, told = in_a_call(router)
    fields = {"direction": "outbound", "to": PARTNER, "conference_uuid": HERE}
    router.feed(parse_event({**fields, "event": "ConferenceExit"}))
    router.follow(watch, PARTNER)
    router.feed(parse_event({**fields, "event": "ConferenceEnter"}))
    assert told == [(Party.PARTNER, INSIDE)]


def nameless(event: Event) -> Event:
    """Return an event without the member's call_uuid."""
    return attrs.evolve(event, call_uuid=None)


@pytest.mark.parametrize(
    "events",
    [
        (enter(PARTNER, leg="now"), nameless(leave(PARTNER))),
        (nameless(enter(PARTNER)), leave(PARTNER, leg="now")),
        (nameless(enter(PARTNER)), nameless(leave(PARTNER))),
    ],
    ids=["leaving", "joining", "neither"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_partner_has_left_when_an_event_has_no_id(
    events: tuple[Event, Event], order: int
) -> None:
    """The agent would be hung up, and the customer be alone."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    for event in events[::order]:
        router.feed(event)
    assert told[-1] == (Party.PARTNER, LEFT)


def test_members_without_ids_are_not_each_other() -> None:
    """The agent's leaving would be taken for the partner's."""
    router = EventRouter()
    watch, told = listen(router)
    router.follow(watch, PARTNER)
    for member in (CUSTOMER, AGENT, PARTNER):
        router.feed(nameless(enter(member)))
    router.feed(nameless(leave(AGENT)))
    assert dict(told) == {
        Party.CUSTOMER: INSIDE,
        Party.AGENT: LEFT,
        Party.PARTNER: INSIDE,
    }


def test_partner_without_id_is_seen_when_they_were_there_before() -> None:
    """In a conversation that isn't known yet, they would never be seen to answer."""
    router = EventRouter()
    for event in (enter(PARTNER), leave(PARTNER), enter(CUSTOMER)):
        router.feed(nameless(event))
    watch, told = listen(router)
    assert watch.conference_uuid is None
    router.follow(watch, PARTNER)
    router.feed(nameless(enter(PARTNER)))
    assert (Party.PARTNER, INSIDE) in told


def test_agent_without_id_who_came_back_before_has_not_left() -> None:
    """A handover that is just beginning would cry out at once."""
    router = EventRouter()
    for event in (enter(CUSTOMER), enter(AGENT), leave(AGENT), enter(AGENT)):
        router.feed(nameless(event))
    told: Told = []
    router.watch(
        agent=AGENT,
        customer=CUSTOMER,
        tell=lambda *what: told.append(what),
        conference_uuid=HERE,
    )
    assert (Party.AGENT, LEFT) not in told
    router.feed(nameless(leave(AGENT)))
    assert told[-1] == (Party.AGENT, LEFT)


def test_another_handovers_nameless_calls_are_left_alone() -> None:
    """Whoever has left there would seem never to have come."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    router.feed(nameless(leave(PARTNER)))
    other, _ = listen(router, OTHER_AGENT, STRANGER)
    router.follow(other, PARTNER)
    router.feed(enter(PARTNER))
    assert told[-1] == (Party.PARTNER, LEFT)


@pytest.mark.parametrize("status", ["busy", "no-answer", "FAILED", "timeout"])
def test_call_that_was_never_answered_is_over(status: str) -> None:
    """The next one should be rung at once, not when the ringing would end."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    fields = {"direction": "outbound", "to": PARTNER, "call_status": status}
    assert router.feed(parse_event({**fields, "conference_uuid": HERE}))
    assert told == [(Party.PARTNER, LEFT)]


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "Redirect", "direction": "outbound", "to": PARTNER},
        {"event": "ConferenceEnter", "to": PARTNER},
        {"event": "ConferenceEnter", "direction": "outbound", "to": "+19995550000"},
        {},
    ],
)
def test_event_about_nobody_known_is_left_alone(fields: dict[str, str]) -> None:
    """A PHLO posts much that is nobody's business here."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    assert not router.feed(parse_event({**fields, "conference_uuid": HERE}))
    assert told == []


def test_what_is_no_event_is_refused() -> None:
    """A webhook that feeds raw fields would never be noticed otherwise."""
    with pytest.raises(InvalidInputError, match="expected an event"):
        EventRouter().feed({"event": "ConferenceEnter"})  # type: ignore[arg-type]


def test_former_partner_is_no_longer_listened_to() -> None:
    """The second one's answer is what counts now."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    router.follow(watch, SECOND)
    router.feed(leave(PARTNER))
    assert told == []
    router.feed(enter(SECOND))
    assert told == [(Party.PARTNER, INSIDE)]


def test_nothing_is_told_after_forgetting() -> None:
    """A handover that has ended must not wake up again, nor be kept."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    assert repr(router) == "<EventRouter 1 handovers, 1 conversations>"
    router.forget(watch)
    assert not router.feed(enter(PARTNER))
    assert not router.feed(leave(AGENT, None))
    assert told == []
    assert repr(router) == "<EventRouter 0 handovers, 1 conversations>"


def test_conversation_serves_one_handover_after_the_other() -> None:
    """A customer is often handed on more than once."""
    router = EventRouter()
    watch, _ = in_a_call(router)
    router.forget(watch)
    again, _ = listen(router)
    assert again.conference_uuid == HERE


def test_oldest_conversations_are_forgotten_first() -> None:
    """A service that runs for months must not remember every call of them."""
    router = EventRouter(remember=3)
    watch, told = in_a_call(router)
    for number in range(10):
        for member in (AGENT, STRANGER):
            router.feed(enter(member, f"other-{number}"))
    assert repr(router) == "<EventRouter 1 handovers, 4 conversations>"
    router.feed(leave(CUSTOMER))
    assert told == [(Party.CUSTOMER, LEFT)]
    router.forget(watch)
    router.feed(enter(AGENT, "one more"))
    assert repr(router) == "<EventRouter 0 handovers, 3 conversations>"


@pytest.mark.parametrize("remember", [0, -1, 1.5, True, "many"])
def test_nonsense_is_refused(remember: object) -> None:
    """A router that remembers nothing would find no conversation."""
    with pytest.raises(InvalidInputError, match="remember"):
        EventRouter(remember=remember)  # type: ignore[arg-type]


def test_repr_shows_no_whole_number() -> None:
    """A log must not tell who talks to whom."""
    router = EventRouter()
    watch, _ = in_a_call(router)
    router.follow(watch, PARTNER)
    for number, text in itertools.product(
        (AGENT, CUSTOMER, PARTNER), (repr(watch), repr(router))
    ):
        assert number[:-2] not in text
