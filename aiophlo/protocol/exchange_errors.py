"""What an exception of an exchange says about it."""

import asyncio

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from aiophlo.model.outcomes import Reason
from aiophlo.model.redaction import mask_exchange_error
from aiophlo.protocol.answer_body import TooLongError
from aiophlo.protocol.connect_errors import describe_connect_error
from aiophlo.protocol.tracked_request import TrackedRequest

_LONGEST_DETAIL = 300


def is_callers(error: BaseException) -> bool:
    """Say whether the caller was cancelled.

    A session that is closed cancels whoever waits for one of its connections,
    which is no wish of the caller's.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def has_ended(error: BaseException) -> bool:
    """Say whether there was a connection, and it had ended before the request left."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return False  # there was none
    if isinstance(error.__cause__, ConnectionAbortedError):
        return False  # we ended it
    return isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)


def why_in_doubt(error: BaseException) -> Reason:
    """Say why there is no clear answer to a request that left."""
    match error:
        case TimeoutError():
            return Reason.SILENT
        case (
            HttpProcessingError()
            | aiohttp.ClientPayloadError()
            | aiohttp.ClientResponseError()  # garbled, it bears a made-up status 400
        ):
            return Reason.UNREADABLE
        case aiohttp.ClientConnectionError() | OSError():
            return Reason.DISCONNECTED
    return Reason.UNKNOWN


def was_lost(tracked: TrackedRequest, error: BaseException) -> bool:
    """Say whether the other side ended a connection without a byte of an answer."""
    if not tracked.left or tracked.silent or tracked.status is not None:
        return False
    return why_in_doubt(error) is Reason.DISCONNECTED


def describe_exchange_error(error: BaseException, *, api: URL, proxy: str) -> str:
    """Name `error` in this machine's own words.

    What the other side wrote is left out: it may quote our request.

    Args:
        error: What was raised.
        api: Where the API is.
        proxy: Host and port of the proxy, empty if that is not known.
    """
    words = describe_connect_error(error, api=api, proxy=proxy)
    if not words and isinstance(error, aiohttp.ClientError):
        words = _describe_client_error(error)
    elif not words and not isinstance(error, HttpProcessingError):
        words = mask_exchange_error(str(error))
    return f"{type(error).__name__}: {words}".removesuffix(": ")[:_LONGEST_DETAIL]


def _describe_client_error(error: aiohttp.ClientError) -> str:
    cause = error.__cause__
    if isinstance(error, TooLongError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return mask_exchange_error(str(error))
    if isinstance(cause, ConnectionError) and cause.errno is None:
        return mask_exchange_error(str(cause))  # why the body wasn't written
    return "" if cause is None else type(cause).__name__
