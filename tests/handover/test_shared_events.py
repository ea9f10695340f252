"""Routers that share events tell the same as one that hears them all by itself."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo import Account, SessionPool
from aiophlo.coordination import Coordinator
from aiophlo.errors import EngagedError, InvalidInputError
from aiophlo.handover.conversations import Presence
from aiophlo.handover.event_router import EventRouter
from aiophlo.handover.watch import Party, Watch
from aiophlo.webhooks.events import Event, parse_event
from tests.handover.test_event_router import AGENT, CUSTOMER, PARTNER, enter, leave
from tests.support.shared_calls import SharedHere

Told = list[tuple[Party, Presence]]

SPELLINGS = (
    *("+14152223333", "+14152224444", "+14152225555", "+442071838750"),
    *("4152225555", "04152224444", "020 7183 8750", "sip:+14152225555@sip.host:5062"),
    *("sip:bob@phone.plivo.com", "<sip:bob@Phone.Plivo.com;transport=udp>"),
    *("anonymous", "Restricted", "sip:anonymous@anonymous.invalid", ""),
)
AGENTS = "+14152223333", "sip:bob@phone.plivo.com"
CUSTOMERS = "+14152224444", "+442071838750", "anonymous"
PARTNERS = "+14152225555", "+14152226666"
PLACES = None, "c1", "c2"

EVENTS = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["ConferenceEnter", "ConferenceExit", "Redirect"]),
        "direction": st.sampled_from(["inbound", "outbound", None]),
        "from": st.sampled_from(SPELLINGS),
        "to": st.sampled_from(SPELLINGS),
        "conference_uuid": st.sampled_from(PLACES),
        "call_uuid": st.sampled_from([None, "a", "b", "c", "d"]),
        "from_iso2": st.sampled_from([None, "US", "GB"]),
        "to_iso2": st.sampled_from([None, "US", "GB"]),
        "call_status": st.sampled_from(["in-progress", "in-progress", "busy"]),
    }
)
STEPS = st.one_of(
    *(st.tuples(st.just("feed"), EVENTS) for _ in range(4)),
    st.tuples(
        st.just("watch"),
        st.fixed_dictionaries(
            {
                "agent": st.sampled_from(AGENTS),
                "customer": st.sampled_from(CUSTOMERS),
                "conference_uuid": st.sampled_from(PLACES),
                "customer_call_uuid": st.sampled_from([None, "a"]),
            }
        ),
    ),
    st.tuples(
        st.just("follow"),
        st.integers(0, 3),
        st.sampled_from(PARTNERS),
        st.booleans(),
    ),
    st.tuples(st.just("forget"), st.integers(0, 3)),
)


class Course:
    """Takes steps with a router, and keeps what came of them."""

    def __init__(self, router: EventRouter) -> None:
        self._router = router
        self._watches: list[Watch] = []
        self._ids: list[str] = []
        self.happened: list[object] = []

    def take(self, what: str, *arguments: Any) -> None:  # noqa: ANN401 -- of each step
        """Take a step."""
        getattr(self, what)(*arguments)
        states = [
            (one.call_status, one.heard, one.conference_uuid is None, one.is_inferred)
            for one in self._watches
        ]
        self.happened.append((states, self._router.unmatched))

    def feed(self, fields: dict[str, object]) -> None:
        """Feed an event."""
        handover = self._router.feed(parse_event(fields))
        self.happened.append(handover and self._ids.index(handover))

    def watch(self, options: dict[str, Any]) -> None:
        """Open a handover."""
        number = len(self._ids)
        handover = f"handover {number}"
        self._ids.append(handover)

        def tell(*what: object) -> None:
            self.happened.append((number, what))

        try:
            watch = self._router.watch(**options, tell=tell, handover=handover)
        except EngagedError:
            self.happened.append("engaged")
        else:
            self._watches.append(watch)

    def follow(self, number: int, partner: str, keep: bool) -> None:
        """Ring somebody."""
        if self._watches:
            watch = self._watches[number % len(self._watches)]
            self._router.follow(watch, partner, keep=keep)

    def forget(self, number: int) -> None:
        """End a handover."""
        if self._watches:
            self._router.forget(self._watches.pop(number % len(self._watches)))


@given(st.lists(STEPS, max_size=40))
def test_digests_tell_the_same_as_addresses(steps: list[tuple[Any, ...]]) -> None:
    """A spelling that the digest loses would leave an answered phone unnoticed."""
    plain = Course(EventRouter())
    shared = Course(EventRouter(coordinator=as_coordinator(SharedHere())))
    for step in steps:
        plain.take(*step)
        shared.take(*step)
    assert shared.happened == plain.happened


def as_coordinator(shared: SharedHere) -> Coordinator:
    """Return what routers need of a coordinator, as one."""
    coordinator: Any = shared
    return coordinator  # type: ignore[no-any-return]


def two_routers() -> tuple[SharedHere, EventRouter, EventRouter]:
    """Return two routers that share events, as in two processes."""
    shared = SharedHere()
    one, two = (EventRouter(coordinator=as_coordinator(shared)) for _ in range(2))
    return shared, one, two


def listen(router: EventRouter, **options: str) -> tuple[Watch, Told]:
    """Open a watch; give it with what it is told."""
    told: Told = []
    watch = router.watch(
        agent=AGENT, customer=CUSTOMER, tell=lambda *what: told.append(what), **options
    )
    return watch, told


def test_event_that_another_process_got_is_heard() -> None:
    """A proxy gives each webhook to whichever worker is free."""
    _, one, two = two_routers()
    assert two.feed(enter(CUSTOMER)) is None
    one.feed(enter(AGENT))
    watch, told = listen(one)
    one.follow(watch, PARTNER)
    assert two.feed(enter(PARTNER)) is None, "of no handover of its own"
    assert told[-1] == (Party.PARTNER, Presence.INSIDE)
    assert one.feed(leave(PARTNER)) == watch.id


def test_event_that_two_processes_got_changes_nothing() -> None:
    """Plivo repeats a post that wasn't answered in time, to whichever worker."""
    _, one, two = two_routers()
    for router in (one, two, two):
        router.feed(enter(CUSTOMER))
        router.feed(enter(AGENT))
    watch, told = listen(one)
    one.follow(watch, PARTNER)
    for router in (two, one, two):
        router.feed(enter(PARTNER))
    assert {*told} == {(party, Presence.INSIDE) for party in Party} - {
        (Party.FORMER, Presence.INSIDE)
    }
    for router in (one, two):
        router.feed(leave(PARTNER))
        router.feed(enter(PARTNER))  # again, and late
    assert told[-1] == (Party.PARTNER, Presence.LEFT)


@pytest.mark.parametrize("known", ["conference_uuid", "customer_call_uuid"])
def test_call_that_the_caller_named_is_known(known: str) -> None:
    """Its id goes under a digest as well."""
    _, one, two = two_routers()
    name = "conference-1" if known == "conference_uuid" else "leg"
    watch, told = listen(one, **{known: name})
    two.feed(enter(AGENT))
    two.feed(enter(CUSTOMER, leg="leg"))
    one.follow(watch, PARTNER)
    two.feed(enter(PARTNER))
    assert told[-1] == (Party.PARTNER, Presence.INSIDE)


@pytest.mark.parametrize("leg", ["", "leg"])
@pytest.mark.parametrize("make", [enter, leave])
@pytest.mark.parametrize("is_late", [True, False])
def test_what_was_before_the_ring_is_no_answer_though_it_is_told_late(
    leg: str,
    make: Callable[..., Event],
    is_late: bool,
) -> None:
    """A process that was cut off learns of the partner's last call in mid-ring."""
    shared, one, two = two_routers()
    for member in (AGENT, CUSTOMER):
        two.feed(enter(member))
    watch, told = listen(one)
    caught: list[Any] = []
    shared._hears[0] = caught.append  # noqa: SLF001 -- `one` is cut off
    if is_late:
        two.feed(without_id(make(PARTNER), leg))
    shared.time += 1.0
    one.follow(watch, PARTNER)
    shared.time += 1.0
    told.clear()
    if not is_late:
        two.feed(without_id(make(PARTNER), leg))
    one._hear(caught.pop())  # noqa: SLF001 -- it is told now
    presence = Presence.LEFT if make is leave else Presence.INSIDE
    assert told == ([] if is_late else [(Party.PARTNER, presence)])


def without_id(event: Event, leg: str) -> Event:
    """Return an event with this call's id, or without one."""
    return parse_event({**event.fields, "call_uuid": leg})


@pytest.mark.parametrize("coordinator", [object(), "postgresql://"])
def test_what_is_no_coordinator_is_refused(coordinator: Any) -> None:  # noqa: ANN401 -- anything
    """A URL in its place would share nothing, and say nothing."""
    with pytest.raises(InvalidInputError, match="coordinator"):
        EventRouter(coordinator=coordinator)


async def test_router_of_another_coordinator_is_refused() -> None:
    """Its events would be other pools'."""
    _, router, _ = two_routers()
    async with SessionPool(Account("MA" + "A" * 18, "t" * 40)) as pool:
        node = pool.phlo("phlo").multi_party_call("node")
        with pytest.raises(InvalidInputError, match="router"):
            pool.consult(
                node, agent=AGENT, customer=CUSTOMER, to=PARTNER, router=router
            )
