"""Events of live calls reach whoever asked for them."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from aiophlo.simulator import Callback, Habit, Simulator, State
from aiophlo.simulator.signing import sign_v3

AGENT = "+14152223333"
CUSTOMER = "+14152224444"
PARTNER = "+14152225555"
SUB = "SA" + "X" * 18


class Receiver:
    """Somebody's webhook."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[tuple[dict[str, str], dict[str, str]]] = []
        self.slow = 0.0
        self.busy = False
        self.superseded = False

    async def take(self, request: web.Request) -> web.Response:
        """Keep fields and headers, and notice who doesn't wait for the other."""
        self.superseded |= self.busy
        self.busy = True
        await asyncio.sleep(self.slow)
        self.busy = False
        if request.content_type == "application/json":
            fields = await request.json()
        else:
            fields = {key: str(text) for key, text in (await request.post()).items()}
        self.received.append((fields, dict(request.headers)))
        return web.Response(status=204)

    @property
    def told(self) -> list[tuple[str, str]]:
        """Who did what, in order of arrival."""
        return [
            (
                fields["event"],
                fields["to" if fields["direction"] == "outbound" else "from"],
            )
            for fields, _ in self.received
        ]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Give a webhook that listens."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/events", receiver.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"http://127.0.0.1:{port}/events?tenant=acme"
    yield receiver
    await runner.cleanup()


async def act(simulator: Simulator, action: str, to: str = "") -> int:
    """Let the agent do something over HTTP; give the status."""
    url = f"{simulator.base_url}/phlo/p/multi_party_call/n"
    body = {"action": action}
    if to:
        body |= {"to": to, "trigger_source": AGENT}
    else:
        url += f"/members/{AGENT}"
    auth = aiohttp.encode_basic_auth(simulator.auth_id, simulator.auth_token)
    async with (
        aiohttp.ClientSession(headers={"Authorization": auth}) as session,
        session.post(url, json=body) as answer,
    ):
        return answer.status


async def posted(simulator: Simulator, number: int) -> None:
    """Wait until so many events have been posted."""
    await simulator.wait_for(lambda _: len(simulator.posts) >= number)


async def test_whole_transfer_is_told_in_order(
    simulator: Simulator, receiver: Receiver
) -> None:
    """A handover sees the call only through these."""
    receiver.slow = 0.02
    simulator.post_events(Callback(url=receiver.url))
    call = simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    assert await act(simulator, "warm_transfer", to=PARTNER) == 201
    await simulator.wait_for(lambda _: call[PARTNER].state is State.CONSULTING)
    assert await act(simulator, "hangup") == 201
    await posted(simulator, 4)
    assert receiver.told == [
        ("ConferenceEnter", CUSTOMER),
        ("ConferenceEnter", AGENT),
        ("ConferenceEnter", PARTNER),
        ("ConferenceExit", AGENT),
    ]
    assert not receiver.superseded
    fields = [fields for fields, _ in receiver.received]
    assert {one["conference_uuid"] for one in fields} == {call.conference_uuid}
    assert [one["member_id"] for one in fields] == ["1", "2", "3", "2"]
    assert [post.status for post in simulator.posts] == [204] * 4
    assert simulator.calls == [call]


async def test_impossible_action_is_refused_over_http(simulator: Simulator) -> None:
    """A refusal must neither dial nor change the call."""
    simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    assert await act(simulator, "abort_transfer") == 409
    assert await act(simulator, "call", to=CUSTOMER) == 409
    assert simulator.ledger.dials() == 0
    assert simulator.ledger.applied("abort_transfer", AGENT) == 0


async def test_unknown_is_404_in_strict_mode() -> None:
    """Only what a test has set up exists there."""
    async with Simulator(strict=True) as simulator:
        assert await act(simulator, "hold") == 404
        simulator.add_node("p", "n")
        assert await act(simulator, "hold") == 404
        simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
        assert await act(simulator, "hold") == 201


@pytest.mark.parametrize("body", ["form", "json"])
async def test_events_are_signed_by_account_and_main_account(
    simulator: Simulator, receiver: Receiver, body: str
) -> None:
    """A receiver that checks signatures must accept ours."""
    simulator.add_account(SUB, "sub-token", main=simulator.auth_id)
    simulator.post_events(
        Callback(url=receiver.url, body="json" if body == "json" else "form")
    )
    simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER, account=SUB)
    await posted(simulator, 2)
    for fields, headers in receiver.received:
        nonce = headers["X-Plivo-Signature-V3-Nonce"]
        own = sign_v3("sub-token", receiver.url, nonce, fields)
        main = sign_v3(simulator.auth_token, receiver.url, nonce, fields)
        assert headers["X-Plivo-Signature-V3"] == own
        assert headers["X-Plivo-Signature-Ma-V3"] == main


async def test_events_are_unsigned_if_asked_for(
    simulator: Simulator, receiver: Receiver
) -> None:
    """Whether Plivo signs these is unknown, so both must be possible to try."""
    simulator.post_events(Callback(url=receiver.url, signed=False))
    simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    await posted(simulator, 2)
    _, headers = receiver.received[0]
    assert not [name for name in headers if "Signature" in name]


async def test_events_come_twice_if_asked_for(
    simulator: Simulator, receiver: Receiver
) -> None:
    """Webhooks are delivered at least once, and receivers must bear it."""
    simulator.post_events(Callback(url=receiver.url, twice=1.0))
    simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    await posted(simulator, 4)
    assert sorted(receiver.told) == [
        *[("ConferenceEnter", AGENT)] * 2,
        *[("ConferenceEnter", CUSTOMER)] * 2,
    ]


async def test_events_overtake_each_other_if_asked_for(receiver: Receiver) -> None:
    """A leave that is told before its join must confuse nobody."""
    async with Simulator(quota=None, seed=3) as simulator:
        simulator.post_events(Callback(url=receiver.url, late=0.5, late_by=0.02))
        for number in range(20):
            simulator.place_call(
                "p", "n", agent=f"+1415222{number:04}", customer=CUSTOMER
            )
        await posted(simulator, 40)
    customers = [
        index for index, (_, who) in enumerate(receiver.told) if who == CUSTOMER
    ]
    assert len(customers) == 20
    assert customers != list(range(0, 40, 2))


async def test_event_is_missed_when_nobody_receives_it(simulator: Simulator) -> None:
    """A webhook that is down must not stop the call."""
    simulator.post_events(Callback(url="http://127.0.0.1:9/events"))
    call = simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    await posted(simulator, 2)
    assert [post.status for post in simulator.posts] == [None, None]
    assert call[AGENT].state is State.TALKING


async def test_nothing_is_posted_unless_asked_for(
    simulator: Simulator, receiver: Receiver
) -> None:
    """A test without a webhook needs none."""
    simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    simulator.post_events(Callback(url=receiver.url))
    simulator.post_events(None)
    simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    await asyncio.sleep(0)
    assert (simulator.posts, receiver.received) == ([], [])


async def test_stop_is_prompt_when_events_are_late(receiver: Receiver) -> None:
    """A test that fails early must end early."""
    async with Simulator(quota=None) as simulator:
        simulator.set_habit(Habit(after=60.0))
        simulator.post_events(Callback(url=receiver.url, delay=60.0))
        simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
        assert await act(simulator, "warm_transfer", to=PARTNER) == 201
    assert receiver.received == []


async def test_event_is_not_lost_when_the_receiver_closes_idle_connections(
    simulator: Simulator,
) -> None:
    """As uvicorn does after 5 s: a partner who joined just then was never heard."""
    posts: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one post, keep the connection, and close it on the next one."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        posts.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    simulator.post_events(Callback(url=f"http://127.0.0.1:{port}/events"))
    for number in range(3):
        simulator.place_call("p", "n", agent=f"+1415222333{number}", customer=CUSTOMER)
        await posted(simulator, 2 * number + 2)
    server.close()
    assert len(posts) == 6
    assert [post.status for post in simulator.ledger.posts] == [200] * 6


async def test_outcome_of_each_post_is_in_the_ledger(simulator: Simulator) -> None:
    """An event that was lost must be found there, and not by guessing."""
    with_nobody = "http://127.0.0.1:9/events"
    simulator.post_events(Callback(url=with_nobody))
    simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    await posted(simulator, 2)
    errors = [(post.status, post.error) for post in simulator.ledger.posts]
    assert errors == [(None, "ClientConnectorError")] * 2
    assert simulator.posts is simulator.ledger.posts
