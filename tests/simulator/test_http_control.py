"""The simulator over HTTP: whatever a test in Python can do, any language can."""

import asyncio
import ipaddress
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from aiophlo.simulator import Callback, Habit, Ledger, Simulator
from aiophlo.simulator.http11 import Request
from aiophlo.simulator.http_control import COMMANDS, HttpControl, describe_routes

AGENT = "+14152223333"
CUSTOMER = "+14152224444"
PARTNER = "+14152225555"
CALL = {"phlo_id": "p", "node_id": "n", "agent": AGENT, "customer": CUSTOMER}
SUB = "SA" + "X" * 18
JSON = Any


class Hand:
    """What curl is to a person: a client that knows only HTTP."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self._simulator = simulator
        self._session = session

    async def ask(
        self, method: str, path: str = "", body: JSON = None
    ) -> tuple[int, JSON]:
        """Control the simulator; give status and document."""
        data = body if isinstance(body, str) else json.dumps(body)
        async with self._session.request(
            method,
            f"{self._simulator.url}/_simulator{path}",
            data=None if body is None else data,
        ) as answer:
            text = await answer.text()
            assert text.endswith(("}\n", "]\n")), "or a prompt follows"
            return answer.status, json.loads(text)

    async def transfer(
        self, *, auth_id: str = "", auth_token: str = ""
    ) -> tuple[int, JSON]:
        """Ask the API itself for a warm transfer."""
        simulator = self._simulator
        credentials = aiohttp.encode_basic_auth(
            auth_id or simulator.auth_id, auth_token or simulator.auth_token
        )
        async with self._session.post(
            f"{simulator.base_url}/phlo/p/multi_party_call/n",
            json={"action": "warm_transfer", "to": PARTNER, "trigger_source": AGENT},
            headers={"Authorization": credentials},
        ) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def hand(simulator: Simulator) -> AsyncIterator[Hand]:
    """Give a client."""
    async with aiohttp.ClientSession() as session:
        yield Hand(simulator, session)


async def test_routes_describe_themselves(hand: Hand) -> None:
    """Whoever has only the base URL must find the rest."""
    status, routes = await hand.ask("GET")
    assert status == 200
    assert len(routes) == len(COMMANDS)
    assert routes["POST /_simulator/calls"] == {
        "does": "Start a call in which a customer talks to an agent.",
        "fields": ["phlo_id", "node_id", "agent", "customer", "account"],
    }
    assert (await hand.ask("GET", "/"))[1] == describe_routes()


async def test_call_is_placed_played_and_told(hand: Hand) -> None:
    """A service in Go or Node must be testable as far as one in Python."""
    events: list[str] = []

    async def take(request: web.Request) -> web.Response:
        events.append(str((await request.post())["event"]))
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/events", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    callback = {"url": f"http://127.0.0.1:{port}/events", "signed": False}
    assert (await hand.ask("POST", "/callback", callback))[0] == 200
    status, call = await hand.ask("POST", "/calls", CALL)
    assert status == 200
    assert [(m["address"], m["state"]) for m in call["members"]] == [
        (CUSTOMER, "talking"),
        (AGENT, "talking"),
    ]
    assert (await hand.transfer())[0] == 201
    assert (await hand.ask("POST", "/wait", {"posts": 3, "dials": 1}))[0] == 200
    (live,) = (await hand.ask("GET", "/calls"))[1]
    assert live["transfer"] == {"starter": AGENT, "target": PARTNER}
    assert live["members"][2]["state"] == "consulting"
    where = f"/calls/{call['conference_uuid']}/members"
    # written as any client may: the plus encoded or not
    assert (await hand.ask("DELETE", f"{where}/%2B14152224444"))[0] == 200
    assert (await hand.ask("DELETE", f"{where}/{AGENT}"))[0] == 200
    status, left = await hand.ask("DELETE", f"{where}/{PARTNER}")
    assert {member["state"] for member in left["members"]} == {"left"}
    assert (await hand.ask("GET", "/calls"))[1] == []
    assert (await hand.ask("DELETE", f"{where}/{PARTNER}"))[0] == 404
    await hand.ask("POST", "/wait", {"posts": 6})
    assert events == ["ConferenceEnter"] * 3 + ["ConferenceExit"] * 3
    posts = (await hand.ask("GET", "/posts"))[1]
    assert [(post["status"], post["error"]) for post in posts] == [(204, None)] * 6
    assert [post["fields"]["event"] for post in posts] == events
    assert (await hand.ask("DELETE", "/callback"))[0] == 200
    await hand.ask("POST", "/calls", CALL)
    await runner.cleanup()
    assert len(events) == 6


async def test_habits_are_set_for_one_and_for_all(
    hand: Hand, simulator: Simulator
) -> None:
    """A partner who declines is what a transfer is tried with first."""
    assert (await hand.ask("POST", "/habits", {"reaction": "ignores"}))[0] == 200
    busy = {"address": PARTNER, "reaction": "busy", "after": 0, "stays": None}
    assert (await hand.ask("POST", "/habits", busy))[0] == 200
    call = simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    await hand.transfer()
    await simulator.wait_for(lambda _: call[PARTNER].state == "left")
    assert not call[PARTNER].entered


async def test_faults_and_answers_are_scripted(hand: Hand) -> None:
    """A client's trouble can be tried out from any language."""
    fault = {"fault": "status_503", "to": PARTNER, "times": 2}
    assert (await hand.ask("POST", "/faults", fault))[0] == 200
    answer = {
        "status": 429,
        "headers": {"Retry-After": "7"},
        "body": {"error": "slow down"},
        "delay": 0.001,
        "action": "warm_transfer",
        "dialled": False,
        "times": None,
    }
    assert (await hand.ask("POST", "/answers", answer))[0] == 200
    with pytest.raises(aiohttp.ContentTypeError):
        await hand.transfer()  # its 503 is a page
    with pytest.raises(aiohttp.ContentTypeError):
        await hand.transfer()
    for _ in range(3):
        assert await hand.transfer() == (429, {"error": "slow down"})
    assert (await hand.ask("DELETE", "/script"))[0] == 200
    assert (await hand.transfer())[0] == 201
    summary = (await hand.ask("GET", "/summary"))[1]
    assert summary.pop("rate_per_second") > 0
    assert summary == {
        "received": 6,
        "dialled": 3,
        "refused_429": 3,
        "rung_twice": {PARTNER: 3},
        "connections": 1,
        "held": 0,
    }


async def test_answers_are_held_and_released(hand: Hand) -> None:
    """What a client does while it waits must not depend on luck."""
    assert (await hand.ask("POST", "/held"))[0] == 200
    transfer = asyncio.create_task(hand.transfer())
    assert (await hand.ask("POST", "/wait", {"held": 1}))[1]["held"] == 1
    assert not transfer.done()
    assert (await hand.ask("DELETE", "/held"))[0] == 200
    assert (await transfer)[0] == 201


async def test_accounts_and_nodes_are_added(hand: Hand, simulator: Simulator) -> None:
    """A service with a subaccount per customer needs all of them."""
    account = {"auth_id": SUB, "auth_token": "t", "main": simulator.auth_id}
    assert (await hand.transfer(auth_id=SUB, auth_token="t"))[0] == 401  # noqa: S106 -- made up
    assert (await hand.ask("POST", "/accounts", account))[0] == 200
    assert (await hand.transfer(auth_id=SUB, auth_token="t"))[0] == 201  # noqa: S106 -- made up
    unknown = account | {"main": "MA" + "Y" * 18}
    status, document = await hand.ask("POST", "/accounts", unknown)
    assert (status, document["error"]) == (
        400,
        "main: expected an account that is known",
    )
    assert (await hand.ask("POST", "/calls", CALL | {"account": SUB}))[0] == 200
    assert (await hand.ask("POST", "/calls", CALL | {"account": "?"}))[0] == 400
    node = {"phlo_id": "p2", "node_id": "n2"}
    assert (await hand.ask("POST", "/nodes", node))[0] == 200


async def test_ledger_lists_requests_and_dials(hand: Hand) -> None:
    """Another language holds its verdicts against it."""
    await hand.transfer()
    ledger = (await hand.ask("GET", "/ledger"))[1]
    assert set(ledger) == {"requests", "dials"}
    (dial,) = ledger["dials"]
    assert set(dial) == {"to", "action", "account", "at", "answered"}
    assert (dial["to"], dial["answered"]) == (PARTNER, 201)


async def test_reset_leaves_nothing_of_before() -> None:
    """A suite runs its tests against one process; none may see another's."""
    async with (
        Simulator(quota=(2, 3600.0), strict=True) as simulator,
        aiohttp.ClientSession() as session,
    ):
        hand = Hand(simulator, session)
        await hand.ask("POST", "/calls", CALL)
        await hand.ask("POST", "/accounts", {"auth_id": SUB, "auth_token": "t"})
        await hand.ask("POST", "/habits", {"reaction": "ignores"})
        await hand.ask("POST", "/callback", {"url": "http://127.0.0.1:9/"})
        await hand.transfer()
        await hand.transfer()
        assert (await hand.transfer())[0] == 429
        await hand.ask("POST", "/faults", {"fault": "reset", "times": None})
        simulator.place_call("p", "m", agent=AGENT, customer=CUSTOMER)
        await hand.ask("POST", "/wait", {"posts": 2})
        assert (await hand.ask("POST", "/reset"))[0] == 200
        assert (await hand.ask("GET", "/ledger"))[1] == {
            "requests": [],
            "dials": [],
        }
        assert (await hand.ask("GET", "/calls"))[1] == []
        assert (await hand.ask("GET", "/posts"))[1] == []
        summary = (await hand.ask("GET", "/summary"))[1]
        assert (summary["received"], summary["rung_twice"]) == (0, {})
        assert (await hand.transfer(auth_id=SUB, auth_token="t"))[0] == 401  # noqa: S106 -- made up
        assert (await hand.transfer())[0] == 404, "no call, node, quota or fault"
        call = simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
        assert (await hand.transfer())[0] == 201
        await simulator.wait_for(lambda _: call[PARTNER].state == "consulting")
        assert simulator.posts == []


async def test_ledger_is_as_new_after_a_reset(hand: Hand, simulator: Simulator) -> None:
    """Judging a suite's second test must not hear of its first."""
    simulator.fault_next("status_409")
    await hand.transfer()
    await hand.transfer()
    simulator.reset()
    assert vars(simulator.ledger) == vars(Ledger())


async def test_held_answers_are_given_on_reset(hand: Hand) -> None:
    """A client of the last test must not hang in this one."""
    await hand.ask("POST", "/held")
    transfer = asyncio.create_task(hand.transfer())
    await hand.ask("POST", "/wait", {"held": 1})
    await hand.ask("POST", "/reset")
    assert (await transfer)[0] == 201
    assert (await hand.transfer())[0] == 201, "and none is held any more"


async def test_chance_begins_anew_on_reset() -> None:
    """A test must meet the same faults whichever came before it."""
    async with (
        Simulator(faults="status_409=0.5", seed=5) as simulator,
        aiohttp.ClientSession() as session,
    ):
        hand = Hand(simulator, session)
        runs = []
        for _ in range(2):
            runs.append([(await hand.transfer())[0] for _ in range(12)])
            simulator.reset()
    assert runs[0] == runs[1]
    assert set(runs[0]) == {201, 409}


async def test_events_come_twice_as_before_after_a_reset() -> None:
    """A test must meet the same events whichever came before it."""
    async with Simulator(seed=5) as simulator:
        runs = []
        for _ in range(2):
            simulator.post_events(Callback(url="http://127.0.0.1:9/", twice=0.5))
            nodes = [f"n{number}" for number in range(12)]
            before = asyncio.all_tasks()
            for node in nodes:
                simulator.place_call("p", node, agent=AGENT, customer=CUSTOMER)
            await asyncio.wait(asyncio.all_tasks() - before)  # all is posted
            posts = Counter(post.fields["conference_name"] for post in simulator.posts)
            runs.append([posts[node] for node in nodes])
            simulator.reset()
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 1


@pytest.mark.parametrize("path", ["p", "p/multi_party_call/n"])
async def test_phlos_and_nodes_are_unknown_after_a_reset(path: str) -> None:
    """A test that forgot to make its node would pass, if it came second."""
    async with Simulator(strict=True) as simulator, aiohttp.ClientSession() as session:
        simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
        user = simulator.auth_id, simulator.auth_token
        credentials = {"Authorization": aiohttp.encode_basic_auth(*user)}
        statuses = []
        for _ in range(2):
            url = f"{simulator.base_url}/phlo/{path}"
            async with session.get(url, headers=credentials) as answer:
                statuses.append(answer.status)
            simulator.reset()
    assert statuses == [200, 404]


async def test_ringing_phone_of_before_a_reset_does_nothing(
    simulator: Simulator,
) -> None:
    """A timer of the last test must not post an event into this one."""
    simulator.set_habit(Habit(after=0.01))
    call = simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
    target = call.ring(PARTNER, "agent")
    simulator.reset()
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, rung.set)
    await rung.wait()
    assert target.state == "left"
    assert not target.entered


async def test_wait_in_vain_says_so(hand: Hand) -> None:
    """A test that waits for what never comes must fail, and for that reason."""
    status, document = await hand.ask("POST", "/wait", {"dials": 1, "within": 0.01})
    assert (status, document["error"]) == (504, "it did not happen within 0.01 s")


async def test_stop_is_prompt_while_somebody_waits() -> None:
    """A suite that fails early must end early."""
    async with Simulator() as simulator, aiohttp.ClientSession() as session:
        hand = Hand(simulator, session)
        waiting = asyncio.create_task(
            hand.ask("POST", "/wait", {"dials": 1, "within": 1000})
        )
        await simulator.wait_for(lambda _: simulator.connections == 1)
        await hand.ask("GET", "/summary")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await waiting
    assert asyncio.all_tasks() == {asyncio.current_task()}, "it waits no more"


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/calls", None, "phlo_id: is missing"),
        ("/calls", [1], "expected a JSON object"),
        ("/calls", "{", "expected a JSON object"),
        ("/calls", "[" * 100_000, "expected a JSON object"),
        ("/calls", CALL | {"agent": 1}, "agent: expected text"),
        ("/calls", CALL | {"x": 1}, "x: unknown; known are phlo_id, node_id,"),
        ("/reset", {"x": 1}, "x: unknown; no field is known"),
        ("/habits", {"reaction": "sings"}, "reaction: expected one of answers, mach"),
        ("/habits", {"reaction": {}}, "reaction: expected one of answers, mach"),
        ("/habits", {"after": -1}, "after: expected seconds"),
        ("/habits", '{"after": NaN}', "after: expected seconds"),
        ("/habits", '{"stays": Infinity}', "stays: expected seconds"),
        ("/habits", {"after": None}, "after: expected seconds"),
        ("/habits", {"after": True}, "after: expected seconds"),
        ("/faults", {"fault": "sneeze"}, "fault: expected one of drop_before_read,"),
        ("/faults", {"fault": "reset", "times": 0}, "times: expected a number from 1"),
        ("/faults", {"fault": "reset", "dialled": 1}, "dialled: expected true or f"),
        ("/answers", {"status": 101}, "status: expected a status from 200 to 599"),
        ("/answers", {"status": "201"}, "status: expected a status from 200 to 599"),
        ("/answers", {"headers": {"a": 1}}, "headers: expected an object of texts"),
        ("/answers", {"headers": {"a": "\r\n"}}, "headers: expected an object of te"),
        ("/answers", {"headers": {"a": "\u2028"}}, "headers: expected an object of te"),
        ("/answers", {"headers": {"a": "é"}}, "headers: expected an object of text"),
        ("/answers", {"body": 1}, "body: expected text or an object"),
        ("/callback", {"url": "http://a", "body": "xml"}, "body: expected form or js"),
        ("/callback", {"url": "http://a", "late": 2}, "late: expected a chance from"),
        ("/wait", {"dials": -1}, "dials: expected a number"),
    ],
)
async def test_mistake_is_named(hand: Hand, path: str, body: JSON, error: str) -> None:
    """A misspelt field that is ignored makes a test that tests nothing."""
    status, document = await hand.ask("POST", path, body)
    assert status == 400
    assert document["error"].startswith(error)


async def test_wrong_path_or_method_is_named(hand: Hand) -> None:
    """Whoever guesses must be told where to look."""
    status, document = await hand.ask("GET", "/nothing")
    assert (status, document["error"]) == (
        404,
        "no such resource: GET /_simulator says what there is",
    )
    status, document = await hand.ask("PUT", "/calls")
    assert (status, document["error"]) == (405, "expected GET or POST, not PUT")


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize("path", ["/_simulator", "/_simulator/reset"])
def test_others_than_this_machine_are_refused(
    peer: str, path: str, simulator: Simulator
) -> None:
    """On a shared network anybody could read whom a test dials, or spoil it."""
    assert not ipaddress.ip_address(peer).is_loopback
    written: list[bytes] = []

    class Elsewhere:
        """A connection from another machine, which no test can have."""

        def __init__(self) -> None:
            self.peer = peer

        def reply(self, data: bytes, _: object) -> None:
            written.append(data)

    request = Request("POST", path, {}, b"", keep_alive=True)
    HttpControl(simulator).serve(Elsewhere(), request)  # type: ignore[arg-type]  # see above
    assert written[0].startswith(b"HTTP/1.1 403 ")
