"""The list of calls tells of each leg as Plivo's does: in time, late, or never."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from aiophlo.simulator import CallList, Habit, Listing, Reaction, Simulator
from aiophlo.simulator.api import Asked, RefusedError

ACCOUNT = "MA" + "X" * 18
PARTNER = "+14152225555"
AGENT = "+14152223333"
CUSTOMER = "+14152224444"
START = 1_800_000_000.0


class Clock:
    """Unix time that passes only when told."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        """Return it."""
        return self.now


class Office:
    """A call list, its clock, and questions about it."""

    def __init__(self, listing: Listing | None = None, seed: int = 0) -> None:
        self.clock = Clock()
        self.calls = CallList(seed, self.clock)
        self.calls.listing = listing or Listing()

    def dial(self, habit: Habit | None = None, to: str = PARTNER, **how: Any) -> str:  # noqa: ANN401 -- dial's own
        """Dial somebody, and return the id of the leg."""
        return self.calls.dial(ACCOUNT, to, habit or Habit(), **how).call_uuid

    def list(self, **query: str) -> list[Any]:
        """Return the ids or the records that are listed."""
        found = self.answer(query=query)
        calls: list[Any] = found["calls"] if "calls" in found else found["objects"]
        return calls

    def get(self, call_uuid: str, **query: str) -> dict[str, Any]:
        """Return the description of one call."""
        return self.answer(call_uuid=call_uuid, query=query)

    def answer(self, **asked: Any) -> dict[str, Any]:  # noqa: ANN401 -- Asked's own
        """Return what is answered."""
        return self.calls.answer(Asked(owner=ACCOUNT, **asked), ACCOUNT)


def test_leg_is_live_while_it_lasts_and_finished_after() -> None:
    """Whoever looks must find a call in one of the lists at any time."""
    office = Office()
    leg = office.dial(Habit(after=5.0, stays=30.0))
    assert office.list(status="live", to_number="14152225555") == [leg]
    assert office.get(leg, status="live")["call_status"] == "ringing"
    assert office.get(leg, status="live")["session_start"] == "2027-01-15 08:00:00"
    office.clock.now += 5.0
    assert office.get(leg, status="live")["call_status"] == "in-progress"
    assert office.list() == []
    office.clock.now += 30.0
    assert office.list(status="live") == []
    [record] = office.list(to_number="14152225555", call_direction="outbound")
    assert record["call_uuid"] == leg
    assert record["initiation_time"] == "2027-01-15 08:00:00+00:00"
    assert record["answer_time"] == "2027-01-15 08:00:05+00:00"
    assert record["end_time"] == "2027-01-15 08:00:35+00:00"
    assert (record["hangup_cause_code"], record["call_duration"]) == (4000, 30)
    assert office.get(leg)["to_number"] == "14152225555"


@pytest.mark.parametrize(
    ("reaction", "name"),
    [
        (Reaction.BUSY, "Busy Line"),
        (Reaction.DECLINES, "Rejected"),
        (Reaction.IGNORES, "No Answer"),
    ],
)
def test_unanswered_leg_says_why(reaction: Reaction, name: str) -> None:
    """A busy line is what the agent is told."""
    office = Office()
    office.dial(Habit(reaction, after=2.0))
    office.clock.now += 2.0
    [record] = office.list()
    assert (record["hangup_cause_name"], record["answer_time"]) == (name, None)


def test_leg_is_listed_late_when_it_begins_and_when_it_ends() -> None:
    """A client that believes the first look must be found out."""
    office = Office(Listing(lag=4.0))
    leg = office.dial(Habit(stays=10.0))
    assert office.list(status="live") == []
    office.clock.now += 4.0
    assert office.list(status="live") == [leg]
    office.clock.now += 6.0
    assert (office.list(status="live"), office.list()) == ([], [])
    office.clock.now += 4.0
    assert [record["call_uuid"] for record in office.list()] == [leg]


def test_as_many_are_unlisted_as_was_said() -> None:
    """Unseen must prove nothing."""
    office = Office(Listing(unlisted=0.1))
    legs = [office.dial(to=f"+1415{number:07}") for number in range(1_000)]
    never = sum(not office.calls.is_listed(leg) for leg in legs)
    assert 60 < never < 140


def test_dial_waits_in_the_queue() -> None:
    """Plivo queues what exceeds two calls a second."""
    office = Office(Listing(queued=60.0), seed=3)
    leg = office.dial(Habit(after=5.0))
    assert office.list(status="queued") == [leg]
    queued = office.get(leg, status="queued")
    assert queued["call_status"] == "queued"
    assert "session_start" not in queued
    office.clock.now += 60.0
    assert (office.list(status="queued"), office.list(status="live")) == ([], [leg])


def test_number_filter_takes_prefixes_as_documented() -> None:
    """Who takes what is returned for a match would see another number's call."""
    office = Office()
    office.dial(to="+4930123456")
    office.dial(to="+49301234567")
    assert len(office.list(status="live", to_number="4930123456")) == 2


def test_calls_of_others_are_not_told() -> None:
    """Accounts must not see each other's calls."""
    office = Office()
    office.calls.dial("MA" + "Y" * 18, PARTNER, Habit())
    assert office.list(status="live") == []


def test_calls_in_and_from_other_numbers_are_told_apart() -> None:
    """A look that takes any call with the number is found out."""
    office = Office()
    inbound = office.dial(dialled=False)
    other = office.dial(ours="+14155550199")
    ours = office.dial()
    assert office.get(inbound, status="live")["direction"] == "inbound"
    assert office.list(status="live", call_direction="outbound") == [ours, other]
    assert office.list(status="live", from_number="14155550199") == [other]


def test_pages_lead_from_one_to_the_next() -> None:
    """A busy number has more calls than fit on a page."""
    office = Office()
    for _ in range(25):
        office.dial(Habit(Reaction.BUSY))
    office.clock.now += 1.0
    first = office.answer(query={"to_number": "14152225555"})
    assert (len(first["objects"]), first["meta"]["total_count"]) == (20, 25)
    assert "offset=20" in first["meta"]["next"]
    rest = office.answer(query={"to_number": "14152225555", "offset": "20"})
    assert (len(rest["objects"]), rest["meta"]["next"]) == (5, None)


def test_finished_calls_are_filtered_by_their_end() -> None:
    """A look goes back no further than its request."""
    office = Office(Listing(ahead=3600.0))
    office.dial(Habit(Reaction.BUSY, after=10.0))
    office.clock.now += 10.0
    assert len(office.list(end_time__gte="2027-01-15 09:00:10")) == 1
    assert len(office.list(end_time__gt="2027-01-15 09:00:10")) == 0
    assert len(office.list(end_time__lt="2027-01-15 09:01")) == 1


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"status": "over"}, 400),
        ({"limit": "21"}, 400),
        ({"limit": "many"}, 400),
        ({"call_direction": "up"}, 400),
        ({"end_time__gt": "yesterday"}, 400),
        ({"bill_duration": "3"}, 400),
        ({"status": "queued", "to_number": "14152225555"}, 400),
    ],
)
def test_wrong_parameter_is_refused(query: dict[str, str], status: int) -> None:
    """What is passed over in silence would be taken for a filter."""
    with pytest.raises(RefusedError) as caught:
        Office().answer(query=query)
    assert caught.value.status == status


def test_unknown_call_is_not_found() -> None:
    """A call that has just ended is in no list for a moment."""
    office = Office()
    leg = office.dial()
    for call_uuid, query in (("no-such", {}), (leg, {}), (leg, {"status": "queued"})):
        with pytest.raises(RefusedError, match="not found"):
            office.get(call_uuid, **query)


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client with the simulator's credentials."""
    auth = aiohttp.encode_basic_auth(simulator.auth_id, simulator.auth_token)
    async with aiohttp.ClientSession(headers={"Authorization": auth}) as session:
        yield session


async def test_members_of_a_placed_call_are_legs(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    """A handover looks for the one it rings."""
    simulator.set_habit(Habit(Reaction.BUSY, after=0.05), address=PARTNER)
    call = simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    transfer = {"action": "warm_transfer", "to": PARTNER, "trigger_source": AGENT}
    url = f"{simulator.base_url}/phlo/p/multi_party_call/n"
    async with client.post(url, json=transfer) as answer:
        assert answer.status == 201
        assert answer.headers["X-Request-ID"]
    calls = f"{simulator.base_url}/Account/{simulator.auth_id}/Call/"
    await simulator.wait_for(lambda _: call[PARTNER].state == "left")
    async with client.get(calls, params={"to_number": "14152225555"}) as answer:
        [record] = (await answer.json())["objects"]
        assert "Date" in answer.headers
    assert record["call_uuid"] == call[PARTNER].call_uuid
    assert record["hangup_cause_name"] == "Busy Line"
    assert record["from_number"] == "14155550100"
    async with client.get(calls, params={"status": "live"}) as answer:
        assert len((await answer.json())["calls"]) == 2
    live = f"{calls}{call[CUSTOMER].call_uuid}/"
    async with client.get(live, params={"status": "live"}) as answer:
        document = await answer.json()
    assert (document["direction"], document["from"]) == ("inbound", "14152224444")
    assert document["call_status"] == "in-progress"


async def test_calls_are_listed_where_only_what_was_placed_exists() -> None:
    """A strict simulator has a list, too."""
    async with Simulator(quota=None, strict=True) as simulator:
        auth = aiohttp.encode_basic_auth(simulator.auth_id, simulator.auth_token)
        url = f"{simulator.base_url}/Account/{simulator.auth_id}/Call/"
        async with (
            aiohttp.ClientSession(headers={"Authorization": auth}) as session,
            session.get(url) as answer,
        ):
            assert answer.status == 200


async def test_list_counts_against_the_quota_and_needs_credentials() -> None:
    """Looking isn't free, and nobody may look at another's calls."""
    async with Simulator(quota=(2, 60.0)) as simulator:
        auth = aiohttp.encode_basic_auth(simulator.auth_id, simulator.auth_token)
        calls = f"{simulator.base_url}/Account/{{}}/Call/"
        async with aiohttp.ClientSession(headers={"Authorization": auth}) as session:
            statuses = []
            for auth_id in (simulator.auth_id, ACCOUNT, simulator.auth_id):
                async with session.get(calls.format(auth_id)) as answer:
                    statuses.append(answer.status)
        assert statuses == [200, 401, 429]
        async with (
            aiohttp.ClientSession() as session,
            session.post(calls.format(simulator.auth_id)) as answer,
        ):
            assert answer.status == 401


async def test_listing_and_other_calls_can_be_set_over_http(
    simulator: Simulator,
) -> None:
    """Whatever a test in Python can do, any language can."""
    control = f"{simulator.url}/_simulator"
    async with aiohttp.ClientSession() as session:
        listing = json.dumps({"lag": 4, "unlisted": 0.5, "queued": 1, "ahead": 2})
        async with session.post(f"{control}/listing", data=listing) as answer:
            assert answer.status == 200
        assert simulator.call_list.listing == Listing(
            lag=4, unlisted=0.5, queued=1, ahead=2
        )
        other = json.dumps({"address": PARTNER, "dialled": False, "reaction": "busy"})
        async with session.post(f"{control}/other_calls", data=other) as answer:
            call_uuid = (await answer.json())["call_uuid"]
    assert [leg.call_uuid for leg in simulator.call_list.legs(PARTNER)] == [call_uuid]


async def test_scoped_token_is_taken_as_bearer(simulator: Simulator) -> None:
    """Whoever has such a token must be able to test with it."""
    simulator.add_account(ACCOUNT, "stk_abc")
    headers = {"Authorization": "Bearer stk_abc"}
    url = f"{simulator.base_url}/phlo/p"
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(url) as answer:
            assert answer.status == 200
        simulator.reset()
        async with session.get(url) as answer:
            assert answer.status == 401
