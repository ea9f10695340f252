"""Where a customer is once the agent is out: said only where events leave no doubt."""

import math
from collections.abc import Callable, Collection

import attrs
import pytest

from aiophlo.coordination import Whereabouts
from aiophlo.handover.whereabouts import (
    LATEST,
    SETTLED,
    where_is_customer,
    where_is_former_customer,
)
from aiophlo.model.call_events import CallEvent

BEGAN, NOW = 100.0, 120.0
AGENT, CUSTOMER, PARTNER, OTHER = "agent", "customer", "partner", "other"
UNKNOWN = Whereabouts.UNKNOWN


def joined(who: str, at: float, *, called_in: bool = False) -> CallEvent:
    """Return what tells that somebody joined."""
    return CallEvent(
        keys=(who,),
        call_uuid=f"call of {who}",
        conference_uuid="conference",
        called_in=called_in,
        left=False,
        at=at,
    )


def left(who: str, at: float) -> CallEvent:
    """Return what tells that somebody left."""
    return attrs.evolve(joined(who, at), left=True)


CONSULT = [
    joined(CUSTOMER, 10.0, called_in=True),
    joined(AGENT, 11.0),
    joined(PARTNER, 105.0),
]
COMPLETED = [*CONSULT, left(AGENT, 110.0)]


def where(
    *events: CallEvent, now: float = NOW, customer: Collection[str] = ()
) -> Whereabouts:
    """Say where the customer is."""
    return where_is_customer(events, {AGENT}, customer, began_at=BEGAN, now=now)


def test_customer_is_with_whom_was_rung_when_the_agent_has_left() -> None:
    """An alarm that is false is the one after which nobody looks any more."""
    assert where(*COMPLETED) is Whereabouts.WITH_PARTNER


def test_order_in_which_events_are_told_says_nothing() -> None:
    """The database was away when the agent joined."""
    assert where(*reversed(COMPLETED)) is Whereabouts.WITH_PARTNER
    assert where(*COMPLETED, *COMPLETED) is Whereabouts.WITH_PARTNER


def test_customer_who_hung_up_is_not_alone() -> None:
    """Nobody could help them."""
    assert where(*COMPLETED, left(CUSTOMER, 112.0)) is Whereabouts.OVER
    assert where(*CONSULT[:2], left(AGENT, 110.0), left(CUSTOMER, 111.0)) is (
        Whereabouts.OVER
    )


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([], id="nothing was told"),
        pytest.param(CONSULT, id="the agent is there"),
        pytest.param([*COMPLETED, left(PARTNER, 111.0)], id="the partner left, too"),
        pytest.param([*CONSULT[:2], left(AGENT, 110.0)], id="nobody answered"),
        pytest.param(CONSULT[1:], id="the customer was never heard of"),
        pytest.param([*COMPLETED[1:]], id="nor was the one whom the agent left"),
        pytest.param([*COMPLETED, joined(OTHER, 106.0)], id="two were rung"),
        pytest.param([*COMPLETED, joined("x", NOW - 1.0)], id="news of a moment ago"),
        pytest.param(
            [*COMPLETED[:2], joined(PARTNER, 50.0), COMPLETED[3]],
            id="a colleague was there before",
        ),
        pytest.param([*CONSULT, left(AGENT, 90.0)], id="the agent left before"),
        pytest.param(
            [attrs.evolve(one, conference_uuid="") for one in COMPLETED],
            id="events name no conversation",
        ),
        pytest.param(
            [
                *COMPLETED,
                attrs.evolve(joined(AGENT, 115.0), call_uuid="b", conference_uuid="c"),
            ],
            id="the agent is in another conversation",
        ),
        pytest.param(
            [*COMPLETED, attrs.evolve(left(PARTNER, 111.0), call_uuid="")],
            id="a leave without an id",
        ),
    ],
)
def test_nothing_is_concluded_where_the_customer_may_be_alone(
    events: list[CallEvent],
) -> None:
    """They would listen to music, and nobody would be told."""
    assert where(*events) is UNKNOWN


def test_what_has_just_happened_is_waited_for() -> None:
    """The partner's leave may be under way."""
    assert where(*COMPLETED, now=110.0 + SETTLED / 2) is UNKNOWN
    assert where(*COMPLETED, now=110.0 + SETTLED * 1.01) is Whereabouts.WITH_PARTNER


def test_customer_without_a_number_is_who_was_there() -> None:
    """They are told of as anonymous, and so may be several."""
    anonymous = [
        attrs.evolve(one, keys=("anonymous",)) if CUSTOMER in one.keys else one
        for one in COMPLETED
    ]
    assert where(*anonymous) is Whereabouts.WITH_PARTNER


@pytest.mark.parametrize("lost", range(len(COMPLETED)))
def test_event_that_is_lost_makes_no_certainty(lost: int) -> None:
    """It went to the process that was killed."""
    events = [one for number, one in enumerate(COMPLETED) if number != lost]
    lost_agent_joined = 1
    expected = Whereabouts.WITH_PARTNER if lost == lost_agent_joined else UNKNOWN
    assert where(*events) is expected


def test_every_partial_course_that_ends_well_has_two_inside() -> None:
    """Whatever is told of four people, nobody who is alone is taken to be well."""
    times: dict[Callable[[str, float], CallEvent], float] = {joined: 0.0, left: 0.5}
    people = {CUSTOMER: 10.0, PARTNER: 105.0, OTHER: 106.0}
    possible = [
        make(who, at + later)
        for who, at in people.items()
        for make, later in times.items()
    ]
    for bits in range(2 ** len(possible)):
        told = [one for n, one in enumerate(possible) if bits >> n & 1]
        inside = {
            who
            for who in people
            if any(who in one.keys and not one.left for one in told)
            and not any(who in one.keys and one.left for one in told)
        }
        found = where(joined(AGENT, 11.0), *told, left(AGENT, 110.0), now=math.inf)
        if found is Whereabouts.WITH_PARTNER:
            assert CUSTOMER in inside
            assert len(inside) == 2
        elif found is Whereabouts.OVER:
            assert any(CUSTOMER in one.keys and one.left for one in told)


def former(
    *events: CallEvent, now: float = NOW, customer: Collection[str] = (CUSTOMER,)
) -> Whereabouts | None:
    """Say where the customer is of an agent who may be in a newer call."""
    return where_is_former_customer(events, {AGENT}, customer, began_at=BEGAN, now=now)


def of_another(name: str, event: CallEvent) -> CallEvent:
    """Return the same, told of another conversation."""
    call = f"{name} {event.call_uuid}"
    return attrs.evolve(event, call_uuid=call, conference_uuid=name)


def newer(event: CallEvent) -> CallEvent:
    """Return the same, told of a newer conversation."""
    return of_another("newer", event)


NEWER = [
    newer(joined(OTHER, 115.0, called_in=True)),
    newer(joined(AGENT, 115.5)),
]
HUNG_UP = [*CONSULT[:2], left(CUSTOMER, 107.0), left(AGENT, 107.5)]
EARLIER = [of_another("earlier", attrs.evolve(one, at=one.at - 9.0)) for one in HUNG_UP]


def test_agent_who_is_in_a_newer_call_has_left_the_older_one() -> None:
    """An abort would cut off who is there to take over the newer customer."""
    assert former(*HUNG_UP, *NEWER) is Whereabouts.OVER
    assert former(*COMPLETED, *NEWER) is Whereabouts.WITH_PARTNER
    assert former(*OF_ANOTHER, *HUNG_UP, *NEWER) is Whereabouts.OVER


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(CONSULT, id="there is no newer call"),
        pytest.param([*HUNG_UP, NEWER[0]], id="the agent isn't in it"),
        pytest.param(
            [*HUNG_UP, *NEWER, newer(left(AGENT, 118.0))], id="the agent has left it"
        ),
        pytest.param(
            [*HUNG_UP, newer(joined(AGENT, BEGAN + LATEST))],
            id="it may be the handover's, whose event came late",
        ),
        pytest.param([*HUNG_UP[:3], *NEWER], id="nobody heard the agent leave"),
        pytest.param([*CONSULT[:2], *NEWER], id="the customer may be there"),
        pytest.param([*EARLIER, *NEWER], id="the call before was over before"),
        pytest.param(NEWER, id="nothing was told of the older call"),
        pytest.param(
            [attrs.evolve(one, conference_uuid="") for one in [*HUNG_UP, *NEWER]],
            id="events name no conversation",
        ),
    ],
)
def test_agent_may_be_in_the_call_that_is_handed_over(events: list[CallEvent]) -> None:
    """Its customer hears music until the abort."""
    assert former(*events) is None


def test_call_whose_events_came_late_is_not_a_newer_one() -> None:
    """The customer would be taken for the one before, who has hung up."""
    late = [attrs.evolve(one, at=BEGAN + 4.0 + n) for n, one in enumerate(CONSULT)]
    assert former(*EARLIER, *late, now=BEGAN + 20.0) is None


OF_ANOTHER = [
    attrs.evolve(of_another("earlier", one), keys=(OTHER,))
    if CUSTOMER in one.keys
    else of_another("earlier", one)
    for one in HUNG_UP
]  # the call before: it was over when the handover began, and events came late


@pytest.mark.parametrize("told", [3, 2, 1, 0])
def test_call_before_is_not_the_one_handed_over_however_late_events_are(
    told: int,
) -> None:
    """The customer is on hold, and another one's end was taken for theirs."""
    late = [
        attrs.evolve(one, at=BEGAN + LATEST + 1.0 + n)
        for n, one in enumerate([CONSULT[1], CONSULT[0], CONSULT[2]][:told])
    ]
    assert former(*OF_ANOTHER, *late, now=BEGAN + 30.0) is None
    assert where(*OF_ANOTHER, *late, customer={CUSTOMER}) is UNKNOWN


def test_customer_who_has_called_again_is_not_taken_to_have_hung_up() -> None:
    """They are on hold in their second call."""
    again = newer(joined(CUSTOMER, 115.0, called_in=True))
    assert former(*HUNG_UP, again, *NEWER) is None
    assert former(*EARLIER, *HUNG_UP, *NEWER) is None, "which one was handed over?"


def test_nothing_is_said_of_a_newer_call_where_nobody_knows_the_customer() -> None:
    """Their number was withheld: the abort brings them back if they are there."""
    assert former(*HUNG_UP, *NEWER, customer=()) is None


def test_customer_who_was_called_is_not_taken_for_who_was_rung() -> None:
    """They are on hold: what told of them came after the handover had begun."""
    colleague = [joined(OTHER, 10.0), left(OTHER, 12.0)]
    called = [*colleague, joined(AGENT, 11.0), joined(CUSTOMER, BEGAN + 1.0)]
    assert where(*called, left(AGENT, 107.5), customer={CUSTOMER}) is UNKNOWN


def test_call_that_an_agent_took_last_is_theirs_whatever_was_told_last() -> None:
    """The call before is over, and what told of it came late."""
    own = [attrs.evolve(one, at=BEGAN - 1.0) for one in CONSULT[:2]]
    assert where(*OF_ANOTHER, *own) is UNKNOWN


def test_customer_who_is_known_is_found() -> None:
    """An alarm that is false is the one after which nobody looks any more."""
    assert where(*COMPLETED, customer={CUSTOMER}) is Whereabouts.WITH_PARTNER
    assert where(*HUNG_UP, customer={CUSTOMER}) is Whereabouts.OVER
