"""One exchange through an aiohttp session, which sends the request by itself.

What decides is whether the request left, and that is not inferred from an
exception: the request's own body notes when aiohttp writes it. Headers alone
are no request, and aiohttp never sends a POST twice.
"""

import asyncio
import contextlib
from collections.abc import Mapping, MutableMapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter
from multidict import CIMultiDict
from yarl import URL

from aiophlo.protocol.answer_body import read_body, says_how_long
from aiophlo.protocol.codec import Answer, Request
from aiophlo.protocol.connect_errors import PlaintextProxyError, place_of
from aiophlo.protocol.exchange_errors import was_lost
from aiophlo.protocol.kept_connections import Connections, StaleConnectionError
from aiophlo.protocol.response_timeout import ResponseTimeout, Waiting
from aiophlo.protocol.tracked_request import TrackedRequest

# What proves, of a GET that we could not watch, that it never left.
_PROVES_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)


class TrackedBody(aiohttp.BytesPayload):
    """A request's body, which notes on its `TrackedRequest` whether it left.

    Attributes:
        tracked: What is known of the request.
        sender: Who sends it.
        response: The answer, once its headers are there.
    """

    tracked: TrackedRequest
    sender: "SessionExchange"
    response: aiohttp.ClientResponse | None = None
    _protocol: ResponseHandler | None = None
    _connection: asyncio.WriteTransport | None = None
    _lease: Connection | None = None

    @classmethod
    def of(
        cls, request: Request, tracked: TrackedRequest, sender: "SessionExchange"
    ) -> "TrackedBody":
        """Return the body that goes with `request`."""
        body = cls(request.body or b"", content_type="application/json")
        body.tracked, body.sender = tracked, sender
        return body

    def __deepcopy__(self, memo: object) -> aiohttp.BytesPayload:
        """Return its bytes: aioresponses keeps a copy of all that it is given."""
        return aiohttp.BytesPayload(self._value, content_type=self.content_type)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 -- the body's own
    ) -> None:
        """Write the body, and note that it leaves.

        Raises:
            ConnectionAbortedError: It may not leave any more, or not on this
                connection.
        """
        self._leave(writer.protocol if isinstance(writer, StreamWriter) else None)
        self.sender.await_answer(self)
        await writer.write(self._value)

    async def pass_on(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Watch aiohttp's own request, as a middleware of it.

        What has no body tells only here when it leaves. And only here can
        credentials be given so that neither a proxy nor a netrc file comes in.

        Raises:
            PlaintextProxyError: A proxy would read the credentials.
        """
        bare, send = request.method == "GET", request.send
        if bare and not self.tracked.watched:
            self.tracked.watched, self.tracked.left = True, False
        self.sender.prepare(request, self.tracked)

        async def leave(connection: Connection) -> aiohttp.ClientResponse:
            self._lease = connection
            if bare:
                self._leave(connection.protocol)
            return await send(connection)

        # aiohttp has no hook between connecting and sending.
        request.send = leave  # type: ignore[assignment, method-assign]
        try:
            return await handler(request)
        except BaseException:
            # aiohttp closes it, but goes on sending what it has not sent yet.
            if self._connection is not None:
                self._connection.abort()
            raise
        finally:
            del request.send  # else the two would hold each other

    def _leave(self, protocol: object) -> None:
        tracked = self.tracked
        if tracked.stale is not None:
            raise tracked.stale
        tracked.check_may_leave()
        if isinstance(protocol, ResponseHandler):
            try:
                self.sender.use(protocol)
            except StaleConnectionError as error:
                tracked.stale = error
                raise
            self._protocol, self._connection = protocol, protocol.transport
        tracked.left = True

    def answered(self, response: aiohttp.ClientResponse) -> None:
        """Note that an answer began to come, and what it says of its connection.

        Raises:
            StaleConnectionError: It came before the request had left, so it is no
                answer to that.
        """
        self.response = response
        # A mocked session sends nothing; aiohttp gives what it sends a Host.
        info = response.request_info
        if (
            not self.tracked.left
            and isinstance(info, aiohttp.RequestInfo)
            and "Host" in info.headers
        ):
            self.tracked.stale = StaleConnectionError(
                "an answer came before the request"
            )
            raise self.tracked.stale
        self.tracked.status = response.status
        if self._protocol is not None:
            self.sender.answered(self._protocol, response.headers)

    def lost(self) -> None:
        """Note that its connection ended without a byte of an answer."""
        if self._protocol is not None:
            self.sender.lost(self._protocol)

    def give_up(self) -> None:
        """End the wait for the answer, unless all of it is there."""
        if self._reset():
            self.tracked.silent = True
            if self.response is not None:
                # Whoever closed the connection may have left its reader waiting.
                self.response.content.set_exception(TimeoutError())

    def drop(self) -> None:
        """Take back what the network has not delivered yet, as far as possible."""
        self._reset()

    def _reset(self) -> bool:
        """End the connection unless the whole answer is there.

        It is this request's own until then, and may be another's after.
        """
        if self._connection is None or self._is_complete():
            return False
        self._connection.abort()
        return True

    def _is_complete(self) -> bool:
        if self._lease is not None:
            return self._lease.protocol is None
        return self.response is not None and self.response.connection is None


class SessionExchange:
    """Exchanges of one account through a session.

    Args:
        session: The aiohttp session. Its middlewares are not run: one that
            repeats a request would dial twice.
        base_url: Where the API is, without a trailing slash.
        headers: As for `HttpClient`.
        lent: The session is the caller's, and may have other defaults.
        connect: Seconds to get a connection.
        answer_within: As for `HttpClient`.
        options: What aiohttp is told of the way there: `proxy`, `ssl`.
        allow_plaintext: As for `HttpClient`.
        connections: Those that requests go out on.
        timer: Ends the wait for answers.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        headers: Mapping[str, str],
        *,
        lent: bool,
        connect: float,
        answer_within: float,
        options: Mapping[str, Any],
        allow_plaintext: bool,
        connections: Connections,
        timer: ResponseTimeout[Waiting],
    ) -> None:
        self._session = session
        self._base_url = base_url
        self._lent = lent
        self._connect = connect
        self._answer_within = answer_within
        self._allow_plaintext = allow_plaintext
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._timer = timer
        self._authorization = headers.get("Authorization", "")
        options = {**options, "allow_redirects": False}
        sent = CIMultiDict(headers)
        if lent:
            options["raise_for_status"] = False
            sent.pop("Authorization", None)  # `prepare` sets it
        if sent:
            options["headers"] = sent
        get = post = options
        if lent:
            as_json = CIMultiDict(sent, **{"Content-Type": "application/json"})
            post = {**options, "headers": as_json}
        self._get_options = self._bounded(get, connect, is_get=True)
        self._post_options = self._bounded(post, connect, is_get=False)

    async def answer(
        self, request: Request, tracked: TrackedRequest, within: float
    ) -> Answer:
        """Send `request` and return its answer.

        Args:
            request: What to send.
            tracked: Says afterwards whether it left.
            within: Seconds after which it need not leave any more.

        Raises:
            BaseException: There was none; aiohttp's own, mostly.
        """
        is_get, response = request.body is None, None
        if is_get and not tracked.watched:
            tracked.left = True  # assume the worst
        body = TrackedBody.of(request, tracked, self)
        try:
            response = await self._session.request(
                request.method,
                URL(self._base_url + request.path, encoded=True),
                data=None if is_get else body,
                **self._options(body, within, is_get=is_get),
            )
            body.answered(response)
            content = await read_body(response.content)
            if tracked.silent and not says_how_long(response.headers):
                raise TimeoutError  # noqa: TRY301 -- it ended as we ended the connection
            return Answer(response.status, response.headers, content)
        except BaseException as error:
            if was_lost(tracked, error):
                body.lost()
            body.drop()
            if response is not None:
                response.close()  # read to its end, it is done with its connection
            if is_get and not tracked.watched:
                tracked.left = not isinstance(error, _PROVES_NOT_SENT)
            raise
        finally:
            self._timer.end(body)

    async def template(self) -> aiohttp.ClientRequest:
        """Return a GET as aiohttp would send it, without sending it.

        Raises:
            PlaintextProxyError: A proxy would read the credentials.
        """
        made: list[aiohttp.ClientRequest] = []

        async def keep(
            request: aiohttp.ClientRequest, _: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            self.prepare(request, TrackedRequest())
            made.append(request)
            raise _KeptError

        with contextlib.suppress(_KeptError):
            await self._session.request(
                "GET",
                URL(self._base_url, encoded=True),
                **{**self._get_options, "middlewares": (keep,)},
            )
        return made[0]

    def prepare(self, request: aiohttp.ClientRequest, tracked: TrackedRequest) -> None:
        """Give a request its credentials, and make sure that no proxy gets them.

        Args:
            request: As aiohttp is about to send it.
            tracked: Takes note of the proxy.

        Raises:
            PlaintextProxyError: A proxy would read them.
        """
        if request.proxy is not None:
            tracked.proxy = "" if request.is_ssl() else place_of(request.proxy)
            if tracked.proxy and not self._allow_plaintext:
                raise PlaintextProxyError(
                    f"the proxy {tracked.proxy} would read the credentials"
                )
            if isinstance(request.proxy_headers, MutableMapping):
                request.proxy_headers.pop("Authorization", None)
        if self._authorization:
            request.headers["Authorization"] = self._authorization

    def use(self, protocol: ResponseHandler) -> None:
        """Note that a request is about to be written to a connection.

        Raises:
            StaleConnectionError: It must not be used for a request.
        """
        self._connections.use(protocol, self._loop.time())

    def await_answer(self, body: TrackedBody) -> None:
        """Begin to wait for the answer to a POST."""
        if not self._lent:
            self._timer.begin(body)

    def answered(self, protocol: ResponseHandler, headers: Mapping[str, str]) -> None:
        """Note what an answer's headers say about its connection."""
        self._connections.answered(protocol, headers, self._loop.time())

    def lost(self, protocol: ResponseHandler) -> None:
        """Note that a connection ended without a byte of an answer."""
        self._connections.lost(protocol, self._loop.time())

    def _options(
        self, body: TrackedBody, within: float, *, is_get: bool
    ) -> dict[str, Any]:
        options = self._get_options if is_get else self._post_options
        if within < self._connect:
            options = self._bounded(options, within, is_get=is_get)
        if is_get or self._lent:
            options = {**options, "middlewares": (body.pass_on,)}
        return options

    def _bounded(
        self, options: Mapping[str, Any], connect: float, *, is_get: bool
    ) -> dict[str, Any]:
        """Return `options` with the bounds that aiohttp has to keep.

        A POST's answer is timed here. Who lends a session may have it do more
        besides: what goes before and after an exchange is bounded, too.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=connect)
        if is_get or self._lent:
            timeout = aiohttp.ClientTimeout(
                connect=connect,
                sock_read=self._answer_within,
                total=connect + self._answer_within,
            )
        return {**options, "timeout": timeout}


class _KeptError(Exception):
    """A request was to be made, and not sent."""
