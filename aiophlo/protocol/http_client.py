"""One exchange over HTTP, by one of two ways; nothing else decides on them.

A request goes bare over the connector, which is less than half of what a session
costs. It goes through the session where other code has a say in it, or wants to see
it: where the session was lent, where what sends its requests was replaced, as
aioresponses and recorders do, and where it has trace configs, as OpenTelemetry's
instrumentor gives to each. Both ways come to the same verdicts.
"""

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp
from yarl import URL

from aiophlo.logs import logger
from aiophlo.model.outcomes import Reason
from aiophlo.protocol.aiohttp_contract import GenuineSession
from aiophlo.protocol.bare_exchange import BareExchange
from aiophlo.protocol.codec import Answer, NoAnswer, Request
from aiophlo.protocol.connect_errors import place_of, why_not_connected
from aiophlo.protocol.exchange_errors import (
    describe_exchange_error,
    has_ended,
    is_callers,
    why_in_doubt,
)
from aiophlo.protocol.kept_connections import (
    Connections,
    ForkedError,
    StaleConnectionError,
)
from aiophlo.protocol.response_timeout import ResponseTimeout, Waiting
from aiophlo.protocol.session_exchange import SessionExchange
from aiophlo.protocol.tracked_request import TrackedRequest


class HttpClient:
    """Exchanges of one account.

    Args:
        session: The aiohttp session to use; not closed here. Its middlewares
            are not run: one that repeats a request would dial twice.
        base_url: Where the API is, without a trailing slash.
        headers: Sent with every request, besides the session's own. Where there
            may be a proxy, credentials are here, since it is told the session's.
        lent: The session is the caller's, and may have other defaults.
        through_session: Send every request through the session.
        connect: Seconds to get a connection.
        answer_within: Seconds that a whole answer may take, once the request
            has left. Over a lent session, and for a GET through any, it is given up
            after so many seconds of silence, and `connect` more if it drips.
        proxy: URL of a proxy.
        tls: What to trust, instead of the system's certificates.
        allow_plaintext: Whoever is on the way, a proxy included, may read the
            credentials.
        connections: Those that the pool's requests go out on.

    Attributes:
        base_url: As given.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        headers: Mapping[str, str],
        *,
        lent: bool = True,
        through_session: bool = False,
        connect: float = 3.0,
        answer_within: float = 10.0,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        allow_plaintext: bool = False,
        connections: Connections | None = None,
    ) -> None:
        self._session = session
        self.base_url = base_url
        self._connect = connect
        self._answer_within = answer_within
        connections = Connections() if connections is None else connections
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._timer: ResponseTimeout[Waiting]
        self._timer = ResponseTimeout(self._loop, answer_within)
        self._proxy = "" if proxy is None else place_of(URL(proxy))
        # https is read by nobody on the way: its proxy sees a CONNECT.
        self._proxied = bool(self._proxy) and not base_url.startswith("https:")
        way = {"proxy": proxy, "ssl": tls}
        self._through_session = SessionExchange(
            session,
            base_url,
            headers,
            lent=lent,
            connect=connect,
            answer_within=answer_within,
            options={name: way[name] for name in way if way[name] is not None},
            allow_plaintext=allow_plaintext,
            connections=connections,
            timer=self._timer,
        )
        self._is_genuine = GenuineSession(session)
        goes_bare = self._is_genuine and not (lent or through_session)
        self._bare = None
        if goes_bare and not session.trace_configs:
            self._bare = self._bare_exchange(session.connector)

    def _bare_exchange(self, connector: aiohttp.BaseConnector | None) -> BareExchange:
        assert connector is not None  # noqa: S101 -- the session was only just made
        return BareExchange(
            connector,
            self.base_url,
            self._through_session.template,
            connect=self._connect,
            connections=self._connections,
            timer=self._timer,
        )

    async def exchange(
        self, request: Request, tracked: TrackedRequest, *, within: float
    ) -> Answer | NoAnswer:
        """Send `request` and return what came back; only a cancellation raises.

        A kept connection that can't be used is left for another one at once:
        nothing was written to it.

        Args:
            request: What to send.
            tracked: Says afterwards whether it left.
            within: Seconds after which it need not leave any more.
        """
        began, again = self._loop.time(), False
        while True:
            if (refusal := self._refusal(within)) is not None:
                return refusal
            way: BareExchange | SessionExchange = self._through_session
            if self._bare is not None and self._is_genuine:
                way = self._bare
            try:
                answer = await way.answer(request, tracked, within)
            except (Exception, asyncio.CancelledError) as error:
                if is_callers(error):
                    raise
                no_answer = self._no_answer(error, tracked, within)
            else:
                answer.by_proxy = self._proxied or bool(tracked.proxy)
                return answer
            stale = tracked.stale
            if stale is None or tracked.left or stale.new:
                return no_answer
            if stale.new is None and again:
                return no_answer  # the server may do so to every connection
            now, again = self._loop.time(), True
            tracked.stale = None
            within, began = within - (now - began), now

    def _refusal(self, within: float) -> NoAnswer | None:
        """Return why a request may not even ask for a connection."""
        if self._session.closed:
            return NoAnswer(left=False, reason=Reason.CLOSED)
        if within <= 0:
            return NoAnswer(left=False, reason=Reason.EXPIRED)
        if self._connections.inherited:
            # It must not be closed either: the parent's loop would not hear it then.
            detail = str(ForkedError())
            return NoAnswer(left=False, reason=Reason.CLOSED, detail=detail)
        return None

    def close(self) -> None:
        """End the wait for every answer; no request is delivered any more."""
        for waiting in tuple(self._timer):
            waiting.drop()

    def _no_answer(
        self, error: BaseException, tracked: TrackedRequest, within: float
    ) -> NoAnswer:
        reason = self._why(error, tracked, in_time=within >= self._connect)
        if reason is Reason.UNKNOWN and isinstance(error, Exception):
            logger.failure("an exchange failed", error=error)
        detail = self._describe(error, tracked)
        return NoAnswer(tracked.left, reason, detail, tracked.status)

    def _why(
        self, error: BaseException, tracked: TrackedRequest, *, in_time: bool
    ) -> Reason:
        if tracked.silent:
            return Reason.SILENT
        if tracked.left:
            return why_in_doubt(error)
        if self._session.closed or self._connections.inherited:
            return Reason.CLOSED
        if tracked.stale is None and has_ended(error):
            tracked.stale = StaleConnectionError("the kept connection was closed")
        if tracked.stale is not None:
            return Reason.STALE_CONNECTION
        if isinstance(error, TimeoutError) and not in_time:
            return Reason.EXPIRED  # it was given less than `connect`
        return why_not_connected(error)

    def _describe(self, error: BaseException, tracked: TrackedRequest) -> str:
        if tracked.silent:
            return f"no answer within {self._answer_within:g} s"
        if tracked.stale is not None:
            return str(tracked.stale)
        return describe_exchange_error(
            error, api=URL(self.base_url), proxy=self._proxy or tracked.proxy
        )
