"""Each event reaches the one handover that it is about, or none."""

import itertools
import pickle
import sys
from collections.abc import Callable
from functools import partial

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.errors import EngagedError, InvalidInputError
from aiophlo.handover.conversations import Presence
from aiophlo.handover.event_router import EventRouter
from aiophlo.handover.watch import Party, Watch
from aiophlo.webhooks.events import Event, parse_event

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
    with pytest.raises(EngagedError, match="conference_uuid") as caught:
        router.watch(agent=OTHER_AGENT, **options)  # type: ignore[arg-type]
    assert caught.value.field == "conference_uuid"
    assert repr(router) == "<EventRouter handovers=1 conversations=1 unmatched=0>"
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


def in_a_second_call(router: EventRouter) -> tuple[Watch, Told]:
    """Open a watch while only the call before is known; then the new one is told."""
    for member in (CUSTOMER, AGENT):
        router.feed(enter(member, ELSEWHERE))
    watch, told = listen(router)
    assert watch.conference_uuid == ELSEWHERE
    for member in (CUSTOMER, AGENT):
        router.feed(enter(member, HERE))
    told.clear()
    return watch, told


def test_answer_is_heard_while_the_call_before_seems_to_go_on() -> None:
    """Whose leaves come late: a partner who answered would be cut off."""
    router = EventRouter()
    watch, told = in_a_second_call(router)
    router.follow(watch, PARTNER)
    assert router.feed(enter(PARTNER, HERE)) == watch.id
    assert (Party.PARTNER, INSIDE) in told
    assert router.feed(leave(AGENT, ELSEWHERE)) is None
    assert router.feed(leave(CUSTOMER, HERE)) == watch.id
    assert (Party.AGENT, LEFT) not in told
    assert (Party.CUSTOMER, LEFT) in told


@pytest.mark.parametrize("member", [AGENT, CUSTOMER])
def test_late_leave_of_the_call_before_ends_no_handover(member: str) -> None:
    """To prove that the agent left, somebody who is talking would be hung up."""
    router = EventRouter()
    watch, told = in_a_second_call(router)
    assert router.feed(leave(member, ELSEWHERE)) is None
    assert watch.conference_uuid == HERE
    assert [one for one in told if one[1] is LEFT] == []
    router.follow(watch, PARTNER)
    assert router.feed(enter(PARTNER, HERE)) == watch.id
    assert (Party.PARTNER, INSIDE) in told


def test_partner_who_was_heard_of_settles_where_the_handover_is() -> None:
    """The agent who leaves with success goes into their next call at once."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    router.feed(enter(PARTNER))
    for member in (CUSTOMER, AGENT):
        router.feed(enter(member, ELSEWHERE))
    assert router.feed(leave(AGENT)) == watch.id
    assert watch.conference_uuid == HERE
    assert (Party.AGENT, LEFT) in told


def test_conversation_that_the_caller_named_is_kept() -> None:
    """They know better than any guess."""
    router = EventRouter()
    told: Told = []
    watch = router.watch(
        agent=AGENT,
        customer=CUSTOMER,
        tell=lambda *what: told.append(what),
        conference_uuid=HERE,
    )
    for where in (HERE, ELSEWHERE):
        for member in (CUSTOMER, AGENT):
            router.feed(enter(member, where))
    assert router.feed(leave(AGENT)) == watch.id
    assert (Party.AGENT, LEFT) in told


@pytest.mark.parametrize("known_first", [HERE, ELSEWHERE])
def test_call_that_the_caller_named_tells_two_calls_apart(known_first: str) -> None:
    """Who knows the customer's call must not depend on when its events come."""
    router = EventRouter()
    told: Told = []
    both = [known_first, *{HERE, ELSEWHERE} - {known_first}]
    for member in (CUSTOMER, AGENT):
        router.feed(enter(member, both[0]))
    watch = router.watch(
        agent=AGENT,
        customer=CUSTOMER,
        tell=lambda *what: told.append(what),
        customer_call_uuid=f"{CUSTOMER} in {HERE}",
    )
    for member in (CUSTOMER, AGENT):
        router.feed(enter(member, both[1]))
    assert watch.conference_uuid == HERE
    assert router.feed(leave(AGENT, ELSEWHERE)) is None
    assert router.feed(leave(AGENT, HERE)) == watch.id
    assert told.count((Party.AGENT, LEFT)) == 1


def test_earlier_call_whose_leaves_were_lost_is_not_gone_back_to() -> None:
    """Its ghosts would hide that the agent left, and then the partner's answer."""
    router = EventRouter()
    for member in (CUSTOMER, AGENT):
        router.feed(enter(member, ELSEWHERE))
    watch, told = listen(router)
    for member in (CUSTOMER, AGENT):
        router.feed(enter(member, HERE))
    router.feed(leave(AGENT, ELSEWHERE))
    told.clear()
    router.feed(enter(AGENT, ELSEWHERE))  # late, and of the same call
    assert router.feed(leave(AGENT, HERE)) == watch.id
    assert watch.conference_uuid == HERE
    assert (Party.AGENT, LEFT) in told


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
    assert router.feed(enter(PARTNER, None))  # their old call
    assert len(told) == 3
    assert router.feed(enter(PARTNER, None, leg="new"))
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
        {"event": "ConferenceEnter", "direction": "sideways", "to": PARTNER},
        {"event": "ConferenceEnter", "to": PARTNER, "from": AGENT},
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
    assert repr(router) == "<EventRouter handovers=1 conversations=1 unmatched=0>"
    router.forget(watch)
    assert not router.feed(enter(PARTNER))
    assert not router.feed(leave(AGENT, None))
    assert told == []
    assert repr(router) == "<EventRouter handovers=0 conversations=1 unmatched=0>"


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
    assert repr(router) == "<EventRouter handovers=1 conversations=4 unmatched=20>"
    router.feed(leave(CUSTOMER))
    assert told == [(Party.CUSTOMER, LEFT)]
    router.forget(watch)
    router.feed(enter(AGENT, "one more"))
    assert repr(router) == "<EventRouter handovers=0 conversations=3 unmatched=20>"


def test_call_is_heard_once_its_people_were() -> None:
    """A partner who simply doesn't answer is not the webhook's fault."""
    watch, _ = in_a_call(EventRouter())
    assert watch.heard


def test_call_is_not_heard_when_nothing_came() -> None:
    """A supervisor who answered would be said to have ignored the call."""
    router = EventRouter()
    watch, _ = listen(router)
    router.follow(watch, PARTNER)
    assert not watch.heard
    router.feed(enter(PARTNER, None))
    assert watch.heard
    router.follow(watch, SECOND)  # whose events may be another matter
    assert not watch.heard


def test_one_warning_says_what_to_check(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody would look at the webhook, and a hundred warnings drown all else."""
    router = EventRouter()
    watch, _ = listen(router)
    router.warn_not_seen(watch)
    router.warn_not_seen(watch)
    (record,) = caplog.records
    assert vars(record)["phlo_handover"] == watch.id
    assert record.levelname == "WARNING"
    assert "conference_uuid" in record.getMessage()


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


def posted(name: str, where: str | None = HERE, **fields: str) -> Event:
    """Make an event of exactly these fields."""
    place = {} if where is None else {"conference_uuid": where}
    return parse_event({"event": name, **place, **fields})


def dialled(to: str, **fields: str) -> Event:
    """Say that somebody who was called came in."""
    return posted("ConferenceEnter", direction="outbound", to=to, **fields)


SUPERVISOR = "sip:sup7@h.example.com"


@pytest.mark.parametrize("where", [HERE, None], ids=["placed", "unplaced"])
@pytest.mark.parametrize(
    ("partner", "spelled", "fields"),
    [
        (SUPERVISOR, "sip:sup7@h.example.com;transport=udp", {}),
        (SUPERVISOR, "sip:sup7@h.example.com:5060", {}),
        (SUPERVISOR, "<sip:sup7@h.example.com>", {}),
        (SUPERVISOR, '"Agent" <sip:sup7@h.example.com>', {}),
        (SUPERVISOR, "sips:sup7@h.example.com", {}),
        (SUPERVISOR, "sip:sup%37@H.example.com", {}),
        (SUPERVISOR, "sup7@h.example.com", {}),
        (PARTNER, "tel:+14152225555", {}),
        (PARTNER, "0014152225555", {}),
        (PARTNER, "14152225555", {}),
        (PARTNER, "4152225555", {}),  # the agent's number is of the same country
        (PARTNER, "4152225555", {"to_iso2": "us"}),
        (PARTNER, "01114152225555", {"to_country": "CA"}),
        (PARTNER, "sip:+14152225555@trunk.example.com", {}),
        ("sip:+14152225555@trunk.example.com", PARTNER, {}),
        ("+442079460958", "02079460958", {"to_iso2": "GB"}),
        ("+442079460958", "2079460958", {"to_country": "GB"}),
    ],
)
def test_partner_is_known_however_events_spell_them(
    partner: str, spelled: str, fields: dict[str, str], where: str | None
) -> None:
    """The supervisor answers, is cut off, and is said not to have answered."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, partner)
    assert router.feed(dialled(spelled, where=where, **fields))  # type: ignore[arg-type]
    assert told == [(Party.PARTNER, INSIDE)]


@pytest.mark.parametrize(
    ("spelled", "fields"),
    [
        ("2079460958", {}),  # in whose country?
        ("02079460958", {}),
        ("02079460958", {"to_iso2": "DE"}),
        ("2079460958", {"to_iso2": "US"}),
        ("+12079460958", {"to_iso2": "GB"}),
        ("0958", {"to_iso2": "GB"}),
    ],
)
def test_national_number_of_another_country_is_somebody_else(
    spelled: str, fields: dict[str, str]
) -> None:
    """A stranger's joining would complete the transfer to nobody."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, "+442079460958")
    assert not router.feed(dialled(spelled, **fields))
    assert told == []


def test_national_number_that_fits_two_parties_is_neither() -> None:
    """An agent in London and a partner in Maine would be one person."""
    router = EventRouter()
    watch, told = listen(router, agent="+442079460958", customer="+442079460959")
    router.follow(watch, "+12079460958", keep=True)
    router.follow(watch, "+12079460000", keep=True)
    assert not router.feed(posted("ConferenceExit", None, to="02079460958"))
    assert told == []
    assert router.feed(posted("ConferenceExit", None, to="02079460959"))
    assert told == [(Party.CUSTOMER, LEFT)]


def test_conversation_is_found_by_other_spellings_that_came_before() -> None:
    """The call's first events come long before anybody thinks of a handover."""
    router = EventRouter()
    router.feed(
        posted("ConferenceEnter", direction="inbound", **{"from": "4152224444"})
    )
    router.feed(dialled("tel:+1-415-222-3333"))
    watch, told = listen(router)
    assert watch.conference_uuid == HERE
    assert dict(told) == {Party.AGENT: INSIDE, Party.CUSTOMER: INSIDE}


@pytest.mark.parametrize("where", [HERE, None], ids=["placed", "unplaced"])
def test_join_and_leave_of_one_call_may_be_spelled_differently(
    where: str | None,
) -> None:
    """A partner who is gone would be taken for one who is there."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    router.feed(dialled(PARTNER, where=where, call_uuid="x"))  # type: ignore[arg-type]
    fields = {"to": "4152225555", "direction": "outbound", "call_uuid": "x"}
    router.feed(posted("ConferenceExit", where, **fields))
    assert told[-1] == (Party.PARTNER, LEFT)


@pytest.mark.parametrize("where", [HERE, None], ids=["placed", "unplaced"])
@pytest.mark.parametrize(
    ("sender", "receiver", "party"),
    [
        ("+14155550100", PARTNER, Party.PARTNER),
        ("+14155550100", "sip:+14152225555@trunk", Party.PARTNER),
        (CUSTOMER, "+14155550100", Party.CUSTOMER),
        ("", AGENT, Party.AGENT),
    ],
)
def test_event_without_direction_is_about_whoever_is_a_party(
    sender: str, receiver: str, party: Party, where: str | None
) -> None:
    """A node that doesn't post its direction would be deaf."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    event = posted("ConferenceEnter", where, **{"from": sender, "to": receiver})
    assert router.feed(event)
    assert told == [(party, INSIDE)]


def test_conversation_without_directions_is_known() -> None:
    """The same for the events that came before the handover."""
    router = EventRouter()
    router.feed(posted("ConferenceEnter", **{"from": CUSTOMER, "to": "+14155550100"}))
    router.feed(posted("ConferenceEnter", **{"from": "+14155550100", "to": AGENT}))
    watch, _ = listen(router)
    assert watch.conference_uuid == HERE


def test_unmatched_events_are_counted() -> None:
    """Nobody would find out that events come and are not recognised."""
    router = EventRouter()
    router.feed(enter(STRANGER))  # while nobody waits
    watch, _ = in_a_call(router)
    router.follow(watch, PARTNER)
    assert router.unmatched == 0
    router.feed(enter(SECOND))
    router.feed(posted("ConferenceEnter"))
    router.feed(posted("Redirect", direction="outbound", to=SECOND))
    router.feed(enter(PARTNER))
    assert router.unmatched == 2
    assert repr(router).endswith(" unmatched=2>")


# Customers who have no number.


def called_in(sender: str | None, where: str = HERE, leg: str = "c") -> Event:
    """Say that somebody called in, from what is said to be their number."""
    fields = {} if sender is None else {"from": sender}
    return posted(
        "ConferenceEnter", where, direction="inbound", call_uuid=leg, **fields
    )


def gone(event: Event) -> Event:
    """Say that whoever came in has left."""
    return parse_event({**event.fields, "event": "ConferenceExit"})


@pytest.mark.parametrize("customer", ["anonymous", "Restricted", ""])
@pytest.mark.parametrize("said_to_be", ["anonymous", "unavailable", "", None])
def test_customer_without_a_number_is_known(
    customer: str, said_to_be: str | None
) -> None:
    """Those who withhold their number could not be handed over."""
    router = EventRouter()
    router.feed(called_in(said_to_be))
    router.feed(enter(AGENT))
    watch, told = listen(router, customer=customer)
    assert watch.conference_uuid == HERE
    assert dict(told) == {Party.AGENT: INSIDE, Party.CUSTOMER: INSIDE}
    assert router.feed(gone(called_in(said_to_be)))
    assert told[-1] == (Party.CUSTOMER, LEFT)


def unknown_caller(
    router: EventRouter, agent: str = AGENT, **options: str
) -> tuple[Watch, Told]:
    """Listen for a handover of somebody unknown."""
    told: Told = []
    watch = router.watch(
        agent=agent, customer=None, tell=lambda *what: told.append(what), **options
    )
    return watch, told


def test_unknown_customer_is_who_is_nobody_else() -> None:
    """The agent would be hung up on a customer who has gone."""
    router = EventRouter()
    watch, told = unknown_caller(router, conference_uuid=HERE)
    router.follow(watch, PARTNER)
    router.feed(called_in(STRANGER))
    for member in (AGENT, PARTNER, SECOND):
        router.feed(enter(member))
    told.clear()
    assert not router.feed(leave(SECOND))  # was called, so it's no unknown caller
    assert told == []
    assert router.feed(gone(called_in(STRANGER)))
    assert told == [(Party.CUSTOMER, LEFT)]


def test_unknown_customer_is_known_by_their_call() -> None:
    """A monitor who calls in and leaves again is not the customer."""
    router = EventRouter()
    _, told = unknown_caller(router, conference_uuid=HERE, customer_call_uuid="c")
    for event in (called_in("anonymous"), called_in("anonymous", leg="monitor")):
        router.feed(event)
    told.clear()
    assert not router.feed(gone(called_in("anonymous", leg="monitor")))
    assert router.feed(gone(called_in("anonymous")))
    assert told == [(Party.CUSTOMER, LEFT)]


def test_unknown_customers_call_is_enough_to_find_the_conversation() -> None:
    """A service that knows the call need not know the conversation."""
    router = EventRouter()
    router.feed(called_in(STRANGER))
    router.feed(enter(AGENT))
    watch, told = unknown_caller(router, customer_call_uuid="c")
    assert watch.conference_uuid == HERE
    assert router.feed(posted("ConferenceExit", None, call_uuid="c", to="+14155550100"))
    assert told[-1] == (Party.CUSTOMER, LEFT)


def test_unknown_customers_call_counts_without_a_conversation() -> None:
    """The same where the node posts no conference_uuid."""
    router = EventRouter()
    _, told = unknown_caller(router, customer_call_uuid="c")
    event = attrs.evolve(called_in("anonymous"), conference_uuid=None)
    assert router.feed(event)
    assert told == [(Party.CUSTOMER, INSIDE)]


def test_two_anonymous_callers_are_not_confused() -> None:
    """One caller's hang-up would leave the other on hold."""
    router = EventRouter()
    for agent, where in ((AGENT, HERE), (OTHER_AGENT, ELSEWHERE)):
        router.feed(called_in("anonymous", where, leg=where))
        router.feed(enter(agent, where))
    first, told_first = listen(router, AGENT, "anonymous")
    second, told_second = listen(router, OTHER_AGENT, "anonymous")
    assert (first.conference_uuid, second.conference_uuid) == (HERE, ELSEWHERE)
    told_first.clear()
    told_second.clear()
    router.feed(gone(called_in("anonymous", ELSEWHERE, leg=ELSEWHERE)))
    assert told_first == []
    assert told_second == [(Party.CUSTOMER, LEFT)]


def test_anonymous_caller_of_no_conversation_is_nobody() -> None:
    """Another anonymous caller, of whom no handover is open, may have left."""
    router = EventRouter()
    _, told = listen(router, customer="anonymous")
    event = attrs.evolve(called_in("anonymous"), conference_uuid=None)
    assert not router.feed(gone(event))
    assert not router.feed(event)
    assert told == []


def test_repr_does_not_show_who_called() -> None:
    """A text that stands for a number may be a name."""
    watch, _ = listen(EventRouter(), customer="Ann")
    assert "Ann" not in repr(watch)


# Calls that are older than the ring.


@pytest.mark.parametrize("before", [ELSEWHERE, None], ids=["elsewhere", "unplaced"])
@pytest.mark.parametrize("after", [HERE, None], ids=["placed", "unplaced"])
def test_call_heard_of_before_is_no_answer_wherever_it_was(
    before: str | None, after: str | None
) -> None:
    """The agent would be hung up though the partner's phone still rings."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.feed(enter(PARTNER, before, leg="old"))
    router.follow(watch, PARTNER)
    router.feed(enter(PARTNER, after, leg="old"))
    router.feed(leave(PARTNER, after, leg="old"))
    assert told == []
    router.feed(enter(PARTNER, after, leg="new"))
    assert told == [(Party.PARTNER, INSIDE)]


def test_event_without_conversation_belongs_where_its_call_is() -> None:
    """The end of the partner's other call would end this consult."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    router.feed(enter(PARTNER, ELSEWHERE, leg="other"))
    assert not router.feed(leave(PARTNER, None, leg="other"))
    assert told == []
    router.feed(enter(PARTNER, leg="this"))
    assert router.feed(leave(PARTNER, None, leg="this"))
    assert told == [(Party.PARTNER, INSIDE), (Party.PARTNER, LEFT)]


@pytest.mark.parametrize("leg", ["x", ""])
def test_leave_without_conversation_overtakes_a_placed_join(leg: str) -> None:
    """A partner who is gone would be taken for one who has come."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    leaving, joining = leave(PARTNER, None, leg="x"), enter(PARTNER, leg="x")
    router.feed(leaving if leg else nameless(leaving))
    router.feed(joining)
    assert told == [(Party.PARTNER, LEFT)] * 2


def test_call_without_id_that_is_not_over_is_no_answer_either() -> None:
    """Who was in the call before, and is rung again, would never be seen to answer."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.feed(nameless(enter(PARTNER)))
    router.follow(watch, PARTNER)
    assert told == []
    assert router.feed(nameless(enter(PARTNER)))
    assert told == [(Party.PARTNER, INSIDE)]


def test_old_call_is_no_answer_under_another_spelling_either() -> None:
    """The partner's old call would end the ring that has just begun."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.feed(dialled(PARTNER, call_uuid="old"))
    router.follow(watch, PARTNER)
    for name in ("ConferenceEnter", "ConferenceExit"):
        fields = {"to": "4152225555", "direction": "outbound", "call_uuid": "old"}
        router.feed(posted(name, **fields))
    assert told == []


def test_call_that_moved_belongs_where_it_is_now() -> None:
    """The partner's leaving would be looked for in the call that they came from."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    router.feed(enter(PARTNER, ELSEWHERE, leg="moved"))
    router.feed(enter(PARTNER, leg="moved"))
    assert router.feed(leave(PARTNER, None, leg="moved"))
    assert told == [(Party.PARTNER, INSIDE), (Party.PARTNER, LEFT)]


def test_age_of_the_latest_calls_is_remembered() -> None:
    """A busy hour would make the partner's old call look like their answer."""
    router = EventRouter(remember=1)
    watch, told = listen(router)
    for number in range(20):
        router.feed(enter(PARTNER, None, leg=f"old {number}"))
    router.follow(watch, PARTNER)
    router.feed(enter(PARTNER, None, leg="old 19"))
    assert told == []


def test_agent_without_id_who_is_gone_is_not_in_that_conversation() -> None:
    """A customer's earlier call would be taken for the one that goes on."""
    router = EventRouter()
    for event in (enter(CUSTOMER), enter(AGENT), leave(AGENT)):
        router.feed(nameless(event))
    watch, _ = listen(router)
    assert watch.conference_uuid is None


# Two handovers that one conversation fits.


def test_handover_is_looked_at_again_when_the_other_one_is_over() -> None:
    """Its answer would never be heard, although it is alone now."""
    router = EventRouter()
    first, _ = listen(router, AGENT)
    second, told = listen(router, OTHER_AGENT)
    for member in (AGENT, OTHER_AGENT, CUSTOMER):
        router.feed(enter(member))
    assert first.conference_uuid is second.conference_uuid is None
    router.forget(first)
    assert second.conference_uuid == HERE
    assert dict(told) == {Party.AGENT: INSIDE, Party.CUSTOMER: INSIDE}


def test_conversation_that_is_free_again_goes_to_who_waited_for_it() -> None:
    """The same, if the first one knew its conversation."""
    router = EventRouter()
    first, _ = in_a_call(router)
    second, _ = listen(router, OTHER_AGENT)
    router.feed(enter(OTHER_AGENT))
    assert second.conference_uuid is None
    router.forget(first)
    assert second.conference_uuid == HERE


def test_conversation_that_is_free_again_goes_to_others_who_are_in_it() -> None:
    """The same, if the two handovers have nobody in common."""
    router = EventRouter()
    first, _ = in_a_call(router)
    second, _ = listen(router, OTHER_AGENT, STRANGER)
    router.feed(enter(OTHER_AGENT))
    router.feed(enter(STRANGER))
    assert second.conference_uuid is None
    router.forget(first)
    assert second.conference_uuid == HERE


def test_conversation_of_another_handover_is_no_choice() -> None:
    """Its customer would be handed over by the wrong agent."""
    router = EventRouter()
    first, _ = in_a_call(router)
    second, _ = listen(router, OTHER_AGENT)
    for where in (HERE, ELSEWHERE):
        router.feed(enter(OTHER_AGENT, where))
    router.feed(enter(CUSTOMER, ELSEWHERE))
    assert (first.conference_uuid, second.conference_uuid) == (HERE, ELSEWHERE)


def test_handover_that_knows_its_conversation_gets_no_other() -> None:
    """It would hear of two calls at once, and believe both."""
    router = EventRouter()
    watch, _ = in_a_call(router)
    router.feed(enter(AGENT, ELSEWHERE))
    router.feed(enter(CUSTOMER, ELSEWHERE))
    assert watch.conference_uuid == HERE


def refused(status: str, leg: str, member: str = PARTNER) -> Event:
    """Say that a call was not answered, and how that ended."""
    fields = {"direction": "outbound", "to": member, "call_uuid": leg}
    return posted("", call_status=status, **fields)


def test_last_ring_says_how_it_ended() -> None:
    """A partner whose line was busy before would be called busy for ever."""
    router = EventRouter()
    watch, _ = in_a_call(router)
    router.follow(watch, PARTNER)
    router.feed(refused("busy", "first"))
    assert watch.call_status == "busy"
    router.follow(watch, PARTNER)
    assert watch.call_status is None
    router.feed(leave(PARTNER, leg="first"))  # late
    assert watch.call_status is None
    router.feed(refused("rejected", "second"))
    router.feed(leave(PARTNER, leg="second"))
    assert watch.call_status == "rejected"


def test_partner_who_is_rung_again_is_no_former_one() -> None:
    """Their answer would be taken for that of a phone given up."""
    router = EventRouter()
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    router.follow(watch, SECOND, keep=True)
    router.follow(watch, PARTNER, keep=True)
    router.feed(enter(PARTNER))
    router.follow(watch, "+14152225557")
    told.clear()
    assert not router.feed(leave(PARTNER))
    assert told == []


def ended(status: str, leg: str | None = None) -> Event:
    """Say how a call to the partner ended that nobody took."""
    return parse_event(
        {
            "event": "ConferenceExit",
            "direction": "outbound",
            "to": PARTNER,
            "call_status": status,
            "conference_uuid": HERE,
            "call_uuid": leg,
        }
    )


def test_stranger_does_not_settle_which_of_two_conversations_it_is() -> None:
    """The handover would listen to the wrong call, and hear of no answer."""
    router = EventRouter()
    for where in (HERE, ELSEWHERE):
        router.feed(enter(CUSTOMER, where))
        router.feed(enter(AGENT, where))
    watch, told = listen(router)
    assert not router.feed(enter(STRANGER, ELSEWHERE))
    assert watch.conference_uuid is None
    assert told == []


def test_unknown_caller_is_not_enough_to_know_a_conversation_by() -> None:
    """Whoever else calls the agent would be joined to the supervisor."""
    router = EventRouter()
    watch = router.watch(agent=AGENT, customer=None, tell=lambda *_: None)
    router.feed(enter(STRANGER, ELSEWHERE))
    router.feed(enter(AGENT, ELSEWHERE))
    assert watch.conference_uuid is None


def test_agent_and_one_rung_before_are_not_enough_to_know_a_conversation_by() -> None:
    """The agent's other call with a supervisor would be taken for this one."""
    router = EventRouter()
    watch, told = listen(router)
    router.follow(watch, PARTNER)
    router.follow(watch, SECOND, keep=True)
    router.feed(enter(PARTNER, ELSEWHERE))
    assert not router.feed(enter(AGENT, ELSEWHERE))
    assert watch.conference_uuid is None
    assert told == []


def test_event_between_two_parties_of_one_handover_may_be_anothers() -> None:
    """Who answers the second call would be rung again, for they were not heard."""
    router = EventRouter()
    first, told_first = listen(router)
    router.follow(first, PARTNER)
    router.follow(first, SECOND, keep=True)
    second, told_second = listen(router, OTHER_AGENT, STRANGER)
    router.follow(second, SECOND)
    joined = {"event": "ConferenceEnter", "from": PARTNER, "to": SECOND}
    assert router.feed(parse_event({**joined, "call_uuid": "new"}))
    assert told_first == []
    assert told_second == [(Party.PARTNER, INSIDE)]


@pytest.mark.parametrize("other", [STRANGER, AGENT])
def test_hidden_caller_is_none_of_the_others_who_called_in(other: str) -> None:
    """A supervisor would be left with nobody: the customer counts as still there."""
    router, told = EventRouter(), list[tuple[Party, Presence]]()
    hidden = "anonymous" if other == STRANGER else STRANGER
    router.watch(
        agent=AGENT,
        customer=None,
        tell=lambda *what: told.append(what),
        conference_uuid=HERE,
    )
    caller = {"direction": "inbound", "conference_uuid": HERE}
    for who in (hidden, other):
        joined = {"event": "ConferenceEnter", "from": who, "call_uuid": f"of {who}"}
        router.feed(parse_event({**caller, **joined}))
    gone = {"event": "ConferenceExit", "from": hidden, "call_uuid": f"of {hidden}"}
    router.feed(parse_event({**caller, **gone}))
    assert told[-1] == (Party.CUSTOMER, LEFT)


def test_latest_word_says_how_a_ring_ended() -> None:
    """An agent is told that a supervisor is busy who only didn't pick up."""
    router = EventRouter()
    watch, _ = in_a_call(router)
    router.follow(watch, PARTNER)
    router.feed(ended("failed", "first"))
    router.feed(ended("busy", "first"))
    assert watch.call_status == "busy"
    router.feed(leave(PARTNER, leg="first"))  # which has no status
    assert watch.call_status == "busy"
    router.feed(ended("no-answer", "second"))
    assert watch.call_status == "no-answer"


def test_second_ring_without_an_id_says_how_it_ended() -> None:
    """Who is busy would be said not to have answered."""
    router = EventRouter()
    watch, _ = in_a_call(router)
    for status in ("no-answer", "busy"):
        router.follow(watch, PARTNER)
        router.feed(ended(status))
        assert watch.call_status == status


# Bounds: what an event costs, and what is kept.


def calls_made(work: Callable[[], object]) -> int:
    """Count the functions that are called in some work."""
    count = 0

    def note(_frame: object, what: str, _argument: object) -> None:
        nonlocal count
        count += what in {"call", "c_call"}

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def busy(conversations: int) -> EventRouter:
    """Return a router that has heard of an agent in many conversations."""
    router = EventRouter()
    for number in range(conversations):
        for member in (AGENT, STRANGER, PARTNER):
            router.feed(enter(member, f"other-{number}"))
    return router


@pytest.mark.parametrize("conversations", [200, 2_000])
def test_event_costs_no_more_when_an_agent_was_in_many_calls(
    conversations: int,
) -> None:
    """After a week's work every event would hold the loop up for 135 ms."""

    def cost(router: EventRouter) -> list[int]:
        watch, told = listen(router)
        costs = [calls_made(lambda: router.follow(watch, PARTNER))]
        events = (enter(AGENT), enter(CUSTOMER), enter(PARTNER), leave(PARTNER))
        costs += [calls_made(partial(router.feed, one)) for one in events]
        assert told[-1] == (Party.PARTNER, LEFT)
        costs += [calls_made(lambda: listen(router, AGENT, CUSTOMER))]
        return [*costs, calls_made(lambda: router.forget(watch))]

    few, many = cost(busy(100)), cost(busy(conversations))
    assert all(more <= 1.1 * less for less, more in zip(few, many, strict=True))


def test_event_of_an_agents_other_call_costs_no_more_for_those_before() -> None:
    """Each event of a busy agent would have all their conversations looked through."""

    def cost(router: EventRouter) -> int:
        listen(router)
        return calls_made(partial(router.feed, enter(AGENT, ELSEWHERE)))

    assert cost(busy(60)) <= 1.1 * cost(busy(2))


def test_latest_conversations_are_looked_through() -> None:
    """An agent's current call must be found after any number of others."""
    router = busy(200)
    watch, _ = in_a_call(router)
    assert watch.conference_uuid == HERE


def test_calls_of_one_conversation_are_bounded() -> None:
    """A call that is redialled all night would fill the memory."""
    router = EventRouter(remember=10)
    watch, told = in_a_call(router)
    router.follow(watch, PARTNER)
    for number in range(500):
        router.feed(enter(STRANGER, leg=f"call {number}"))
        router.feed(leave(STRANGER, leg=f"call {number}"))
        router.feed(leave(f"+1999555{number:04}", leg=f"call {number}"))
    assert len(pickle.dumps(router._memory)) < 15_000  # noqa: SLF001 -- no other sees it
    router.feed(enter(PARTNER))
    assert told == [(Party.PARTNER, INSIDE)]
    router.feed(enter(AGENT, leg="second"))
    router.feed(leave(AGENT, leg="second"))
    assert told[-1] == (Party.AGENT, INSIDE)  # their first call goes on
    assert router.feed(leave(CUSTOMER))
    assert told[-1] == (Party.CUSTOMER, LEFT)


def test_old_calls_are_forgotten() -> None:
    """A service that runs for months must not remember every call of them."""
    router = EventRouter(remember=1)
    watch, _ = listen(router)
    for number in range(1_000):
        router.feed(leave(PARTNER, None, leg=f"call {number}"))
        router.feed(leave(AGENT, None, leg=f"call {number}"))
    assert len(pickle.dumps(router._memory)) < 2_000  # noqa: SLF001 -- no other sees it
    assert watch.heard is False


def test_conversation_that_is_going_on_is_not_forgotten() -> None:
    """The longest calls are the ones that are handed over."""
    router = EventRouter(remember=2)
    router.feed(enter(CUSTOMER))
    router.feed(enter(AGENT))
    router.feed(enter(STRANGER, ELSEWHERE))
    router.feed(enter(AGENT, leg="again"))
    router.feed(enter(STRANGER, "conference-3"))
    watch, _ = listen(router)
    assert watch.conference_uuid == HERE
