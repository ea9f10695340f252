"""Receives webhooks: verifies and parses what Plivo posts, without I/O.

What carries requests here from a web server: `aiophlo.webhooks.servers`. Nothing of
it is imported by the rest of aiophlo.
"""

import base64
import binascii
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

import attrs

from aiophlo.errors import InvalidInputError
from aiophlo.instrumentation import Observers, check_observers
from aiophlo.logs import logger as _logger
from aiophlo.model.accounts import parse_auth_token
from aiophlo.model.invalid_input import refuse
from aiophlo.model.redaction import mask_error
from aiophlo.model.validation import check_count, check_seconds, check_type
from aiophlo.observed_events import Observer, WebhookReceived, WebhookResult
from aiophlo.webhooks.events import (
    Event,
    UnknownEvent,
    decode_body,
    decode_query,
    join_fields,
    parse_event,
)
from aiophlo.webhooks.signature import (
    NonceCache,
    find_nonce,
    hides_an_id,
    is_signed,
    split_url,
    verify_signature,
)


class Headers(Protocol):
    """What frameworks keep headers in; werkzeug's are no mapping."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Give each name with its value, or values; repeated ones may come apart."""


METHODS = ("GET", "POST")


def _sink(value: Callable[[Event], object]) -> Callable[[Event], object]:
    call = getattr(value, "__call__", None)  # noqa: B004 -- looked at, not called
    if not callable(value) or any(map(inspect.iscoroutinefunction, (value, call))):
        refuse("feed", "a plain function; a coroutine would never be awaited")
    return value


def _observers(value: Iterable[Observer]) -> tuple[Observer, ...]:
    return check_observers(value)  # its own annotations can't be resolved from here


def _tokens(value: str | Iterable[str]) -> tuple[str, ...]:
    if not isinstance(value, Iterable):
        refuse("auth_tokens", "a token, or several", value)
    tokens = (value,) if isinstance(value, str) else tuple(value)
    return tuple(parse_auth_token(token, field="auth_tokens") for token in tokens)


def _public_url(value: str | None) -> str | None:
    if value is not None:
        split_url(value)
    return value


def _path_prefix(value: str) -> str:
    check_type(value, str, "path_prefix")
    if value and (not value.startswith("/") or value.endswith("/")):
        refuse("path_prefix", "a path such as /plivo, without a slash at its end")
    return value


@attrs.frozen
class Receiver:
    """Verifies and parses webhook requests, and passes their events on.

    It has no lock: use it on one thread, and where `feed` is a router's, on the
    event loop of the pool. A framework that runs requests in threads hands each to
    that loop, as the page on services shows for Flask and Django.

    Attributes:
        feed: Gets each event, before the request is answered: a plain function
            that returns at once, such as a router's `feed`. What it returns is the
            id of the open handover that the event is about, if that is text; one
            that calls a router's may pass it on, for the observers. If it raises, Plivo
            is answered 500. By default it doesn't send the event again; with the
            fragment `#rp=ct,rt,5xx` at the end of the callback's URL it may.
        auth_tokens: Token, or tokens, of the accounts whose events come here.
        allow_unsigned: Also accept requests that bear no signature at all: then
            anybody who knows the URL can say who joined and left.
        public_url: The URL that Plivo calls, where a proxy changes it on the way;
            `https://cc.example.com` alone if the path stays.
        path_prefix: What a proxy strips from the front of the path, such as
            `/plivo`.
        nonces: Recognises requests that were accepted before, whole or cut anew;
            None lets them in. They are answered 200, so that nobody sends them
            again, and not fed: whoever recorded a request learns what they know
            already, and nothing happens.
        max_body: Bytes that a request's body may have.
        body_within: Seconds within which the handlers need to have all of a body.
        observers: Plain callables, such as the pool's, told of every request with a
            `WebhookReceived`. What one raises is logged once.

    Raises:
        InvalidInputError: A setting can't be right: `feed` is a coroutine
            function, or nothing could ever be accepted.

    Source:
        Plivo docs, callbacks of the Voice API: one repeat, and only after a
        connect or read time-out (`rp=ct,rt`), unless the URL's fragment says
        otherwise. Assumed: that PHLO honours the fragment. Whether event callbacks
        are signed isn't documented, hence `allow_unsigned`.
    """

    feed: Callable[[Event], object] = attrs.field(converter=_sink)
    auth_tokens: tuple[str, ...] = attrs.field(
        default=(),
        converter=_tokens,
        kw_only=True,
        repr=lambda tokens: f"<{len(tokens)}>",
    )
    allow_unsigned: bool = attrs.field(default=False, kw_only=True)
    public_url: str | None = attrs.field(
        default=None, converter=_public_url, kw_only=True
    )
    path_prefix: str = attrs.field(default="", converter=_path_prefix, kw_only=True)
    nonces: NonceCache | None = attrs.field(factory=NonceCache, kw_only=True)
    max_body: int = attrs.field(default=64 * 1024, kw_only=True)
    body_within: float = attrs.field(default=10.0, kw_only=True)
    observers: tuple[Observer, ...] = attrs.field(
        default=(), converter=_observers, kw_only=True, repr=False
    )
    _observed: Observers = attrs.field(init=False, repr=False, eq=False)

    @_observed.default
    def _told(self) -> Observers:
        return Observers(self.observers)

    def __attrs_post_init__(self) -> None:
        check_type(self.allow_unsigned, bool, "allow_unsigned")  # "false" is true
        if not self.auth_tokens and not self.allow_unsigned:
            refuse("auth_tokens", "one at least, or allow_unsigned=True")
        check_count(self.max_body, "max_body")
        check_seconds(self.body_within, "body_within")

    def receive(
        self,
        method: str,
        url: str,
        headers: Headers | None,
        body: bytes | str | None = b"",
        *,
        is_base64: bool = False,
    ) -> HTTPStatus:
        """Pass a request's event on, and say how to answer.

        For web frameworks that neither handler fits, and for serverless gateways.

        Args:
            method: The request's method, in any case.
            url: Its URL with query, as it was received: not decoded and written
                again, as Flask's `request.url` is (see `wsgi_url`, `asgi_url`).
            headers: Its headers, names in any case; values are text, or lists of it.
            body: Its body, decompressed; text stands for its UTF-8.
            is_base64: Whether `body` is written in base64, as a gateway's
                `isBase64Encoded` says.

        Returns:
            200 once the event is passed on, or if it was before; 400 for a body
            or query that is neither form nor JSON object, 403 without a valid
            signature, 405 for other methods than GET and POST, 413 for too large a
            body, 500 if `feed` raised, or if the body had been read by something
            else before and is not there any more.
        """
        method = str(method).upper()
        if method not in METHODS:
            return self._refused(HTTPStatus.METHOD_NOT_ALLOWED)
        heads = _joined(headers)
        try:
            content = _bytes(body, is_base64=is_base64)
            if len(content) > self.max_body:
                return self.not_received(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            query = decode_query(split_url(url).query)
            params = _params(method, heads, content)
        except InvalidInputError as error:
            _logger.warning("an event was refused: %s", error)
            return self.not_received(HTTPStatus.BAD_REQUEST)
        if method == "POST" and not content and _announces_body(heads):
            _logger.warning(
                "an event was lost: its body was read before it came here, and is"
                " gone (let no middleware read it, or let it keep the bytes)"
            )
            return self.not_received(HTTPStatus.INTERNAL_SERVER_ERROR)
        event = parse_event(join_fields(query, params))
        nonce = ""
        if not self.allow_unsigned or (self.auth_tokens and is_signed(heads)):
            is_genuine = self._is_genuine(method, url, heads, params)
            if not is_genuine or _is_cut_anew(event, query, params):
                return self._refused(HTTPStatus.FORBIDDEN)
            nonce = find_nonce(heads)
        return self._pass_on_once(event, nonce, _digest(method, url, params))

    def _refused(self, status: HTTPStatus) -> HTTPStatus:
        """Tell of a request that may be anybody's, and return how it is answered."""
        self._observed.tell(WebhookReceived(None, result=WebhookResult.REFUSED))
        return status

    def _tell(self, event: Event, result: WebhookResult, about: object = None) -> None:
        """Tell of an event, and of the handover that `feed` says it is about."""
        if self._observed.listening:
            handovers = (about,) if isinstance(about, str) else ()
            place = event.conference_uuid or event.call_uuid or ""
            self._observed.tell(WebhookReceived(event, place, handovers, result))

    def _is_genuine(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        params: Mapping[str, object],
    ) -> bool:
        if verify_signature(
            method,
            url,
            headers,
            params,
            auth_tokens=self.auth_tokens,
            public_url=self.public_url,
            path_prefix=self.path_prefix,
        ):
            return True
        _logger.warning(
            "an event was refused: its V3 signature is missing or wrong"
            " (behind a proxy, give the receiver its public_url)"
        )
        return False

    def _pass_on_once(self, event: Event, nonce: str, request: bytes) -> HTTPStatus:
        """Pass an event on, unless its nonce, if it was signed, is known."""
        nonces = self.nonces if nonce else None
        if nonces is not None and not nonces.add(nonce, request):
            _logger.info("an event came again, and is not fed twice: %r", event)
            self._tell(event, WebhookResult.REPEATED)
            return HTTPStatus.OK
        try:
            about = self.feed(event)
        except Exception as error:  # noqa: BLE001 -- it is logged, and asked for again
            told = mask_error(error)
            _logger.error("%r could not be handled: %s", event, told)
            if nonces is not None:
                nonces.allow_again(nonce, request)
            self._tell(event, WebhookResult.FAILED)
            return HTTPStatus.INTERNAL_SERVER_ERROR
        self._tell(event, WebhookResult.FED, about)
        return HTTPStatus.OK

    def not_received(self, status: HTTPStatus) -> HTTPStatus:
        """Say that a request's body could not be had, where a handler reads it.

        Args:
            status: 408 for one that took longer than `body_within`, 413 for one of
                more than `max_body` bytes, 400 for one that was cut off.

        Returns:
            The same, to answer with.
        """
        if status == HTTPStatus.REQUEST_TIMEOUT:
            _logger.warning(
                "an event was refused: its body did not come within %g s, or was read"
                " by something else before",
                self.body_within,
            )
        self._observed.tell(WebhookReceived(None, result=WebhookResult.UNREADABLE))
        return status


def _bytes(body: bytes | str | None, *, is_base64: bool) -> bytes:
    try:
        content = body.encode() if isinstance(body, str) else bytes(body or b"")
        return base64.b64decode(content, validate=True) if is_base64 else content
    except (binascii.Error, TypeError, UnicodeError) as error:
        kind = "base64" if is_base64 else "text that UTF-8 has"
        raise InvalidInputError(f"body: expected {kind}", field="body") from error


def _joined(headers: Headers | None) -> dict[str, str]:
    """Return headers by lower-case names, the values of repeated ones joined."""
    joined: dict[str, str] = {}
    for name, value in () if headers is None else headers.items():
        values = value if isinstance(value, list | tuple) else [value]
        for text in values:
            if isinstance(name, str) and isinstance(text, str):
                key = name.lower()
                joined[key] = f"{joined[key]},{text}" if key in joined else text
    return joined


def _announces_body(headers: Mapping[str, str]) -> bool:
    length = headers.get("content-length", "0").strip()
    return "transfer-encoding" in headers or length.strip("0") != ""


def _params(method: str, headers: Mapping[str, str], body: bytes) -> dict[str, object]:
    if method == "GET" or not body:
        return {}
    return decode_body(body, headers.get("content-type", ""))


def _is_cut_anew(
    event: Event, query: Mapping[str, object], params: Mapping[str, object]
) -> bool:
    # What is unknown moves no handover, and may have ids deep in a document.
    if isinstance(event, UnknownEvent) or not hides_an_id(query, params):
        return False
    _logger.warning(
        "an event was refused: it is a recorded one whose fields were cut anew: %r",
        event,
    )
    return True


def _digest(method: str, url: str, params: Mapping[str, object]) -> bytes:
    """Tell a request from others that bear the same signature."""
    parts = repr((method, url, params)).encode(errors="backslashreplace")
    return hashlib.blake2b(parts, digest_size=16).digest()
