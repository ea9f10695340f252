"""The simulator as its users handle it: accounts, quota, gates, shutdown, TLS."""

import asyncio
import ssl
import threading
from collections.abc import Iterator

import aiohttp
import pytest
import trustme

from aiophlo.simulator import Simulator

TO = "+14152225555"
BODY = {"action": "warm_transfer", "to": TO, "trigger_source": "+14152223333"}
SUB = "SA" + "X" * 18
OTHER = "MA" + "X" * 18


class Phone:
    """A minimal client of one account."""

    def __init__(
        self, simulator: Simulator, auth_id: str = "", auth_token: str = ""
    ) -> None:
        self.url = f"{simulator.base_url}/phlo/p/multi_party_call/n"
        self.auth = aiohttp.encode_basic_auth(
            auth_id or simulator.auth_id, auth_token or simulator.auth_token
        )

    async def transfer(
        self, *, trust: ssl.SSLContext | bool = True
    ) -> tuple[int, dict[str, str]]:
        """Transfer once, trusting whom `trust` says; give status and headers."""
        headers = {"Authorization": self.auth}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(self.url, json=BODY, ssl=trust) as answer,
        ):
            return answer.status, dict(answer.headers)


class Clock:
    """A clock that stands until moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


async def test_request_beyond_the_quota_is_429_until_the_window_moves() -> None:
    """A client that is too fast must learn it here."""
    clock = Clock()
    async with Simulator(quota=(2, 5.0), clock=clock) as simulator:
        phone = Phone(simulator)
        statuses = []
        for at in (0.0, 2.0, 3.0, 4.999, 5.0, 5.0):
            clock.now = 1000.0 + at
            status, headers = await phone.transfer()
            assert "Retry-After" not in headers
            statuses.append(status)
    assert statuses == [201, 201, 429, 429, 201, 429]
    ledger = simulator.ledger
    assert (ledger.refused_429, ledger.dials()) == (3, 3)
    assert ledger.rate_per_second() == pytest.approx(2 / 5)
    assert [record.at - 1000 for record in ledger.dialled] == [0.0, 2.0, 5.0]


async def test_refusal_says_when_to_come_again_if_asked_to() -> None:
    """Whether Plivo does is unknown, so both must be possible to try."""
    clock = Clock()
    async with Simulator(quota=(1, 5.0), retry_after=True, clock=clock) as simulator:
        phone = Phone(simulator)
        await phone.transfer()
        clock.now += 2.5
        _, headers = await phone.transfer()
    assert headers["Retry-After"] == "3"


async def test_script_waits_when_the_quota_refuses() -> None:
    """A scripted answer is for a request that gets through."""
    clock = Clock()
    async with Simulator(quota=(1, 5.0), clock=clock) as simulator:
        phone = Phone(simulator)
        await phone.transfer()
        simulator.answer_next(503)
        assert (await phone.transfer())[0] == 429
        clock.now += 5
        assert (await phone.transfer())[0] == 503


async def test_quota_is_shared_when_a_subaccount_asks() -> None:
    """The limit is the main account's, and no other's."""
    async with Simulator(quota=(2, 60.0)) as simulator:
        simulator.add_account(SUB, "sub-token", main=simulator.auth_id)
        simulator.add_account(OTHER, "other-token")
        sub = Phone(simulator, SUB, "sub-token")
        statuses = [(await sub.transfer())[0] for _ in range(2)]
        statuses.append((await Phone(simulator).transfer())[0])
        statuses.append((await Phone(simulator, OTHER, "other-token").transfer())[0])
    assert statuses == [201, 201, 429, 201]
    accounts = [record.account for record in simulator.ledger.requests]
    assert accounts == [SUB, SUB, simulator.auth_id, OTHER]


async def test_subaccount_is_an_error_when_its_main_account_is_unknown() -> None:
    """A misspelt main account would give the subaccount a quota of its own."""
    with pytest.raises(KeyError):
        Simulator().add_account(SUB, "sub-token", main=OTHER)


async def test_credentials_are_the_given_ones() -> None:
    """A service under test brings its own."""
    async with Simulator(auth_id=OTHER, auth_token="t") as simulator:  # noqa: S106 -- made up
        assert (await Phone(simulator).transfer())[0] == 201


async def test_answer_takes_its_latency() -> None:
    """A client's deadlines are tried against a slow API."""
    loop = asyncio.get_running_loop()
    async with Simulator(latency=0.05) as simulator:
        started = loop.time()
        await Phone(simulator).transfer()
    assert loop.time() - started >= 0.05


async def test_answers_wait_when_held(simulator: Simulator) -> None:
    """What a client does with requests in flight must not depend on luck."""
    phone = Phone(simulator)
    with simulator.hold_answers():
        simulator.hold_answers()
        calls = [asyncio.create_task(phone.transfer()) for _ in range(3)]
        await simulator.wait_for(requests=3, dials=3, held=3)
        await simulator.wait_for(lambda ledger: ledger.dials(to=TO) == 3)
        assert not any(call.done() for call in calls)
        assert [record.answered for record in simulator.ledger.requests] == [None] * 3
    assert [(await call)[0] for call in calls] == [201] * 3
    assert simulator.held == 0


async def test_wait_ends_when_it_is_in_vain(simulator: Simulator) -> None:
    """A test that waits for what never comes must fail, soon and for that reason."""
    with pytest.raises(TimeoutError):
        await simulator.wait_for(requests=1, within=0.01)
    await Phone(simulator).transfer()


async def test_wait_fails_when_its_condition_does(simulator: Simulator) -> None:
    """A mistake in a test's own condition must not look like silence."""
    with pytest.raises(ZeroDivisionError):
        await simulator.wait_for(lambda ledger: ledger.received / 0 > 1)


async def test_wait_is_an_error_when_it_would_block_the_simulator(
    simulator: Simulator,
) -> None:
    """A deadlock tells nobody what is wrong."""
    with pytest.raises(RuntimeError, match="wait_for"):
        simulator.wait(requests=1)


async def test_stop_is_prompt_when_answers_are_held_and_late() -> None:
    """A test that fails early must end early."""
    async with Simulator(latency=60.0) as simulator:
        late = asyncio.create_task(Phone(simulator).transfer())
        await simulator.wait_for(requests=1)
        simulator.hold_answers()
        held = asyncio.create_task(Phone(simulator).transfer())
        await simulator.wait_for(held=1)
    for call in (late, held):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await call
    simulator.release_answers()
    await simulator.stop()
    assert [record.answered for record in simulator.ledger.requests] == [None, None]


async def test_answer_is_not_given_when_the_client_has_left(
    simulator: Simulator,
) -> None:
    """The ledger must not claim that somebody was told."""
    simulator.hold_answers()
    call = asyncio.create_task(Phone(simulator).transfer())
    await simulator.wait_for(held=1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await simulator.wait_for(lambda _: not simulator.connections)
    simulator.release_answers()
    assert simulator.ledger.requests[0].answered is None


async def test_tls_is_served_when_a_context_is_given() -> None:
    """Production is TLS; a certificate error must be possible to try."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with Simulator(ssl=server) as simulator:
        assert simulator.base_url.startswith("https://127.0.0.1:")
        assert (await Phone(simulator).transfer(trust=client))[0] == 201
        simulator.fault_next("reset")
        with pytest.raises(aiohttp.ClientOSError):
            await Phone(simulator).transfer(trust=client)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await Phone(simulator).transfer()
    assert simulator.ledger.dials() == 2


async def test_address_is_bracketed_when_it_is_ipv6() -> None:
    """A URL with a bare IPv6 address is no URL."""
    async with Simulator(host="::1") as simulator:
        assert simulator.base_url.startswith("http://[::1]:")
        assert (await Phone(simulator).transfer())[0] == 201


def test_repr_shows_no_secret() -> None:
    """Test reports are public."""
    simulator = Simulator(auth_token="canary")  # noqa: S106 -- the point
    assert "canary" not in repr(simulator)
    assert "not listening" in repr(simulator)


@pytest.fixture
def loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """Give a loop that runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_methods_work_when_called_from_another_thread(
    loop_in_thread: asyncio.AbstractEventLoop,
) -> None:
    """Blocking code under test has the simulator in another thread."""
    simulator = Simulator(quota=None)
    start = asyncio.run_coroutine_threadsafe(simulator.start(), loop_in_thread)
    start.result()
    assert simulator.in_its_loop(threading.get_ident) != threading.get_ident()
    simulator.hold_answers()
    simulator.drop_next_answer(to="+14152220000")
    call = asyncio.run_coroutine_threadsafe(Phone(simulator).transfer(), loop_in_thread)
    simulator.wait(held=1)
    asyncio.run(simulator.wait_for(requests=1))
    simulator.release_answers()
    assert call.result()[0] == 201
    with pytest.raises(ValueError, match="no_such"):
        simulator.fault_next("no_such")
    with pytest.raises(TimeoutError):
        simulator.wait(dials=2, within=0.01)
    asyncio.run_coroutine_threadsafe(simulator.stop(), loop_in_thread).result()
