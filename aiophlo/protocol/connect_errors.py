"""Translates aiohttp's connection errors: why a request did not leave."""

import asyncio
import errno
import os
import socket
import ssl

import aiohttp
from yarl import URL

from aiophlo.model.outcomes import Reason
from aiophlo.model.redaction import mask_text

_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_NO_SUCH_HOST = frozenset(
    {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
)
# A proxy that says so to a CONNECT may say otherwise a moment later.
_PASSING = frozenset({408, 425, 429})
# What is neither a network's nor the end of a session is a fault: ours, or of whoever
# replaced what sends.
_FORESEEN = (aiohttp.ClientError, OSError, asyncio.CancelledError)


class PlaintextProxyError(ConnectionAbortedError):
    """A proxy would read the account's credentials."""


def why_not_connected(error: BaseException) -> Reason:
    """Say why there was no connection for a request."""
    if _is_out_of_files(error):
        return Reason.OUT_OF_FILES
    if _is_lasting(error):
        return Reason.MISCONFIGURED
    return Reason.UNREACHABLE if isinstance(error, _FORESEEN) else Reason.UNKNOWN


def _is_out_of_files(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NO_FILES:
            return True
        cause = cause.__cause__
    # A name can't be looked up then, either, and that error doesn't say why.
    return isinstance(error, aiohttp.ClientConnectorError) and not _has_free_file()


def _has_free_file() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in _NO_FILES
    return True


def _is_lasting(error: BaseException) -> bool:
    """Say whether a further try would come to the same."""
    match error:
        case aiohttp.ClientHttpProxyError(status=status):
            return status < 500 and status not in _PASSING  # noqa: PLR2004 -- HTTP's server errors
        case aiohttp.ClientConnectorDNSError():
            return error.os_error.errno in _NO_SUCH_HOST
        case (
            aiohttp.ClientConnectorCertificateError()
            | aiohttp.ServerFingerprintMismatch()
            | aiohttp.InvalidURL()
            | UnicodeError()  # no name can be so
        ):
            return True
    return isinstance(error, PlaintextProxyError) or isinstance(
        error.__cause__, PlaintextProxyError
    )


def describe_connect_error(error: BaseException, *, api: URL, proxy: str) -> str:
    """Say what kept a request from leaving; empty where nothing special is known.

    Args:
        error: What aiohttp raised.
        api: Where the API is.
        proxy: Host and port of the proxy, empty if that is not known.
    """
    match error:
        case aiohttp.ClientHttpProxyError(status=status):
            return f"the proxy {proxy} refused to connect, status {status}".replace(
                "  ", " "
            )
        case aiohttp.ConnectionTimeoutError():
            through = f" through the proxy {proxy}" if proxy else ""
            return f"no connection to {place_of(api)}{through} in time"
        case aiohttp.ServerFingerprintMismatch():
            return f"{error.host}:{error.port} has another certificate"
        case aiohttp.ClientConnectorError():
            return _describe(error, api)
    return ""


def place_of(url: URL) -> str:
    """Return the host and port of a URL, without credentials."""
    return f"{url.raw_host}:{url.port}"


def _describe(error: aiohttp.ClientConnectorError, api: URL) -> str:
    place = f"{error.host}:{error.port}"
    is_proxy = isinstance(error, aiohttp.ClientProxyConnectionError)
    if is_proxy or place != place_of(api):
        place = f"the proxy {place}"
    cause = _cause(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"cannot find {place} ({cause})"
    return f"cannot connect to {place} ({cause})"


def _cause(error: aiohttp.ClientConnectorError) -> str:
    cause: BaseException = error.os_error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        # The name that the certificate should have had is the host's own.
        return f"its certificate: {getattr(cause, 'verify_message', '') or 'unfit'}"
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or "TLS failed").replace("_", " ").lower()
    number = getattr(cause, "errno", None)
    if number and number > 0 and not isinstance(cause, socket.gaierror):
        return os.strerror(number)
    words = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return mask_text(words)
