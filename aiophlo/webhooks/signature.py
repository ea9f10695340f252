"""Webhook signatures (V3): verifies that a request is Plivo's, and no replay.

Pure: no I/O, and no clock but the one that `NonceCache` is given. What a request
says is read by `aiophlo.webhooks.events`; ready handlers for web servers are in
`aiophlo.webhooks.receiver`.
"""

import base64
import hmac
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from aiophlo.errors import InvalidInputError
from aiophlo.model.invalid_input import refuse
from aiophlo.webhooks.form_fields import iter_fields

NONCE_HEADER = "X-Plivo-Signature-V3-Nonce"
SIGNATURE_HEADERS = ("X-Plivo-Signature-V3", "X-Plivo-Signature-Ma-V3")
# No dot: V3 signs `base string + "." + nonce`. A nonce that may hold a dot could
# be begun anew at any dot of the fields, each time as one that no cache has seen.
# Without, what is signed has one nonce alone: all that follows its last dot.
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ID_NAME = re.compile(r"(?:call|conference)_?uuid$", re.IGNORECASE)
_SIGNED_ID = re.compile(
    rf"(?:call|conference)_?uuid=?{_UUID.pattern}(?=[a-z_&.]|$)", re.IGNORECASE
)


class NonceCache:
    """Remembers the nonces of accepted requests, so that none is accepted twice.

    Only nonces under a valid signature get in, so nobody without the token can
    push others out. When it is full, the oldest goes. What is forgotten, by a full
    cache, by time or by a restart, can be replayed.

    Args:
        clock: Seconds that never go back.
        size: Nonces to remember at most, at some 200 bytes each.
        keep_for: Seconds to remember each.

    Raises:
        InvalidInputError: `size` or `keep_for` is not positive.

    Source:
        Assumed: no timestamp is signed, so without this a request that was
        recorded once stays valid for as long as its token.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        size: int = 100_000,
        keep_for: float = 86_400.0,
    ) -> None:
        if size < 1 or keep_for <= 0:
            message = "size and keep_for: expected more than 0"
            raise InvalidInputError(message, field="size")
        self._clock = clock
        self._size = size
        self._keep_for = keep_for
        self._expiry: dict[str, float] = {}  # oldest first: all are kept equally long
        self._repeatable: dict[str, bytes] = {}

    def __len__(self) -> int:
        """Return the number of nonces remembered."""
        return len(self._expiry)

    def __repr__(self) -> str:
        """Return the state without the nonces."""
        return f"<NonceCache {len(self)} of {self._size}>"

    def add(self, nonce: str, request: bytes = b"") -> bool:
        """Remember `nonce`.

        Args:
            nonce: The nonce of a request whose signature is valid.
            request: What tells the request from others that bear the same
                signature, such as a digest of its fields.

        Returns:
            Whether it is new, or was allowed again for this very request; False
            means that the request is a replay.
        """
        now = self._clock()
        self._drop_expired(now)
        if nonce in self._expiry:
            if self._repeatable.get(nonce) != request:
                return False
            del self._repeatable[nonce]
            return True
        if len(self._expiry) >= self._size:
            self._drop(next(iter(self._expiry)))
        self._expiry[nonce] = now + self._keep_for
        return True

    def allow_again(self, nonce: str, request: bytes = b"") -> None:
        """Let a request that could not be handled come once more.

        Args:
            nonce: What `add` was given; unknown ones are fine.
            request: What `add` was given: another request that bears the same
                signature stays refused.
        """
        if nonce in self._expiry:
            self._repeatable[nonce] = request

    def _drop_expired(self, now: float) -> None:
        while self._expiry:
            oldest = next(iter(self._expiry))
            if self._expiry[oldest] > now:
                return
            self._drop(oldest)

    def _drop(self, nonce: str) -> None:
        del self._expiry[nonce]
        self._repeatable.pop(nonce, None)


def verify_signature(
    method: str,
    url: str,
    headers: Mapping[str, str],
    params: Mapping[str, object] | None = None,
    *,
    auth_tokens: str | Iterable[str],
    public_url: str | None = None,
    path_prefix: str = "",
    nonces: NonceCache | None = None,
) -> bool:
    """Say whether Plivo signed this request with one of `auth_tokens`.

    Whatever else comes in, garbled, forged or of the wrong type, gives False.

    V3 marks neither where a field begins nor where the query, the body and the
    nonce do, so one signature fits every request whose parts run together to the
    same text. All of them have the same nonce, since one with a dot is refused:
    `nonces` keeps a recorded request from being sent again, whole or cut anew.

    Args:
        method: `GET` or `POST`, in any case.
        url: The URL as requested, query included.
        headers: The request's headers, names in any case; repeated ones are
            fine if the mapping's `items()` yields each.
        params: The decoded body of a POST, in a mapping, or in what Starlette,
            werkzeug or Django keep forms in; values are text, lists or mappings.
        auth_tokens: The auth token, or several: of the main account, of
            subaccounts, old and new during a rotation. Empty ones never match.
        public_url: The URL that Plivo calls, where a proxy changes it on the
            way. Its path replaces the requested one unless it is `/` or
            missing; the query is always the requested one.
        path_prefix: What a proxy strips from the front of the path, such as
            `/plivo`; the requested path follows it.
        nonces: Refuses what was accepted before.

    Returns:
        Whether the request is genuine and, with `nonces`, new.

    Source:
        Plivo docs, "Signature validation"; plivo-python's `signature_v3.py`.
    """
    try:
        nonce = find_nonce(headers)
        messages = [
            _message(method, signed_url, params, nonce)
            for signed_url in _seen_by_plivo(url, public_url, path_prefix)
        ]
        genuine = _any_matches(messages, _tokens(auth_tokens), _signatures(headers))
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
        refuse("auth_token", "text")
    try:
        message = _message(method, url, params, nonce)
    except UnicodeError as error:
        raise InvalidInputError("params: expected text that UTF-8 has") from error
    return _signature(message, auth_token).decode()


def split_url(url: str) -> SplitResult:
    """Return the parts of a webhook's URL.

    Raises:
        InvalidInputError: It isn't an `http` or `https` URL with a host.
    """
    try:
        parts = urlsplit(url)
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidInputError("url: expected a URL", field="url") from error
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        refuse("url", "http(s)://host/…")
    return parts


def find_nonce(headers: Mapping[str, str]) -> str:
    """Return the nonce that a request was signed with.

    Raises:
        InvalidInputError: There is none, or more than one, or it isn't 1 to 64
            ASCII letters, digits, `_` and `-`.

    Source:
        Observed: Plivo's nonces are digits.
    """
    match [*_header(headers, NONCE_HEADER)]:
        case [nonce]:
            return _check_nonce(nonce.strip(), field="headers")
    raise InvalidInputError(f"{NONCE_HEADER}: expected one", field="headers")


def hides_an_id(query: Mapping[str, object], body: Mapping[str, object]) -> bool:
    """Say whether a call's id was signed that is no field any more.

    Only a request that was cut anew has such text, with the end of one field and
    the beginning of the next in it. Without its ids, an event of an old call would
    pass for one of a call that goes on. The nonce tells such a request only where
    it is remembered: not after a restart, and not in another process.

    Returns:
        Whether `call_uuid` or `conference_uuid`, in whatever spelling, stands
        before a UUID in what was signed, and is not a field with that value.
    """
    url, content = _grouped(query.items()), _grouped(iter_fields(body))
    text = f"{_written(url, between='=', after='&')}.{_written(content)}"
    shown = [
        name
        for name, values in (*url.items(), *content.items())
        for value in values
        if _ID_NAME.search(name) and _UUID.fullmatch(str(value))
    ]
    return len(_SIGNED_ID.findall(text)) > len(shown)


def _check_nonce(nonce: str, *, field: str) -> str:
    if not _NONCE.fullmatch(nonce):
        message = "nonce: expected 1 to 64 ASCII letters, digits, _ and -"
        raise InvalidInputError(message, field=field)
    return nonce


def is_signed(headers: Mapping[str, str]) -> bool:
    """Say whether a request bears a signature, valid or not."""
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


def _any_matches(
    messages: list[bytes], tokens: list[str], signatures: list[bytes]
) -> bool:
    matches = False
    for message, token in itertools.product(messages, tokens):
        expected = _signature(message, token)
        for signature in signatures:
            matches |= hmac.compare_digest(expected, signature)
    return matches


def _signature(message: bytes, token: str) -> bytes:
    return base64.b64encode(hmac.digest(token.encode(), message, "sha256"))


def _seen_by_plivo(url: str, public_url: str | None, path_prefix: str) -> list[str]:
    """Return the URLs, one of which Plivo has signed if it has signed any."""
    requested = split_url(url)
    scheme, netloc, path = requested.scheme, requested.netloc, requested.path
    path = path_prefix + path
    if public_url is not None:
        public = split_url(public_url)
        scheme, netloc = public.scheme, public.netloc
        path = path if public.path in {"", "/"} else public.path
    # A callback that is configured as `https://host` is requested with a slash and
    # may have been signed without one.
    paths = ["/", ""] if path in {"", "/"} else [path]
    return [urlunsplit((scheme, netloc, path, requested.query, "")) for path in paths]


def _message(
    method: str, url: str, params: Mapping[str, object] | None, nonce: str
) -> bytes:
    _check_nonce(nonce, field="nonce")
    return f"{_base_string(method.upper(), url, params or {})}.{nonce}".encode()


def _base_string(method: str, url: str, params: Mapping[str, object]) -> str:
    if method not in {"GET", "POST"}:
        refuse("method", "GET or POST")
    parts = split_url(url)
    head = f"{parts.scheme}://{parts.netloc}{parts.path}"
    query = _grouped(parse_qsl(parts.query, keep_blank_values=True))
    body = _grouped(iter_fields(params))
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
