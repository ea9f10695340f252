"""One exchange over aiohttp; the only module that knows its exceptions.

What decides is whether the request left, and that is not inferred from an
exception: the request's own body notes when aiohttp writes it. Headers alone
are no request, and aiohttp never sends a POST twice.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from yarl import URL

from aiophlo.addresses import mask_text
from aiophlo.answer_timer import AnswerTimer
from aiophlo.outcomes import Reason
from aiophlo.wire import Answer, NoAnswer, Request

LONGEST_BODY = 1 << 20  # bytes; an answer of this API has some hundred

# What proves, of a GET, that it never left. One that aiohttp sent again after
# a kept connection died may be among them: it rings nothing.
_PROVES_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
# A URL may hold a member's address, an auth_id or a proxy's password.
_PRIVATE = re.compile(r"\S+://\S*|\S+@\S+")
_LONGEST_DETAIL = 300


class Departure(aiohttp.BytesPayload):
    """A request's body, which knows whether it left.

    Attributes:
        left: The body was handed to the network; until then nobody has got
            the request. Once set, it stays.
        may_leave: Asked, if there is one, in the moment of leaving.
        timer: Ends the wait for the answer, if there is one.
        response: The answer, once its headers are there.
        silent: There was no answer in time.
    """

    left = False
    may_leave: Callable[[], bool] | None = None
    timer: AnswerTimer | None = None
    response: aiohttp.ClientResponse | None = None
    silent = False
    _connection: asyncio.WriteTransport | None = None

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
            ConnectionAbortedError: It may not leave any more.
        """
        if self.may_leave is not None and not self.may_leave():
            raise ConnectionAbortedError("it may not leave any more")
        if not isinstance(writer, StreamWriter):
            self.left = True
        elif (connection := writer.transport) and not connection.is_closing():
            self.left = True  # else the write is sure to fail before its first byte
            self._connection = connection
            if self.timer is not None:
                self.timer.begin(self)
        await writer.write(self._value)

    def end(self) -> None:
        """Take note that no answer is waited for any more."""
        if self.timer is not None:
            self.timer.end(self)

    def give_up(self) -> None:
        """End the wait for the answer, unless all of it is there.

        The connection is this request's own until then, and may be another's after.
        """
        complete = self.response is not None and self.response.connection is None
        if self._connection is not None and not complete:
            self.silent = True
            self._connection.abort()


class Transport:
    """Exchanges of one account.

    Args:
        session: The aiohttp session to use; not closed here. Its middlewares
            are not run: one that repeats a request would dial twice.
        base_url: Where the API is, without a trailing slash.
        headers: Sent with every request, credentials among them; None where
            the session has them as its own.
        connect: Seconds to get a connection.
        answer_within: Seconds that a whole answer may take, once the request
            has left. One to a GET, or over a lent session, is given up after so
            many seconds of silence, and `connect` more if it drips.
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
        self._connect = connect
        self._answer_within = answer_within
        self._timer = None
        if headers is None:
            self._timer = AnswerTimer(asyncio.get_running_loop(), answer_within)
        options: dict[str, Any] = {"allow_redirects": False}
        if proxy is not None:
            options["proxy"] = proxy
        if tls is not None:
            options["ssl"] = tls
        self._get_options = self._post_options = options
        if headers is not None:  # a borrowed session, which may have other defaults
            options |= {"raise_for_status": False, "middlewares": ()}
            as_json = {**headers, "Content-Type": "application/json"}
            self._get_options = {**options, "headers": headers}
            self._post_options = {**options, "headers": as_json}
        self._get_options = self._bounded(self._get_options, connect, is_get=True)
        self._post_options = self._bounded(self._post_options, connect, is_get=False)

    async def exchange(
        self, request: Request, departure: Departure, *, within: float
    ) -> Answer | NoAnswer:
        """Send `request` and return what came back; only a cancellation raises.

        Args:
            request: What to send.
            departure: Its body, which afterwards says whether it left.
            within: Seconds after which it need not leave any more.
        """
        if self._session.closed:
            return NoAnswer(left=False, reason=Reason.CLOSED)
        if within <= 0:
            return NoAnswer(left=False, reason=Reason.EXPIRED)
        in_time, is_get = within >= self._connect, request.body is None
        departure.left = is_get  # a GET can't tell: assume the worst
        departure.timer = self._timer
        options = self._get_options if is_get else self._post_options
        if not in_time:
            options = self._bounded(options, within, is_get=is_get)
        response = status = None
        try:
            response = departure.response = await self._session.request(
                request.method,
                URL(self._base_url + request.path, encoded=True),
                data=None if is_get else departure,
                **options,
            )
            status = response.status
            body = await _read(response, departure)
            if body is None:
                response.close()
                return _too_long(status)
            return Answer(status, response.headers, body)
        except (Exception, asyncio.CancelledError) as error:
            if response is not None:
                response.close()  # read to its end, it is done with its connection
            if _is_callers(error):
                raise
            left = departure.left
            if is_get:
                left = not isinstance(error, _PROVES_NOT_SENT)
            if departure.silent:
                waited = f"no answer within {self._answer_within:g} s"
                return NoAnswer(left, Reason.SILENT, waited, status)
            why = _why_in_doubt(error) if left else self._why_not_sent(error, in_time)
            return NoAnswer(left, why, _describe(error), status)
        finally:
            departure.end()

    def _bounded(
        self, options: Mapping[str, Any], connect: float, *, is_get: bool
    ) -> dict[str, Any]:
        """Return `options` with the bounds that aiohttp has to keep.

        A POST's answer is timed here. Who lends a session may have it do more
        besides: what goes before and after an exchange is bounded, too.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=connect)
        if is_get or self._timer is None:
            timeout = aiohttp.ClientTimeout(
                connect=connect,
                sock_read=self._answer_within,
                total=connect + self._answer_within,
            )
        return {**options, "timeout": timeout}

    def _why_not_sent(self, error: BaseException, in_time: bool) -> Reason:  # noqa: FBT001 -- private
        if self._session.closed:
            return Reason.CLOSED
        if isinstance(error, TimeoutError) and not in_time:
            return Reason.EXPIRED  # it was given less than `connect`
        return Reason.UNREACHABLE


def departure_of(request: Request) -> Departure:
    """Return the body that goes with `request` and knows whether it left."""
    return Departure(request.body or b"", content_type="application/json")


async def _read(response: aiohttp.ClientResponse, departure: Departure) -> bytes | None:
    """Return the body, or None where it is longer than any answer can be.

    Raises:
        TimeoutError: It would have ended with the connection, and we ended that.
    """
    content = response.content
    blocks = [await content.readany()]  # nearly always all there is
    room = LONGEST_BODY - len(blocks[0])
    while room >= 0 and not content.at_eof():
        blocks.append(await content.readany())
        room -= len(blocks[-1])
    if departure.silent and not _says_how_long(response):
        raise TimeoutError
    return b"".join(blocks) if room >= 0 else None


def _says_how_long(response: aiohttp.ClientResponse) -> bool:
    headers = response.headers
    return "Content-Length" in headers or "Transfer-Encoding" in headers


def _too_long(status: int) -> NoAnswer:
    detail = f"an answer of more than {LONGEST_BODY >> 20} MiB"
    return NoAnswer(left=True, reason=Reason.UNREADABLE, detail=detail, status=status)


def _is_callers(error: BaseException) -> bool:
    """Say whether the caller was cancelled.

    A session that is closed cancels whoever waits for one of its connections,
    which is no wish of the caller's.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _why_in_doubt(error: BaseException) -> Reason:
    match error:
        case TimeoutError():
            return Reason.SILENT
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            return Reason.UNREADABLE  # a garbled answer bears a made-up status 400
        case aiohttp.ClientConnectionError() | OSError():
            return Reason.DISCONNECTED
    return Reason.UNKNOWN


def _describe(error: BaseException) -> str:
    """Name `error` in this machine's own words.

    What the other side wrote is left out: it may quote our request.
    """
    if isinstance(error, aiohttp.ClientHttpProxyError):
        words = f"status {error.status}"
    elif isinstance(error, aiohttp.ClientError) and not isinstance(error, OSError):
        cause = error.__cause__
        words = "" if cause is None else type(cause).__name__
    else:
        words = mask_text(_PRIVATE.sub("…", str(error)))
    return f"{type(error).__name__}: {words}".removesuffix(": ")[:_LONGEST_DETAIL]
