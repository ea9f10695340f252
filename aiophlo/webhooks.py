"""Webhook signatures: was this request made by Plivo, and for the first time?

Pure: no I/O and no clock of its own. What a request says is read by
`aiophlo.events`; ready handlers for web servers are in `aiophlo.receiving`.
"""

import base64
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

import attrs

from aiophlo.errors import InvalidInputError

NONCE_HEADER = "X-Plivo-Signature-V3-Nonce"
SIGNATURE_HEADERS = ("X-Plivo-Signature-V3", "X-Plivo-Signature-Ma-V3")


@attrs.define(init=False, repr=False, eq=False)
class NonceCache:
    """Remembers the nonces of accepted requests, so that none is accepted twice.

    Only nonces under a valid signature get in, so nobody without the token can
    push others out. When it is full, the oldest goes.

    Args:
        clock: Seconds that never go back, such as `time.monotonic`.
        size: Nonces to remember at most.
        keep_for: Seconds to remember each.

    Raises:
        InvalidInputError: `size` or `keep_for` is not positive.

    Source:
        Assumed: no timestamp is signed, so without this a request that was
        recorded once stays valid for as long as its token.
    """

    _clock: Callable[[], float]
    _size: int
    _keep_for: float
    _expiry: dict[str, float]

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        size: int = 10_000,
        keep_for: float = 3600.0,
    ) -> None:
        if size < 1 or keep_for <= 0:
            message = "size and keep_for: expected more than 0"
            raise InvalidInputError(message, field="size")
        self._clock = clock
        self._size = size
        self._keep_for = keep_for
        self._expiry = {}  # oldest first, for every nonce is kept equally long

    def __len__(self) -> int:
        """Return the number of nonces remembered."""
        return len(self._expiry)

    def __repr__(self) -> str:
        """Return the state without the nonces."""
        return f"<NonceCache {len(self)} of {self._size}>"

    def add(self, nonce: str) -> bool:
        """Remember `nonce`.

        Args:
            nonce: The nonce of a request whose signature is valid.

        Returns:
            Whether it is new; False means that the request is a replay.
        """
        now = self._clock()
        self._drop_expired(now)
        if nonce in self._expiry:
            return False
        if len(self._expiry) >= self._size:
            del self._expiry[next(iter(self._expiry))]
        self._expiry[nonce] = now + self._keep_for
        return True

    def forget(self, nonce: str) -> None:
        """Let `nonce` be used again, for a request that could not be handled.

        Args:
            nonce: What `add` was given; unknown ones are fine.
        """
        self._expiry.pop(nonce, None)

    def _drop_expired(self, now: float) -> None:
        while self._expiry:
            oldest = next(iter(self._expiry))
            if self._expiry[oldest] > now:
                return
            del self._expiry[oldest]


def verify_signature(
    method: str,
    url: str,
    headers: Mapping[str, str],
    params: Mapping[str, object] | None = None,
    *,
    auth_tokens: str | Iterable[str],
    public_url: str | None = None,
    nonces: NonceCache | None = None,
) -> bool:
    """Say whether Plivo signed this request with one of `auth_tokens`.

    Whatever else comes in, garbled, forged or of the wrong type, gives False.

    V3 writes body parameters without separators, so one signature fits every
    body whose keys and values run together to the same text. `nonces` keeps a
    recorded request from being sent again, whole or cut anew.

    Args:
        method: `GET` or `POST`, in any case.
        url: The URL as requested, query included.
        headers: The request's headers, names in any case; repeated ones are
            fine if the mapping's `items()` yields each.
        params: The decoded body of a POST; values are text, lists or mappings.
        auth_tokens: The auth token, or several: of the main account, of
            subaccounts, old and new during a rotation. Empty ones never match.
        public_url: The URL that Plivo calls, where a proxy changes it on the
            way. Its path replaces the requested one unless it is `/` or
            missing; the query is always the requested one.
        nonces: Refuses what was accepted before.

    Returns:
        Whether the request is genuine and, with `nonces`, new.

    Source:
        Plivo docs, "Signature validation"; plivo-python's `signature_v3.py`.
    """
    try:
        nonce = find_nonce(headers)
        message = _message(method, _seen_by_plivo(url, public_url), params, nonce)
        genuine = _any_matches(message, _tokens(auth_tokens), _signatures(headers))
    except (AttributeError, RecursionError, TypeError, ValueError):
        return False
    return genuine and (nonces is None or nonces.add(nonce))


def sign(
    method: str,
    url: str,
    params: Mapping[str, object] | None = None,
    *,
    nonce: str,
    auth_token: str,
) -> str:
    """Return the V3 signature of a request, to test a webhook without Plivo.

    Args:
        method: `GET` or `POST`, in any case.
        url: The URL that is called, query included.
        params: The body of a POST.
        nonce: Goes into the header `X-Plivo-Signature-V3-Nonce`.
        auth_token: The token to sign with.

    Returns:
        The value of the header `X-Plivo-Signature-V3`.

    Raises:
        InvalidInputError: The method, the URL, the nonce or the token is unusable.

    Source:
        plivo-python's `signature_v3.py`.
    """
    if not auth_token:
        raise InvalidInputError("auth_token: expected text", field="auth_token")
    try:
        message = _message(method, url, params, nonce)
    except UnicodeError as error:
        raise InvalidInputError("params: expected text that UTF-8 has") from error
    return _signature(message, auth_token).decode()


def split_url(url: str) -> SplitResult:
    """Return the parts of a webhook's URL.

    Args:
        url: The whole URL.

    Returns:
        Its parts.

    Raises:
        InvalidInputError: It isn't an `http` or `https` URL with a host.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidInputError("url: expected a URL", field="url") from error
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InvalidInputError("url: expected http(s)://host/…", field="url")
    return parts


def find_nonce(headers: Mapping[str, str]) -> str:
    """Return the nonce that a request was signed with.

    Args:
        headers: The request's headers, names in any case.

    Returns:
        The nonce.

    Raises:
        InvalidInputError: There is none, or more than one.
    """
    match [*_header(headers, NONCE_HEADER)]:
        case [nonce]:
            return nonce.strip()
    raise InvalidInputError(f"{NONCE_HEADER}: expected one", field="headers")


def is_signed(headers: Mapping[str, str]) -> bool:
    """Say whether a request bears a signature, valid or not.

    Args:
        headers: The request's headers, names in any case.

    Returns:
        Whether one of the V3 signature headers is there.
    """
    return any(True for name in SIGNATURE_HEADERS for _ in _header(headers, name))


def _header(headers: Mapping[str, str], name: str) -> Iterator[str]:
    wanted = name.lower()
    return (value for key, value in headers.items() if key.lower() == wanted)


def _signatures(headers: Mapping[str, str]) -> list[bytes]:
    values = [value for name in SIGNATURE_HEADERS for value in _header(headers, name)]
    parts = ",".join(values).split(",")
    return [part.strip().encode() for part in parts]


def _tokens(auth_tokens: str | Iterable[str]) -> list[str]:
    tokens = [auth_tokens] if isinstance(auth_tokens, str) else auth_tokens
    # Anybody can sign with an empty key.
    return [token for token in tokens if token]


def _any_matches(message: bytes, tokens: list[str], signatures: list[bytes]) -> bool:
    matches = False
    for token in tokens:
        expected = _signature(message, token)
        for signature in signatures:
            matches |= hmac.compare_digest(expected, signature)
    return matches


def _signature(message: bytes, token: str) -> bytes:
    return base64.b64encode(hmac.digest(token.encode(), message, "sha256"))


def _seen_by_plivo(url: str, public_url: str | None) -> str:
    if public_url is None:
        return url
    public, requested = split_url(public_url), split_url(url)
    path = requested.path if public.path in {"", "/"} else public.path
    return urlunsplit((public.scheme, public.netloc, path, requested.query, ""))


def _message(
    method: str, url: str, params: Mapping[str, object] | None, nonce: str
) -> bytes:
    if not nonce:
        raise InvalidInputError("nonce: expected text", field="nonce")
    return f"{_base_string(method.upper(), url, params or {})}.{nonce}".encode()


def _base_string(method: str, url: str, params: Mapping[str, object]) -> str:
    if method not in {"GET", "POST"}:
        raise InvalidInputError("method: expected GET or POST", field="method")
    parts = split_url(url)
    head = f"{parts.scheme}://{parts.netloc}{parts.path}"
    query = _grouped(parse_qsl(parts.query, keep_blank_values=True))
    body = _grouped(params.items())
    if method == "GET":
        query, body = {**body, **query}, {}
    written_query = _written(query, between="=", after="&")
    if not body:
        return f"{head}?{written_query}" if written_query else head
    dot = "." if written_query else ""
    return f"{head}?{written_query}{dot}{_written(body)}"


def _grouped(pairs: Iterable[tuple[str, object]]) -> dict[str, list[object]]:
    grouped: dict[str, list[object]] = {}
    for key, value in pairs:
        values = value if isinstance(value, list | tuple) else [value]
        grouped.setdefault(key, []).extend(values)
    return grouped


def _written(
    params: Mapping[str, list[object]], *, between: str = "", after: str = ""
) -> str:
    return after.join(
        f"{key}{between}{text}"
        for key in sorted(params)
        for text in sorted(_text(value) for value in params[key])
    )


def _text(value: object) -> str:
    return _written(_grouped(value.items())) if isinstance(value, dict) else str(value)
