"""One exchange over aiohttp; the only module that knows its exceptions.

What decides is whether the request left, and that is not inferred from an
exception: the request's own body notes when aiohttp writes it. Headers alone
are no request, and aiohttp never sends a POST twice.
"""

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from aiophlo.addresses import mask_text
from aiophlo.outcomes import Reason
from aiophlo.wire import Answer, NoAnswer, Request

_WRITTEN_AT_ONCE = 0x8000  # aiohttp pauses between writes above twice this
_SHORTEST = 0.001  # aiohttp takes a timeout of 0 for none
# What proves, of a GET, that it never left.
_PROVES_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
    RuntimeError,  # the session is closed
)


class Departure(aiohttp.BytesPayload):
    """A request's body, which knows whether it left.

    Attributes:
        left: The body was handed to the network; until then nobody has got
            the request.
    """

    left = False

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write the body, and note that it leaves."""
        self.left = True
        try:
            await super().write_with_length(writer, content_length)
        except aiohttp.ClientConnectionResetError:
            # Raised before the first byte: the kept connection was closing.
            self.left = len(self._value) > _WRITTEN_AT_ONCE
            raise


class Transport:
    """Exchanges of one account.

    Args:
        session: The aiohttp session to use; not closed here.
        base_url: Where the API is, without a trailing slash.
        headers: Sent with every request, credentials among them; None where
            the session has them as its own.
        connect: Seconds to get a connection.
        answer_within: Seconds of silence, once the request has left, after
            which there is no answer; an answer that drips has `connect` more.
        proxy: URL of a proxy.
        tls: What to trust, instead of the system's certificates.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        headers: Mapping[str, str] | None,
        *,
        connect: float = 3.0,
        answer_within: float = 10.0,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._session = session
        self._base_url = base_url
        self._headers = headers
        self._connect = connect
        self._answer_within = answer_within
        self._proxy = proxy
        self._tls: ssl.SSLContext | bool = True if tls is None else tls
        self._timeout = self._timeout_for(connect)

    async def exchange(
        self, request: Request, departure: Departure, *, within: float
    ) -> Answer | NoAnswer:
        """Send `request` and return what came back; only a cancellation raises.

        Args:
            request: What to send.
            departure: Its body, which afterwards says whether it left.
            within: Seconds after which it need not leave any more.
        """
        timeout = self._timeout
        if within < self._connect:
            timeout = self._timeout_for(max(within, _SHORTEST))
        status = None
        departure.left = request.body is None  # a GET can't tell: assume the worst
        try:
            async with self._session.request(
                request.method,
                URL(self._base_url + request.path, encoded=True),
                data=None if request.body is None else departure,
                headers=self._headers,
                allow_redirects=False,
                raise_for_status=False,
                timeout=timeout,
                proxy=self._proxy,
                ssl=self._tls,
            ) as response:
                status = response.status
                return Answer(status, response.headers, await response.read())
        except Exception as error:  # noqa: BLE001 -- none may escape; each has a verdict
            return self._no_answer(error, request, departure, status)

    def _timeout_for(self, connect: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            connect=connect,
            sock_read=self._answer_within,
            total=connect + self._answer_within,
        )

    def _no_answer(
        self,
        error: Exception,
        request: Request,
        departure: Departure,
        status: int | None,
    ) -> NoAnswer:
        left = departure.left
        if request.body is None:
            left = not isinstance(error, _PROVES_NOT_SENT)
        reason = _why_in_doubt(error) if left else self._why_not_sent()
        detail = mask_text(f"{type(error).__name__}: {error}".removesuffix(": "))
        return NoAnswer(left, reason, detail, status)

    def _why_not_sent(self) -> Reason:
        return Reason.CLOSED if self._session.closed else Reason.UNREACHABLE


def departure_of(request: Request) -> Departure:
    """Return the body that goes with `request` and knows whether it left."""
    return Departure(request.body or b"", content_type="application/json")


def _why_in_doubt(error: Exception) -> Reason:
    match error:
        case asyncio.TimeoutError():
            return Reason.SILENT
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            return Reason.UNREADABLE  # a garbled answer bears a made-up status 400
        case aiohttp.ClientConnectionError() | OSError():
            return Reason.DISCONNECTED
    return Reason.UNKNOWN
