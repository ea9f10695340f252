"""The HTTP clients of a pool's accounts, over one connector."""

import asyncio
import ssl

import aiohttp
import attrs

from aiophlo.logs import logger
from aiophlo.model.accounts import Account
from aiophlo.protocol.aiohttp_contract import broken_promise
from aiophlo.protocol.file_limit import most_connections
from aiophlo.protocol.http_client import HttpClient
from aiophlo.protocol.kept_connections import Connections


@attrs.frozen(kw_only=True, eq=False)
class HttpOptions:
    """What `SessionPool` was told about HTTP, checked.

    Attributes:
        base_url: Where the API is, without a slash at its end.
        allow_plaintext: Credentials may be read by everybody on the way.
        connect: Seconds to get a connection.
        answer_within: Seconds that a whole answer may take.
        keepalive: Seconds that an idle connection is kept.
        connection_lifetime: Seconds after which a connection is not kept any more.
        user_agent: Sent with every request.
        proxy: URL of the proxy, if there is one.
        tls: What to trust, instead of the system's certificates.
        connector: The caller's own, if one was lent.
        session: The caller's own, if one was lent.
    """

    base_url: str
    allow_plaintext: bool
    connect: float
    answer_within: float
    keepalive: float
    connection_lifetime: float
    user_agent: str
    proxy: str | None = attrs.field(repr=False)
    tls: ssl.SSLContext | None
    connector: aiohttp.BaseConnector | None
    session: aiohttp.ClientSession | None

    @property
    def longest_exchange(self) -> float:
        """Seconds that no exchange takes, with a margin."""
        return self.connect + 2 * self.answer_within


class HttpClients:
    """Makes the HTTP client of each account, and closes what isn't the caller's.

    Args:
        options: How they connect.
    """

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._connector = options.connector
        self._connections = Connections(options.connection_lifetime)
        self._clients: list[HttpClient] = []
        self._sessions: list[aiohttp.ClientSession] = []
        self._broken_promise = ""  # of aiohttp, so that its session has to serve

    def open(self) -> int:
        """Make the connector; return the most connections at once, 0 for any number."""
        self._broken_promise = broken_promise(asyncio.get_running_loop())
        if self._broken_promise:
            logger.warning(
                "aiohttp %s isn't as it was: %s; every request goes through its"
                " session, which costs more",
                aiohttp.__version__,
                self._broken_promise,
            )
        files = most_connections()
        self._connector = self._options.connector or aiohttp.TCPConnector(
            limit=files, keepalive_timeout=self._options.keepalive
        )
        connector: aiohttp.BaseConnector | None = self._connector
        if self._options.session is not None:
            connector = self._options.session.connector
        bounds = [files]
        if connector is not None:
            bounds += [connector.limit, connector.limit_per_host]
        return min(filter(None, bounds), default=0)

    def client_of(
        self, account: Account, options: HttpOptions | None = None
    ) -> HttpClient:
        """Return a new client that has the credentials of `account`.

        Args:
            account: Whose.
            options: How it connects, over the same connector, where it is another API.
        """
        options = options or self._options
        headers = {
            "Authorization": account.authorization,
            "User-Agent": options.user_agent,
            "Accept": "application/json",
        }
        session = options.session
        if session is None:
            # A session's own headers cost least, but a proxy is told them, too.
            own = dict(headers)
            if options.proxy is not None:
                del own["Authorization"]
            session = self._new_session(own)
            headers = {name: headers[name] for name in headers.keys() - own.keys()}
        client = HttpClient(
            session,
            options.base_url,
            headers,
            lent=options.session is not None,
            through_session=bool(self._broken_promise),
            connect=options.connect,
            answer_within=options.answer_within,
            proxy=options.proxy,
            tls=options.tls,
            allow_plaintext=options.allow_plaintext,
            connections=self._connections,
        )
        self._clients.append(client)
        return client

    def _new_session(self, headers: dict[str, str]) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
        )
        self._sessions.append(session)
        return session

    async def close(self) -> None:
        """Close the clients, and the sessions and the connector that are ours."""
        for client in self._clients:
            client.close()
        for session in self._sessions:
            await session.close()
        if self._connector is not None and self._options.connector is None:
            await self._connector.close()
