"""SessionPool, end to end against the simulator."""

import asyncio
import copy
import functools
import logging
import pickle
import re
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp
import attrs
import pytest
import trustme
from aiohttp.connector import Connection

from aiophlo import (
    Accepted,
    Account,
    Action,
    ActionBegun,
    ActionEnded,
    AttemptBegun,
    AttemptEnded,
    CredentialsError,
    GetPhlo,
    Hold,
    InDoubt,
    InDoubtError,
    InvalidInputError,
    Lane,
    NotFoundError,
    NotSent,
    NotSentError,
    ObservedEvent,
    Outcome,
    PhloError,
    Quota,
    Reason,
    RejectedError,
    ResumeCall,
    RetryPolicy,
    SessionPool,
    Unhold,
    VerdictError,
    WarmTransfer,
)
from aiophlo.handles import Member
from aiophlo.protocol.codec import Answer, NoAnswer, Request
from aiophlo.simulator import Fault, Simulator
from tests.support.doubles import (
    ACCEPTED,
    AGENT,
    NODE_ID,
    PHLO_ID,
    ScriptedHttpClient,
    ScriptedPool,
    account_of,
    act,
    address,
    outcome_of,
    pool_of,
)
from tests.support.raw_server import Connection as RawConnection
from tests.support.raw_server import RawServer
from tests.support.virtual_time import run_virtually

TRANSFER: Final = act(WarmTransfer)
TOKEN: Final = "a-token-that-nobody-may-see"  # noqa: S105 -- made up
ACCOUNT: Final = Account("MAPOOL00000000000001", TOKEN, quota=None)
OTHER: Final = Account("MAPOOL00000000000002", TOKEN, quota=None)


class Told:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[ObservedEvent] = []

    def __call__(self, event: ObservedEvent) -> None:
        """Keep an event."""
        self.events.append(event)

    @property
    def outcomes(self) -> list[Outcome]:
        """Outcomes of actions."""
        return [it.outcome for it in self.events if isinstance(it, ActionEnded)]

    @property
    def attempts(self) -> list[Outcome]:
        """Outcomes of attempts."""
        return [it.outcome for it in self.events if isinstance(it, AttemptEnded)]


@pytest.fixture
def told() -> Told:
    """Give an observer."""
    return Told()


@pytest.fixture
async def pool(simulator: Simulator, told: Told) -> AsyncIterator[SessionPool]:
    """Give an open pool with an observer."""
    async with pool_of(simulator, observers=[told]) as pool:
        yield pool


# Opening and closing


async def test_transfer_is_accepted(pool: SessionPool, simulator: Simulator) -> None:
    """The customer would stay on hold with nobody rung."""
    accepted = await pool.send(TRANSFER)
    assert (accepted.status, accepted.attempts, accepted.joined) == (201, 1, False)
    assert accepted.api_id
    assert simulator.ledger.dials(address(0)) == 1
    assert simulator.ledger.disagreements([accepted]) == []


async def test_pool_sends_between_open_and_close(simulator: Simulator) -> None:
    """A service opens its pool at start-up, with no block to put it in."""
    pool = await pool_of(simulator).open()
    await pool.send(TRANSFER)
    await pool.close()
    assert simulator.ledger.dials() == 1
    assert "closed" in repr(pool)


async def test_second_close_does_nothing(simulator: Simulator) -> None:
    """A shutdown hook often runs after the block has ended."""
    async with pool_of(simulator) as pool:
        await pool.close()
    await pool.close()


async def test_closing_says_nothing_when_idle(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """An alarm at every clean shutdown is soon ignored."""
    caplog.set_level(logging.WARNING)
    async with pool_of(simulator) as pool:
        await pool.send(TRANSFER)
    assert caplog.records == []


async def test_closing_before_opening_is_allowed(simulator: Simulator) -> None:
    """A start-up that fails half-way closes what it has."""
    pool = pool_of(simulator)
    await pool.close()
    with pytest.raises(InvalidInputError, match="expected a new one"):
        await pool.open()


async def test_second_open_is_refused(pool: SessionPool) -> None:
    """Two openings would leave the first one's connections behind."""
    with pytest.raises(InvalidInputError, match="expected a new one"):
        await pool.open()


async def test_dropped_pool_warns(simulator: Simulator) -> None:
    """A forgotten pool leaks its connections for as long as the service runs."""
    session = aiohttp.ClientSession()  # its own would warn as well
    pools = [await pool_of(simulator, session=session).open()]
    with pytest.warns(ResourceWarning, match="unclosed <SessionPool of 1 accounts"):
        pools.clear()
    await session.close()


def test_pool_that_could_not_be_made_is_dropped_silently() -> None:
    """A misleading warning would hide the real error."""
    with pytest.raises(InvalidInputError):
        SessionPool()


@pytest.mark.parametrize("closed", [False, True])
async def test_nothing_leaves_while_not_open(
    simulator: Simulator, told: Told, *, closed: bool
) -> None:
    """A request handler that outlives the pool must learn that nothing rings."""
    pool = pool_of(simulator, observers=[told])
    if closed:
        await pool.close()
    with pytest.raises(NotSentError) as caught:
        await pool.send(TRANSFER)
    assert caught.value.outcome.reason is Reason.CLOSED
    assert caught.value.outcome.attempts == 0
    assert told.outcomes == [caught.value.outcome]
    assert simulator.ledger.received == 0


async def test_borrowed_session_stays_open(simulator: Simulator) -> None:
    """The rest of the service still uses it."""
    async with aiohttp.ClientSession() as session:
        async with pool_of(simulator, session=session) as pool:
            await pool.send(TRANSFER)
        assert not session.closed
    assert simulator.ledger.dials() == 1


async def test_borrowed_connector_stays_open(simulator: Simulator) -> None:
    """The rest of the service still uses it."""
    async with aiohttp.TCPConnector() as connector:
        async with pool_of(simulator, connector=connector) as pool:
            await pool.send(TRANSFER)
        assert not connector.closed
    assert simulator.ledger.dials() == 1


async def test_borrowed_session_that_is_closed_sends_nothing(
    simulator: Simulator,
) -> None:
    """Its owner closed it: the caller must learn that nothing rings."""
    session = aiohttp.ClientSession()
    await session.close()
    async with pool_of(simulator, session=session) as pool:
        with pytest.raises(NotSentError, match="closed"):
            await pool.send(TRANSFER)
    assert simulator.ledger.received == 0


# Closing while something is under way


async def send_all(pool: SessionPool, *actions: Action) -> list[asyncio.Task[Accepted]]:
    """Begin to send, and let each get as far as it can without an answer."""
    tasks = [asyncio.create_task(pool.send(action)) for action in actions]
    await asyncio.sleep(0)
    return tasks


async def reasons(tasks: list[asyncio.Task[Accepted]]) -> list[str]:
    """Return how each ended: `accepted`, or why not."""
    ends = []
    for end in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(end, Accepted):
            ends.append(end.verdict)
        else:
            assert isinstance(end, VerdictError)
            ends.append(str(getattr(end.outcome, "reason", "rejected")))
    return ends


async def test_closing_lets_those_in_flight_end(
    simulator: Simulator, told: Told
) -> None:
    """A deployment in the middle of a call must not leave it in doubt."""
    pool = await pool_of(simulator, observers=[told]).open()
    with simulator.hold_answers():
        tasks = await send_all(pool, TRANSFER)
        await simulator.wait_for(held=1)
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0)
        assert not closing.done()
    await closing
    assert await reasons(tasks) == ["accepted"]
    assert [outcome.verdict for outcome in told.outcomes] == ["accepted"]


async def test_closing_refuses_those_who_wait_for_a_slot(
    simulator: Simulator, told: Told
) -> None:
    """Whoever waits must learn at once that nothing will ring."""
    account = account_of(simulator, quota=Quota(1, per=60.0))
    async with pool_of(simulator, account, observers=[told]) as pool:
        await pool.send(act(WarmTransfer, 0))
        tasks = [
            asyncio.create_task(pool.send(act(WarmTransfer, n), send_within=None))
            for n in range(1, 4)
        ]
        await asyncio.sleep(0)
        assert pool.state().waiting[Lane.AWAITED] == 3
    assert await reasons(tasks) == ["closed"] * 3
    assert [outcome.verdict for outcome in told.outcomes] == [
        "accepted",
        *["not_sent"] * 3,
    ]
    assert simulator.ledger.received == 1


async def test_closing_refuses_those_who_wait_for_a_connection(
    simulator: Simulator,
) -> None:
    """Whoever waits behind a slow answer must not be sent after the end."""
    pool = await pool_of(simulator, connections_per_account=1).open()
    with simulator.hold_answers():
        tasks = await send_all(pool, act(WarmTransfer, 0), act(WarmTransfer, 1))
        await simulator.wait_for(held=1)
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0)
    await closing
    assert await reasons(tasks) == ["accepted", "closed"]
    assert simulator.ledger.received == 1


def test_closing_ends_those_who_wait_to_repeat() -> None:
    """A retry after the end would meet closed connections, or ring unheard."""

    async def refused(_: Request) -> NoAnswer:
        return NoAnswer(left=False, reason=Reason.UNREACHABLE)

    async def main() -> tuple[list[str], int, int]:
        told = Told()
        transport = ScriptedHttpClient(refused)
        pool = ScriptedPool(
            ACCOUNT,
            transports=[transport],
            observers=[told],
            random=lambda: 1.0,
            retry=RetryPolicy(first_wait=5.0),
        )
        await pool.open()
        tasks = await send_all(pool, TRANSFER, act(Hold))
        await asyncio.sleep(1.0)
        await pool.close()
        return await reasons(tasks), len(transport.requests), len(told.outcomes)

    assert run_virtually(main()) == (["unreachable"] * 2, 2, 2)


def test_closing_gives_up_on_those_that_never_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A shutdown that hangs is killed, and then nobody is told anything."""

    async def never(_: Request) -> Answer:
        await asyncio.get_running_loop().create_future()
        return ACCEPTED

    async def main() -> tuple[float, list[Outcome]]:
        told = Told()
        pool = ScriptedPool(
            ACCOUNT, transports=[ScriptedHttpClient(never)], observers=[told]
        )
        await pool.open()
        tasks = await send_all(pool, TRANSFER)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await pool.close()
        took = loop.time() - began
        tasks[0].cancel()
        await asyncio.wait(tasks)
        return took, told.outcomes

    took, outcomes = run_virtually(main())
    assert took == pytest.approx(23.0)  # connect, and twice answer_within
    assert "closed with actions under way: 1" in caplog.text
    assert [outcome.verdict for outcome in outcomes] == ["in_doubt"]


async def test_cancelled_close_still_closes(simulator: Simulator) -> None:
    """A supervisor's deadline on the shutdown must not leak the connections."""
    pool = await pool_of(simulator).open()
    simulator.fault_next(Fault.SILENCE)
    tasks = await send_all(pool, TRANSFER)
    await simulator.wait_for(requests=1)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert await reasons(tasks) == ["disconnected"]


# Accounts


async def test_each_account_sends_with_its_own_credentials(
    simulator: Simulator,
) -> None:
    """One customer's calls must not appear on another's bill."""
    for account in (ACCOUNT, OTHER):
        simulator.add_account(account.auth_id, TOKEN)
    async with pool_of(simulator, ACCOUNT, OTHER) as pool:
        await pool.send(act(WarmTransfer, 1), account=ACCOUNT)
        await pool.send(act(WarmTransfer, 2), account=OTHER.auth_id)
        await pool.phlo(PHLO_ID, account=OTHER).run({"to": address(3)})
    asked = [(record.account, record.to) for record in simulator.ledger.requests]
    assert asked == [
        (ACCOUNT.auth_id, address(1)),
        (OTHER.auth_id, address(2)),
        (OTHER.auth_id, address(3)),
    ]


@pytest.mark.parametrize(
    "account",
    [
        None,
        "MAPOOL00000000000009",
        attrs.evolve(ACCOUNT, auth_id="MA" + "9" * 18),
        3,
        [],
    ],
)
async def test_account_that_is_not_the_pools_is_refused(account: Any) -> None:  # noqa: ANN401 -- wrong on purpose
    """A guess would ring on somebody else's bill."""
    async with SessionPool(ACCOUNT, OTHER) as pool:
        for ask in (
            pool.state,
            lambda account: pool.phlo(PHLO_ID, account=account),
        ):
            with pytest.raises(InvalidInputError, match=r"^account: ") as caught:
                ask(account)
            assert caught.value.field == "account"
        with pytest.raises(InvalidInputError, match=r"^account: "):
            await pool.send(TRANSFER, account=account)


async def test_equal_dials_of_two_accounts_are_two() -> None:
    """Two tenants may well ring the same supervisor at once."""
    async with Simulator(quota=None) as simulator:
        for account in (ACCOUNT, OTHER):
            simulator.add_account(account.auth_id, TOKEN)
        async with pool_of(simulator, ACCOUNT, OTHER) as pool:
            both = await asyncio.gather(
                *(pool.send(TRANSFER, account=it) for it in (ACCOUNT, OTHER))
            )
        assert [accepted.joined for accepted in both] == [False, False]
        assert simulator.ledger.dials(address(0)) == 2


def test_subaccount_shares_the_pace_of_its_main_account() -> None:
    """Two paces on one quota would draw 429s."""
    main = Account("MAPOOL00000000000001", TOKEN, quota=Quota(2, per=10.0, jitter=0))
    sub = Account("SAPOOL00000000000001", TOKEN, main=main.auth_id, quota=main.quota)

    async def run() -> list[float]:
        left = []

        async def note(_: Request) -> Answer:
            left.append(asyncio.get_running_loop().time())
            return ACCEPTED

        transports = [ScriptedHttpClient(note)]
        async with ScriptedPool(main, sub, transports=transports) as pool:
            await asyncio.gather(
                *(
                    pool.send(act(Hold, n), account=whose, send_within=None)
                    for n, whose in enumerate([main, sub, main, sub])
                )
            )
            assert pool.state(sub).waiting == pool.state(main).waiting
        return [moment - left[0] for moment in left]

    assert run_virtually(run()) == pytest.approx([0.0, 10.0, 20.0, 30.0])


# Arguments


WRONG: Final[list[tuple[str, Any]]] = [
    *(("base_url", it) for it in (3, "", "phlorunner.plivo.com/v1", "ftp://x/v1")),
    *(("base_url", it) for it in ("https://", "https://x/v1?a=1", "https://x/v1#a")),
    *(("base_url", f"https://{it}/v1") for it in ("a..b", "x" * 64, "xn--a.example")),
    ("base_url", f"https://user:{TOKEN}@x/v1"),
    *(("connect", it) for it in (0, -1.0, float("nan"), float("inf"), "3", None, True)),
    *(
        ("answer_within", it)
        for it in (0, 0.5, 10**400, float("inf"), "10", None, True)
    ),
    *(("connections_per_account", it) for it in (0, -1, 1.5, "10", None, True)),
    *(("keepalive", it) for it in (0, -1.0, float("nan"), "4", None)),
    *(("retry", it) for it in (None, 4, RetryPolicy)),
    *(("trailing_slash", it) for it in (None, 1, "yes")),
    *(("user_agent", it) for it in (None, "", "a\r\nX-Evil: 1", "zoë", b"a")),
    *(("proxy", it) for it in (3, "", "proxy:3128", f"socks5://u:{TOKEN}@proxy")),
    *(("proxy", f"http://u:{TOKEN}@proxy{it}") for it in (":99999", ":0", ":x")),
    *((name, it) for name in ("trust_env", "allow_plaintext") for it in (None, 1)),
    *(("connection_lifetime", it) for it in (0, -1.0, float("nan"), "4", None)),
    *(("ssl_context", it) for it in (False, True, "system")),
    *(("connector", it) for it in (3, aiohttp.TCPConnector)),
    *(("session", it) for it in (3, aiohttp.ClientSession)),
    *(("observers", it) for it in (None, print, [None], [print, 3])),
    *(("random", it) for it in (None, 0.5)),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_wrong_argument_is_refused_by_name(field: str, value: Any) -> None:  # noqa: ANN401 -- wrong on purpose
    """Whoever configures the service must see what to correct, and no secret."""
    arguments = {field: value}
    with pytest.raises(InvalidInputError, match=f"^{field}: expected ") as caught:
        SessionPool(ACCOUNT, **arguments)
    assert caught.value.field == field
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("accounts", "right"),
    [
        ((), "one or more"),
        (("MAPOOL00000000000001",), "Account objects"),
        (([ACCOUNT],), "Account objects"),
        ((ACCOUNT, ACCOUNT), "each auth_id once"),
        (
            (
                ACCOUNT,
                Account("SAPOOL00000000000001", TOKEN, main=ACCOUNT.auth_id),
            ),
            "the same quota",
        ),
        (
            (
                Account("SAPOOL00000000000001", TOKEN, main="MA" + "1" * 18),
                Account(
                    "SAPOOL00000000000002",
                    TOKEN,
                    main="MA" + "1" * 18,
                    calls_per_second=2.0,
                ),
            ),
            "the same quota",
        ),
    ],
)
def test_accounts_that_cannot_be_right_are_refused(
    accounts: tuple[Any, ...], right: str
) -> None:
    """Two paces on one quota would draw 429s; a wrong object fails much later."""
    with pytest.raises(
        InvalidInputError, match=f"^accounts: expected {right}"
    ) as caught:
        SessionPool(*accounts)
    assert caught.value.field == "accounts"
    assert TOKEN not in str(caught.value)


async def test_session_and_connector_together_are_refused() -> None:
    """One of the two would be ignored."""
    async with aiohttp.ClientSession() as session, aiohttp.TCPConnector() as connector:
        with pytest.raises(InvalidInputError, match="got both"):
            SessionPool(ACCOUNT, session=session, connector=connector)


@pytest.mark.filterwarnings("ignore:.*(auth|BasicAuth).*:DeprecationWarning")
async def test_session_with_credentials_of_its_own_is_refused() -> None:
    """A session can't tell one account's requests from another's."""
    async with aiohttp.ClientSession(auth=aiohttp.BasicAuth("me", TOKEN)) as session:
        with pytest.raises(InvalidInputError, match="without auth") as caught:
            SessionPool(ACCOUNT, session=session)
    assert TOKEN not in str(caught.value)


async def test_session_whose_header_bars_netrc_is_refused() -> None:
    """Where a netrc file has the host, aiohttp lets nothing out: every call fails."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers, trust_env=True) as session:
        with pytest.raises(InvalidInputError, match="without trust_env") as caught:
            SessionPool(ACCOUNT, session=session)
    assert TOKEN not in str(caught.value)
    async with aiohttp.ClientSession(headers=headers) as session:
        SessionPool(ACCOUNT, session=session)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("action", {"action": None}),
        ("action", {"action": WarmTransfer}),
        ("action", {"action": "warm_transfer"}),
        ("action", {"action": Action(phlo_id=PHLO_ID)}),
        ("send_within", {"send_within": 0}),
        ("send_within", {"send_within": -1.0}),
        ("send_within", {"send_within": float("nan")}),
        ("send_within", {"send_within": float("inf")}),
        ("send_within", {"send_within": "10"}),
        ("send_within", {"send_within": True}),
        ("on_duplicate", {"on_duplicate": "ring"}),
        ("on_duplicate", {"on_duplicate": None}),
        ("on_duplicate", {"on_duplicate": ["join"]}),
    ],
)
async def test_wrong_argument_of_send_is_refused_by_name(
    pool: SessionPool,
    simulator: Simulator,
    told: Told,
    field: str,
    arguments: dict[str, Any],
) -> None:
    """A mistake must not ring a phone, and must say what it is."""
    with pytest.raises(InvalidInputError, match=f"^{field}: expected ") as caught:
        await pool.send(**({"action": TRANSFER} | arguments))
    assert caught.value.field == field
    assert simulator.ledger.received == 0
    assert told.events == []


# What goes over the wire


class Wiretap:
    """A server that remembers the bytes of requests and says 201 to all."""

    HEAD_END: Final = b"\r\n\r\n"

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Take one request; the answer wants a cookie kept."""
        head = (await reader.readuntil(self.HEAD_END)).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): text for name, _, text in (it.partition(": ") for it in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append((first, headers, body))
        writer.write(
            b"HTTP/1.1 201 Created\r\nSet-Cookie: sticky=1; Path=/\r\n"
            b"Connection: close\r\nContent-Length: 12\r\n\r\n"
            b'{"error":""}'
        )
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def wiretap() -> AsyncIterator[tuple[Wiretap, str]]:
    """Give a wiretap and its base URL."""
    wiretap = Wiretap()
    server = await asyncio.start_server(wiretap.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield wiretap, f"http://127.0.0.1:{port}/v1"


async def test_requests_carry_what_the_api_wants(
    wiretap: tuple[Wiretap, str],
) -> None:
    """A header too few is a 401 on every transfer; a cookie mixes up customers."""
    tap, base_url = wiretap
    base_url = base_url.replace("127.0.0.1", "localhost")  # no cookies for an IP
    async with SessionPool(
        ACCOUNT, base_url=f"{base_url}/", user_agent="desk/2.1"
    ) as pool:
        await pool.send(TRANSFER)
        await pool.send(GetPhlo(phlo_id=PHLO_ID))
    (post, posted, body), (get, got, nothing) = tap.requests
    assert post == f"POST /v1/phlo/{PHLO_ID}/multi_party_call/{NODE_ID} HTTP/1.1"
    assert get == f"GET /v1/phlo/{PHLO_ID} HTTP/1.1"
    assert b'"action":"warm_transfer"' in body
    assert nothing == b""
    assert posted["content-type"] == "application/json"
    for headers in (posted, got):
        assert headers["authorization"] == ACCOUNT.authorization
        assert headers["user-agent"] == "desk/2.1"
        assert headers["accept"] == "application/json"
        assert "cookie" not in headers


async def test_user_agent_names_the_library_by_default(
    wiretap: tuple[Wiretap, str],
) -> None:
    """Plivo's support must see who calls."""
    tap, base_url = wiretap
    async with SessionPool(ACCOUNT, base_url=base_url) as pool:
        await pool.send(TRANSFER)
    assert re.fullmatch(r"aiophlo/\d+\.\d+\S*", tap.requests[0][1]["user-agent"])


async def test_borrowed_session_sends_the_accounts_credentials(
    wiretap: tuple[Wiretap, str],
) -> None:
    """A session's own default headers belong to another service."""
    tap, base_url = wiretap
    theirs = {"Authorization": "Bearer theirs", "User-Agent": "theirs", "X-Trace": "1"}
    async with (
        aiohttp.ClientSession(headers=theirs) as session,
        SessionPool(ACCOUNT, base_url=base_url, session=session) as pool,
    ):
        await pool.send(TRANSFER)
    headers = tap.requests[0][1]
    assert headers["authorization"] == ACCOUNT.authorization
    assert headers["user-agent"].startswith("aiophlo/")
    assert headers["content-type"] == "application/json"
    assert headers["x-trace"] == "1"


@pytest.mark.parametrize(("slash", "end"), [(False, ""), (True, "/")])
async def test_posts_end_in_a_slash_only_when_asked_to(
    wiretap: tuple[Wiretap, str], *, slash: bool, end: str
) -> None:
    """A redirect to the other spelling would leave the transfer in doubt."""
    tap, base_url = wiretap
    async with SessionPool(ACCOUNT, base_url=base_url, trailing_slash=slash) as pool:
        await pool.send(act(Hold))
        await pool.send(GetPhlo(phlo_id=PHLO_ID))
    post, get = (first.split()[1] for first, _, _ in tap.requests)
    node = f"/v1/phlo/{PHLO_ID}/multi_party_call/{NODE_ID}"
    assert post == f"{node}/members/{address(0)}{end}"
    assert get == f"/v1/phlo/{PHLO_ID}"


async def test_proxy_gets_the_requests(wiretap: tuple[Wiretap, str]) -> None:
    """Many call centres let nothing out but through their proxy."""
    tap, base_url = wiretap
    proxy = base_url.removesuffix("/v1")
    async with SessionPool(
        ACCOUNT,
        base_url="http://api.invalid/v1",
        proxy=proxy,
        allow_plaintext=True,
    ) as pool:
        await pool.send(TRANSFER)
    assert tap.requests[0][0].startswith("POST http://api.invalid/v1/phlo/")


async def test_ssl_context_decides_whom_to_trust() -> None:
    """A transfer must not go to a server that can't prove who it is."""
    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with Simulator(quota=None, ssl=served) as simulator:
        async with pool_of(simulator, ssl_context=trusting) as pool:
            await pool.send(act(Hold, 1))
        async with pool_of(simulator) as pool:
            with pytest.raises(NotSentError, match="misconfigured"):
                await pool.send(TRANSFER)
        assert simulator.ledger.received == 1


# Handles


MEMBER_METHODS: Final = {
    "abort_transfer": "abort_transfer",
    "resume_call": "resume_call",
    "voicemail_drop": "voicemail_drop",
    "hangup": "hangup",
    "hold": "hold",
    "unhold": "unhold",
    "mute": "mute",
    "unmute": "unmute",
}


async def test_handles_reach_every_request_of_the_api(
    pool: SessionPool, simulator: Simulator
) -> None:
    """A handle that asks for the wrong thing hangs up on a customer."""
    phlo = pool.phlo(PHLO_ID)
    node, bridge = phlo.multi_party_call(NODE_ID), phlo.conference_bridge(NODE_ID)
    member, talker = node.member(AGENT), bridge.member(AGENT)
    to, agent = address(7), AGENT
    sent = [
        await phlo.run({"to": to}),
        await phlo.describe(),
        await node.describe(),
        await bridge.describe(),
        await node.add_user(to=to, trigger_source=agent),
        await node.warm_transfer(to=to, trigger_source=agent, role="customer"),
        await node.cold_transfer(to=to, trigger_source=agent, key="mine"),
        *[await getattr(member, name)() for name in MEMBER_METHODS],
        await talker.mute(),
        await talker.unmute(),
        await talker.leave(),
    ]
    assert [record.action for record in simulator.ledger.requests] == [
        "run_phlo",
        "get_phlo",
        "get_node",
        "get_node",
        "call",
        "warm_transfer",
        "cold_transfer",
        *MEMBER_METHODS.values(),
        "bridge_mute",
        "bridge_unmute",
        "bridge_leave",
    ]
    by_action = {record.action: record for record in simulator.ledger.requests}
    assert by_action["hold"].member == AGENT
    assert sent[6].action.key == "mine"
    assert simulator.ledger.disagreements(sent) == []


async def test_handles_pass_options_on(pool: SessionPool, simulator: Simulator) -> None:
    """An agent who wants to ring again must be able to say so anywhere."""
    node = pool.phlo(PHLO_ID).multi_party_call(NODE_ID)
    for _ in range(2):
        await node.warm_transfer(
            to=address(1), trigger_source=AGENT, on_duplicate="send", send_within=None
        )
    assert simulator.ledger.dials(address(1)) == 2
    with pytest.raises(InvalidInputError, match="send_within"):
        await node.member(AGENT).hold(send_within=0)


def test_handles_check_before_anything_is_sent() -> None:
    """A bad number should fail where it is typed, and masked."""
    pool = SessionPool(ACCOUNT)
    phlo = pool.phlo(PHLO_ID)
    wrong: dict[str, Callable[[], object]] = {
        "phlo_id": lambda: pool.phlo("../x"),
        "node_id": lambda: phlo.multi_party_call("a/b"),
        "member": lambda: phlo.multi_party_call(NODE_ID).member("4155550100"),
    }
    for field, make in wrong.items():
        with pytest.raises(InvalidInputError, match=f"^{field}: ") as caught:
            make()
        assert caught.value.field == field
        assert "4155550100" not in str(caught.value)


# What nobody may see


async def test_reprs_show_no_secret(pool: SessionPool, simulator: Simulator) -> None:
    """Reprs end up in logs, tickets and chat."""
    accepted = await pool.send(TRANSFER)
    member = pool.phlo(PHLO_ID).multi_party_call(NODE_ID).member(AGENT)
    assert isinstance(member, Member)
    shown = " ".join(map(repr, [pool, pool.state(), accepted, member]))
    assert "<SessionPool of 1 accounts, open>" in shown
    for secret in (simulator.auth_token, address(0), AGENT):
        assert secret not in shown


# State


async def test_state_tells_what_an_account_is_busy_with(simulator: Simulator) -> None:
    """A dashboard or a back-pressure valve acts on these numbers."""
    account = account_of(simulator, quota=Quota(2, per=9.95))
    async with pool_of(simulator, account) as pool:
        assert pool.state().next_slot_in == 0.0
        with simulator.hold_answers():
            tasks = await send_all(pool, *(act(WarmTransfer, n) for n in range(2)))
            tasks += await send_all(pool, act(Hold))
            await simulator.wait_for(held=1)
            state = pool.state(account.auth_id)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        after = pool.state()
    assert state.waiting == {**dict.fromkeys(Lane, 0), Lane.AWAITED: 1}
    assert state.in_flight == 1
    assert 15.0 < state.next_slot_in <= 20.0
    assert (state.paused_for, state.pace) == (0.0, 1.0)
    assert sum(after.waiting.values()) == after.in_flight == 0


async def test_state_tells_of_a_pause(simulator: Simulator) -> None:
    """A supervisor who sees the pause knows why nothing leaves."""
    simulator.answer_next(429, headers={"Retry-After": "30"})
    async with pool_of(simulator) as pool:
        with pytest.raises(NotSentError):
            await pool.send(TRANSFER)
        state = pool.state()
        assert 25.0 < state.paused_for <= 30.0
        assert state.pace == pytest.approx(0.8, abs=0.02)
        assert state.next_slot_in == pytest.approx(state.paused_for, abs=0.1)


def test_state_of_a_pool_that_was_not_opened_is_refused() -> None:
    """Numbers out of nothing would look like an idle account."""
    with pytest.raises(InvalidInputError, match="expected an open one"):
        SessionPool(ACCOUNT).state()


# Errors


RAISED: Final = {
    400: RejectedError,
    401: CredentialsError,
    403: CredentialsError,
    404: NotFoundError,
    409: RejectedError,
    307: RejectedError,
    429: NotSentError,
    408: InDoubtError,
    502: InDoubtError,
}


@pytest.mark.parametrize(("status", "kind"), RAISED.items())
async def test_verdict_decides_which_error_is_raised(
    simulator: Simulator, status: int, kind: type[VerdictError]
) -> None:
    """Callers sort by type: the wrong one rings a second phone."""
    simulator.answer_next(status)
    async with pool_of(simulator, retry=RetryPolicy(attempts=1)) as pool:
        with pytest.raises(VerdictError) as caught:
            await pool.send(TRANSFER)
    assert type(caught.value) is kind
    assert isinstance(caught.value, PhloError)
    assert caught.value.outcome.status == status
    assert caught.value.outcome.action is TRANSFER
    assert caught.value.outcome.seconds >= caught.value.outcome.waited >= 0.0


def pickled(error: VerdictError) -> VerdictError:
    """Return what arrives in another process."""
    twin: VerdictError = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own
    return twin


@pytest.mark.parametrize("duplicate", [pickled, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("status", RAISED)
async def test_raised_errors_survive_pickling(
    simulator: Simulator, status: int, duplicate: Callable[[VerdictError], VerdictError]
) -> None:
    """A job queue carries the error home from its worker process."""
    simulator.answer_next(status)
    async with pool_of(simulator, retry=RetryPolicy(attempts=1)) as pool:
        with pytest.raises(VerdictError) as caught:
            await pool.send(TRANSFER)
    twin = duplicate(caught.value)
    assert type(twin) is type(caught.value)
    assert str(twin) == str(caught.value)
    assert twin.outcome == caught.value.outcome
    assert twin.outcome.body == caught.value.outcome.body


# Observers


async def test_observers_hear_of_every_attempt_and_one_outcome(
    pool: SessionPool, simulator: Simulator, told: Told
) -> None:
    """A metric that counts twice, or not at all, hides an outage."""
    simulator.answer_next(503, action="hold")
    await pool.send(act(Hold))
    await pool.send(TRANSFER)
    simulator.answer_next(400)
    with pytest.raises(RejectedError):
        await pool.send(act(ResumeCall))
    assert [outcome.verdict for outcome in told.attempts] == [
        "in_doubt",
        "accepted",
        "accepted",
        "rejected",
    ]
    assert [outcome.verdict for outcome in told.outcomes] == [
        "accepted",
        "accepted",
        "rejected",
    ]
    assert [outcome.attempts for outcome in told.outcomes] == [2, 1, 1]
    ended = [event for event in told.events if isinstance(event, ActionEnded)]
    assert {event.account.auth_id for event in ended} == {simulator.auth_id}


async def test_double_click_is_counted_once(
    pool: SessionPool, simulator: Simulator, told: Told
) -> None:
    """The report must show as many transfers as phones rang."""
    both = await asyncio.gather(pool.send(TRANSFER), pool.send(TRANSFER))
    assert sorted(accepted.joined for accepted in both) == [False, True]
    assert len(told.outcomes) == len(told.attempts) == simulator.ledger.dials() == 1


async def test_action_cancelled_in_flight_is_told_in_doubt(
    pool: SessionPool, simulator: Simulator, told: Told
) -> None:
    """The caller hung up, and the supervisor's phone is ringing."""
    with simulator.hold_answers():
        (task,) = await send_all(pool, TRANSFER)
        await simulator.wait_for(held=1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    for outcomes in (told.outcomes, told.attempts):
        (outcome,) = outcomes
        assert isinstance(outcome, InDoubt)
        assert outcome.reason is Reason.CANCELLED
    assert simulator.ledger.disagreements(told.outcomes) == []


async def test_action_cancelled_before_it_left_is_told_not_sent(
    simulator: Simulator, told: Told
) -> None:
    """What never left may be sent again."""
    account = account_of(simulator, quota=Quota(2, per=60.0))
    async with pool_of(simulator, account, observers=[told]) as pool:
        await pool.send(act(WarmTransfer, 0))
        task = asyncio.create_task(pool.send(act(WarmTransfer, 1), send_within=None))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    outcome = told.outcomes[-1]
    assert isinstance(outcome, NotSent)
    assert (outcome.reason, outcome.attempts) == (Reason.CANCELLED, 0)
    assert (len(told.outcomes), len(told.attempts)) == (2, 1)
    assert simulator.ledger.disagreements(told.outcomes) == []


async def test_observer_that_raises_harms_nobody(
    simulator: Simulator, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in a dashboard must not fail a transfer."""

    def broken(_: object) -> None:
        raise RuntimeError("dashboard is down")

    async with pool_of(simulator, observers=[broken, told]) as pool:
        await pool.send(TRANSFER)
    kinds = [type(event) for event in told.events]
    assert kinds == [ActionBegun, AttemptBegun, AttemptEnded, ActionEnded]
    assert caplog.text.count("RuntimeError: dashboard is down") == 1


async def test_stream_says_at_once_what_it_can_not_do(simulator: Simulator) -> None:
    """A night's batch must not turn out in the morning to have sent nothing."""
    pool = pool_of(simulator)
    with pytest.raises(InvalidInputError, match="open"):
        pool.stream([])
    async with pool:
        with pytest.raises(InvalidInputError, match="include_in_doubt: expected a j"):
            pool.stream([], include_in_doubt=True)
        # Text is true, whatever it says: whom a doubt is about would be rung again.
        with pytest.raises(InvalidInputError, match="include_in_doubt: expected a b"):
            pool.stream([], include_in_doubt="false")  # type: ignore[arg-type]
        async with pool.stream([]) as outcomes:
            assert [outcome async for outcome in outcomes] == []


async def _async_observer(_event: object) -> None:
    """Stand for a function that somebody forgot nobody awaits."""


class _AsyncObserver:
    async def __call__(self, _event: object) -> None:
        """Stand for the same, as an object."""


@pytest.mark.parametrize(
    ("observer", "name"),
    [
        (_async_observer, "_async_observer"),
        (functools.partial(_async_observer), "_async_observer"),
        (functools.partial(functools.partial(_async_observer)), "_async_observer"),
        (_AsyncObserver(), "_AsyncObserver"),
        (functools.partial(_AsyncObserver()), "_AsyncObserver"),
        (_AsyncObserver().__call__, "_AsyncObserver.__call__"),
    ],
)
def test_async_observer_is_named_as_such(observer: Any, name: str) -> None:  # noqa: ANN401 -- wrong on purpose
    """It would never run, and its author would wait for what it should tell."""
    with pytest.raises(InvalidInputError, match=rf"observers: .*{name} is async"):
        SessionPool(ACCOUNT, observers=[observer])


class _HeldConnector(aiohttp.TCPConnector):
    """Keeps its second connection back until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(force_close=True)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self._number = 0

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's own
    ) -> Connection:
        """Connect, the second time only when told so."""
        self._number += 1
        if self._number == 2:
            self.asked.set()
            await self.go_on.wait()
        return await super().connect(req, traces, timeout)


async def test_repeat_that_was_undone_while_it_connected_does_not_leave(
    simulator: Simulator,
) -> None:
    """The second Hold would land after the Unhold, and the customer hears music."""
    member = {"phlo_id": "p", "node_id": "n", "member": "+14155550100"}
    simulator.answer_next(502, action="hold")
    connector = _HeldConnector()
    async with connector, pool_of(simulator, connector=connector) as pool:
        holding = asyncio.create_task(outcome_of(pool.send(Hold(**member))))
        await connector.asked.wait()
        await pool.send(Unhold(**member))
        connector.go_on.set()
        outcome = await holding
    assert isinstance(outcome, InDoubt)
    assert [one.action for one in simulator.ledger.requests] == ["hold", "unhold"]


async def test_full_connector_is_waited_for_within_send_within() -> None:
    """A slow minute of Plivo's must not make the second half of a rush unreachable."""
    go = asyncio.Event()

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.request()
            await go.wait()
            connection.send(b"HTTP/1.1 201 x\r\nContent-Length: 2\r\n\r\n{}")

    accounts = [Account(f"MAPOOL0000000000000{n}", "t", quota=None) for n in (1, 2)]
    async with RawServer(script) as server:
        connector = aiohttp.TCPConnector(limit=4)
        async with (
            connector,
            SessionPool(
                *accounts, base_url=server.base_url, connector=connector, connect=0.5
            ) as pool,
        ):
            sends = [
                asyncio.ensure_future(
                    pool.send(act(Hold, n), account=accounts[n % 2], send_within=60)
                )
                for n in range(20)
            ]
            await asyncio.wait(sends, timeout=1.0)  # twice what a connection may take
            assert not any(it.done() for it in sends)
            urgent = pool.send(act(Unhold, 21), account=accounts[0])
            urgently = asyncio.ensure_future(urgent)
            while len(server.requests) < 4:  # noqa: ASYNC110 -- the loop's own steps
                await asyncio.sleep(0)
            go.set()
            outcomes = await asyncio.gather(urgently, *sends)
    assert {it.attempts for it in outcomes} == {1}
    assert len(server.requests) == 21
    assert len(server.connections) == 4
