"""What a proxy gets to see, however it came to be used, and what it may say."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest
import trustme

from aiophlo import (
    Account,
    GetPhlo,
    Hold,
    InDoubt,
    InvalidInputError,
    NotSent,
    Reason,
    Rejected,
    SessionPool,
    WarmTransfer,
)
from aiophlo.protocol.environment import (
    base_url_from_environment,
    proxy_from_environment,
)
from aiophlo.simulator import Simulator
from tests.support.doubles import account_of, act, outcome_of
from tests.support.raw_server import Connection, RawServer, Received

TOKEN: Final = "a-token-that-no-proxy-may-see"  # noqa: S105 -- made up
ACCOUNT: Final = Account("MAPROXY0000000000001", TOKEN, quota=None)
USER: Final = "user:hunter2"
API: Final = "https://api.invalid/v1"
VARIABLES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
ENCODED: Final = ACCOUNT.authorization.removeprefix("Basic ")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without any proxy of this machine's own."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Proxy:
    """A proxy that answers every request alike, and keeps what it was told."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.got: list[Received] = []

    async def serve(self, connection: Connection) -> None:
        """Answer one request after the other."""
        while True:
            self.got.append(await connection.request())
            connection.send(self._answer)


@contextlib.asynccontextmanager
async def proxy_that_says(
    status: int, body: bytes = b"", head: str = ""
) -> AsyncIterator[tuple[Proxy, str]]:
    """Give a proxy and where it is, as host:port."""
    lines = f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n{head}\r\n"
    proxy = Proxy(lines.encode() + body)
    async with RawServer(proxy.serve) as server:
        yield proxy, f"127.0.0.1:{server.port}"


WAYS: Final = (
    "argument",
    "environment",
    "lent session",
    "lent session with defaults",
    "lent session and argument",
    "lent session and environment",
)


@contextlib.asynccontextmanager
async def pool_by(
    way: str,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    **options: Any,  # noqa: ANN401 -- SessionPool's own
) -> AsyncIterator[SessionPool]:
    """Give a pool that came to its proxy in this way."""
    session: dict[str, Any] | None = {} if way.startswith("lent") else None
    if way == "argument":
        options["proxy"] = url
    elif way == "environment":
        monkeypatch.setenv("HTTPS_PROXY", url)
        monkeypatch.setenv("http_proxy", url)
        options["trust_env"] = True
    elif way == "lent session":
        session = {"proxy": url}
    elif way == "lent session with defaults":
        session = {"proxy": url, "headers": {"Authorization": ACCOUNT.authorization}}
    elif way == "lent session and argument":
        session = {"headers": {"Authorization": ACCOUNT.authorization}}
        options["proxy"] = url
    else:
        monkeypatch.setenv("HTTPS_PROXY", url)
        monkeypatch.setenv("http_proxy", url)
        session = {"trust_env": True}
    async with contextlib.AsyncExitStack() as stack:
        if session is not None:
            options["session"] = await stack.enter_async_context(
                aiohttp.ClientSession(**session)
            )
        options.setdefault("base_url", API)
        options.setdefault("random", lambda: 0.0)
        yield await stack.enter_async_context(SessionPool(ACCOUNT, **options))


@pytest.mark.parametrize("user", ["", f"{USER}@"], ids=["no user", "user"])
@pytest.mark.parametrize("way", WAYS)
async def test_proxy_gets_no_credentials_of_the_account(
    way: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the proxy could ring anybody at the account's expense."""
    async with (
        proxy_that_says(503) as (proxy, place),
        pool_by(way, f"http://{user}{place}", monkeypatch) as pool,
    ):
        for action in (act(WarmTransfer), act(Hold), act(GetPhlo)):
            outcome = await outcome_of(pool.send(action, send_within=1.0))
            assert isinstance(outcome, NotSent)
    assert proxy.got
    wanted = [f"Basic {base64.b64encode(USER.encode()).decode()}"] if user else []
    for got in proxy.got:
        assert got.head.startswith(b"CONNECT api.invalid:443 ")
        assert ENCODED.encode() not in got.head
        assert TOKEN.encode() not in got.head
        assert got.header("authorization") == []
        assert got.header("proxy-authorization") == wanted


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "misconfigured"),
        (403, "misconfigured"),
        (407, "misconfigured"),
        (201, "misconfigured"),
        (302, "misconfigured"),
        (429, "unreachable"),
        (500, "unreachable"),
        (502, "unreachable"),
        (503, "unreachable"),
        (504, "unreachable"),
    ],
)
async def test_what_a_proxy_says_to_connect_is_not_what_plivo_says(
    status: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 403 of the proxy's would read as wrong credentials, a 502 as a doubt."""
    async with (
        proxy_that_says(status, b'{"api_id":"a","error":""}') as (_, place),
        pool_by("argument", f"http://{USER}@{place}", monkeypatch) as pool,
    ):
        outcome = await outcome_of(pool.send(act(WarmTransfer), send_within=1.0))
    assert isinstance(outcome, NotSent)
    assert (outcome.reason, outcome.status) == (reason, None)
    assert outcome.error is not None
    assert f"status {status}" in outcome.error
    assert f"the proxy {place}" in outcome.error
    assert "hunter2" not in outcome.error


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_proxy_that_could_read_the_credentials_is_refused(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks http:// of a proxy hands it the account's token."""
    with pytest.raises(InvalidInputError, match=r"^proxy: expected an https:// base"):
        SessionPool(ACCOUNT, base_url="http://localhost/v1", proxy="http://p:3128")
    if way == "environment":  # what is asked of this machine is asked directly
        monkeypatch.setenv("HTTP_PROXY", "http://p.invalid:3128")
        SessionPool(ACCOUNT, base_url="http://localhost/v1", trust_env=True)


@pytest.mark.parametrize(
    "way",
    ["lent session", "lent session with defaults", "lent session and environment"],
)
async def test_lent_session_leads_to_no_proxy_that_could_read_the_credentials(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's owner may not know that it goes through a proxy."""
    async with (
        proxy_that_says(201, b'{"api_id":"a"}') as (proxy, place),
        pool_by(
            way, f"http://{place}", monkeypatch, base_url="http://localhost:9/v1"
        ) as pool,
    ):
        for action in (act(WarmTransfer), act(GetPhlo)):
            outcome = await outcome_of(pool.send(action, send_within=1.0))
            assert isinstance(outcome, NotSent)
            assert outcome.reason is Reason.MISCONFIGURED
    assert proxy.got == []


PAGE: Final = b"<html>Access denied</html>"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "status", [204, 302, 307, 400, 403, 404, 405, 407, 429, 502, 503, 504]
)
async def test_page_of_a_proxy_is_no_answer_of_plivos(
    status: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have passed the request on, and denied the answer: a phone rings."""
    body = b"" if status == 204 else PAGE
    async with (
        proxy_that_says(status, body) as (proxy, place),
        pool_by(
            way,
            f"http://{place}",
            monkeypatch,
            base_url="http://api.invalid/v1",
            allow_plaintext=True,
        ) as pool,
    ):
        outcome = await outcome_of(pool.send(act(WarmTransfer)))
    assert isinstance(outcome, InDoubt)
    assert outcome.status == status
    assert len(proxy.got) == 1


async def test_plivos_own_answer_counts_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where somebody chose to be read on the way, transfers must still work."""
    async with (
        proxy_that_says(404, b'{"api_id":"a","error":"no node"}') as (_, place),
        pool_by(
            "argument",
            f"http://{place}",
            monkeypatch,
            base_url="http://api.invalid/v1",
            allow_plaintext=True,
        ) as pool,
    ):
        outcome = await outcome_of(pool.send(act(WarmTransfer)))
    assert (outcome.verdict, outcome.error) == ("rejected", "no node")


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a proxy that passes on what it can't read, to where CONNECT says."""
    head = await reader.readuntil(b"\r\n\r\n")
    host, _, port = head.split(b" ")[1].decode().partition(":")
    back, on = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 x\r\n\r\n")

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                sink.write(data)
        sink.close()

    await asyncio.gather(pass_on(reader, on), pass_on(back, writer))
    for ended in (on, writer):
        with contextlib.suppress(ConnectionError):
            await ended.wait_closed()


async def test_page_through_a_tunnel_is_plivos(simulator: Simulator) -> None:
    """A proxy can't write what it can't read: a 404 of theirs is a clear no."""
    authority = trustme.CA()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    page = b"HTTP/1.1 404 x\r\nContent-Length: 4\r\n\r\nNone"

    async def answer(connection: Connection) -> None:
        await connection.request()
        connection.send(page)

    async with (
        RawServer(answer, tls=server_tls) as server,
        await asyncio.start_server(tunnel, "127.0.0.1", 0) as proxy,
        SessionPool(
            account_of(simulator),
            base_url=server.base_url,
            proxy=f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}",
            ssl_context=client_tls,
        ) as pool,
    ):
        outcome = await outcome_of(pool.send(act(WarmTransfer)))
    assert isinstance(outcome, Rejected)
    assert outcome.status == 404


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:1"}, ("HTTPS_PROXY", "http://p:1")),
        ({"https_proxy": "p:1"}, ("HTTPS_PROXY", "http://p:1")),
        ({"ALL_PROXY": "http://p:1"}, ("ALL_PROXY", "http://p:1")),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".invalid"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x"}, ("HTTPS_PROXY", "http://p:1")),
    ],
)
def test_environment_names_the_proxy(
    environment: dict[str, str],
    found: tuple[str, str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service behind a proxy is set up by these variables everywhere."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_from_environment(API) == found


def test_wrong_proxy_of_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who looks for a mistake needs to know which variable has it."""
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://{USER}@p:1")
    with pytest.raises(InvalidInputError, match=r"^HTTPS_PROXY: expected") as caught:
        SessionPool(ACCOUNT, trust_env=True)
    assert "hunter2" not in str(caught.value)
    SessionPool(ACCOUNT)  # which asks the environment for no proxy


@pytest.mark.parametrize(
    "url",
    [
        "http://plivo.example/v1",
        "http://10.0.0.7:8080/v1",
        "http://127.0.0.1.example.com/v1",
        "http://[2001:db8::1]/v1",
        "http://0.0.0.0/v1",
    ],
)
def test_credentials_in_clear_are_refused_unless_asked_for(url: str) -> None:
    """Everybody on the way could ring phones at the account's expense."""
    with pytest.raises(InvalidInputError, match=r"^base_url: expected https://"):
        SessionPool(ACCOUNT, base_url=url)
    SessionPool(ACCOUNT, base_url=url, allow_plaintext=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/v1",
        "http://127.9.9.9/v1",
        "http://localhost:8080/v1",
        "http://api.localhost./v1",
        "http://[::1]:8080/v1",
        "http://[::ffff:127.0.0.1]/v1",
        "https://plivo.example/v1",
    ],
)
def test_credentials_that_stay_on_this_machine_are_not_refused(url: str) -> None:
    """Simulators and gateways on this machine need no certificate."""
    SessionPool(ACCOUNT, base_url=url)


def test_base_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A staging service that reached Plivo itself would ring real phones."""
    monkeypatch.setenv("AIOPHLO_BASE_URL", " https://x/v1 ")
    assert base_url_from_environment() == "https://x/v1"
    monkeypatch.setenv("AIOPHLO_BASE_URL", "")
    assert base_url_from_environment() is None
    monkeypatch.setenv("AIOPHLO_BASE_URL", "http://plivo.example/v1")
    with pytest.raises(InvalidInputError, match=r"^AIOPHLO_BASE_URL: expected https:"):
        SessionPool(ACCOUNT)
    SessionPool(ACCOUNT, base_url="http://localhost/v1")
