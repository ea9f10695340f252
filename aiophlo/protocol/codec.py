"""Encodes an action as a request, and decodes an answer to its verdict.

Pure and total: every action has a request, and whatever comes back, any
status, headers and bytes, has exactly one verdict.
"""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NoReturn
from urllib.parse import quote

import attrs
from multidict import CIMultiDictProxy, istr

from aiophlo.model.actions import (
    Action,
    DialAction,
    GetNode,
    GetPhlo,
    MemberAction,
    RunPhlo,
)
from aiophlo.model.invalid_input import InvalidInputError
from aiophlo.model.lazy_regex import lazy_compile
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.model.redaction import mask_text, masked_repr

_dumps = json.JSONEncoder(separators=(",", ":")).encode
# What RFC 3986 lets stand in a path segment besides letters, digits, `_.-~`.
_SEGMENT = "!$&'()*+,;=:@"
_TEXT_LENGTH = 500  # of an error: enough to read
_ID_LENGTH = 128
_REQUEST_ID = istr("X-Request-ID")
_BOM = b"\xef\xbb\xbf"
_WHITESPACE = " \t\n\r"  # JSON's
_SECONDS = lazy_compile(r"-?[0-9]+(?:\.[0-9]*)?")


# The refusals that Plivo documents, and those that its SDKs know.
_REFUSALS = frozenset({400, 401, 403, 404, 405, 409, 422})
_DOUBTS = {
    **dict.fromkeys((301, 302, 303), Reason.REDIRECTED),
    408: Reason.SILENT,  # Request Timeout
}
_DOUBTS_BY_CLASS = {2: Reason.UNREADABLE, 5: Reason.SERVER_ERROR}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that comes twice says two things")
    return found


_json = json.JSONDecoder(
    parse_constant=_refuse_constant, object_pairs_hook=_each_key_once
)


_repr_text = masked_repr(mask_text)


def _repr_bytes(content: bytes | None) -> str:
    return repr(content) if content is None else f"<{len(content)} bytes>"


@attrs.define
class Request:
    """One HTTP request, but for its host and credentials.

    Attributes:
        method: `GET` or `POST`.
        path: Below the base URL, percent-encoded, begins with `/`.
        body: JSON, or None for a GET.
    """

    method: Literal["GET", "POST"]
    path: str = attrs.field(repr=_repr_text)
    body: bytes | None = attrs.field(default=None, repr=_repr_bytes)


@attrs.define
class Answer:
    """One complete HTTP answer.

    Attributes:
        status: The HTTP status.
        headers: Its headers, by name in any case.
        body: The bytes that followed.
        by_proxy: It came through a proxy that can read it, and so write it.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=_repr_bytes)
    by_proxy: bool = attrs.field(default=False, repr=False)


@attrs.define
class NoAnswer:
    """The lack of an answer, and what is known about it.

    Attributes:
        left: The request may have reached Plivo; False is proved.
        reason: What happened.
        detail: The connection's own words, for people.
        status: HTTP status, if that much of an answer came.
    """

    left: bool
    reason: Reason
    detail: str = attrs.field(default="", repr=_repr_text)
    status: int | None = None


def encode(action: Action, *, auth_id: str, trailing_slash: bool = False) -> Request:
    """Return the request for `action`.

    Args:
        action: What is asked.
        auth_id: Account that runs a PHLO; other actions don't name one.
        trailing_slash: End the path of a POST in `/`, as plivo-python does.

    Raises:
        InvalidInputError: `action` is none of this library's actions.

    Source:
        Plivo docs, "PHLO API"; the conference bridge and the GETs of PHLOs
        and nodes from plivo-python.
    """
    if action.reads:
        return Request("GET", _get_path(action, auth_id))
    path, body = _post(action, auth_id)
    return Request("POST", f"{path}/" if trailing_slash else path, body.encode())


def _get_path(action: Action, auth_id: str) -> str:
    if isinstance(action, GetPhlo):
        return f"/phlo/{action.phlo_id}"
    if isinstance(action, GetNode):
        return f"/phlo/{action.phlo_id}/{action.node_type}/{action.node_id}"
    from aiophlo.protocol.call_query_path import path_of  # noqa: PLC0415 -- few ever look

    return path_of(action, auth_id)


def _post(action: Action, auth_id: str) -> tuple[str, str]:
    if isinstance(action, RunPhlo):
        return f"/account/{auth_id}/phlo/{action.phlo_id}", action.parameters.text
    # A verb, a role and an address hold nothing that JSON would escape.
    if action.verb and isinstance(action, DialAction):
        body = (
            f'{{"action":"{action.verb}","to":"{action.to}","role":"{action.role}",'
            f'"trigger_source":"{action.trigger_source}"}}'
        )
        return f"/phlo/{action.phlo_id}/{action.node_type}/{action.node_id}", body
    if action.verb and isinstance(action, MemberAction):
        member = quote(action.member, safe=_SEGMENT)
        node = f"/phlo/{action.phlo_id}/{action.node_type}/{action.node_id}"
        return f"{node}/members/{member}", f'{{"action":"{action.verb}"}}'
    message = f"action: expected one of aiophlo's actions, got {type(action).__name__}"
    raise InvalidInputError(message, field="action")


def decode(
    action: Action,
    answer: Answer | NoAnswer,
    *,
    now: Callable[[], float],
    attempts: int = 1,
    seconds: float = 0.0,
    waited: float = 0.0,
) -> Outcome:
    """Return the verdict on one attempt at `action`; never raises.

    Args:
        action: What was asked.
        answer: What came back.
        now: Unix time, for a Retry-After date without a Date header.
        attempts: Requests begun for the action so far.
        seconds: Seconds since the action was asked for.
        waited: Seconds of these before this attempt had its slot.

    A refusal that Plivo documents is one even where it comes with a page instead of
    JSON: what stands before its application says so of wrong credentials or of a
    method, before anything is dialled. Any other 4xx is only believed with JSON of
    Plivo's shape, since whatever stands on the way can say it, and so is every answer
    that came through a proxy that can write it.

    Source:
        Plivo docs, "Status codes"; 403, 409 and 422 from the SDKs. Assumed: a 2xx
        whose `error` is not empty is a refusal, and a 429 ("blocked") dials nobody.
    """
    known: dict[str, Any] = {
        "action": action,
        "attempts": attempts,
        "seconds": seconds,
        "waited": waited,
        "status": answer.status,
    }
    if isinstance(answer, NoAnswer):
        error = answer.detail.strip()[:_TEXT_LENGTH] or None
        verdict = InDoubt if answer.left else NotSent
        return verdict(**known, reason=answer.reason, error=error)
    status = answer.status
    known["request_id"] = _request_id(answer.headers)
    body = _json_object(answer.body)
    known["error"] = error = _error_text(body)
    if body:
        known["body"] = body
        known["api_id"] = _api_id(body)
    is_plivos = body is not None and ("api_id" in body or "error" in body)
    by_proxy = answer.by_proxy and not is_plivos
    if 200 <= status < 300 and not by_proxy:  # noqa: PLR2004 -- HTTP's success range
        if error is not None:
            return Rejected(**known)
        if body is not None or status == 204:  # noqa: PLR2004 -- No Content
            return Accepted(**known)
    elif status == 429 and not by_proxy:  # noqa: PLR2004 -- Too Many Requests
        wait = retry_after(answer.headers, now=now)
        return NotSent(**known, reason=Reason.THROTTLED, retry_after=wait)
    reason = _doubt(status, is_plivos=is_plivos)
    if by_proxy:
        reason = reason or Reason.UNREADABLE
    return Rejected(**known) if reason is None else InDoubt(**known, reason=reason)


def _doubt(status: int, *, is_plivos: bool) -> Reason | None:
    """Say why an answer that is neither a yes nor a 429 leaves a doubt, if it does."""
    if status in {307, 308}:  # "ask elsewhere": it was not carried out here
        return None
    if 400 <= status < 500 and status != 408:  # noqa: PLR2004 -- HTTP's refusals
        known = is_plivos or status in _REFUSALS
        return None if known else Reason.UNREADABLE
    return _DOUBTS.get(status) or _DOUBTS_BY_CLASS.get(status // 100, Reason.UNKNOWN)


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        text = content.removeprefix(_BOM).decode().strip(_WHITESPACE)
        value, end = _json.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and end == len(text) else None


def _error_text(body: Mapping[str, Any] | None) -> str | None:
    """Return what `error` says; None where it is missing, null or empty."""
    error: object = body.get("error") if body else None
    if not error:
        return None
    if not isinstance(error, str):
        try:
            error = _dumps(error)
        except RecursionError:
            return "an error too deeply nested to show"
    return error.strip()[:_TEXT_LENGTH] or None


def _api_id(body: Mapping[str, Any] | None) -> str | None:
    return _id(body.get("api_id") if body else None)


def _request_id(headers: Mapping[str, str]) -> str | None:
    """Return what an answer's `X-Request-ID` says.

    Source:
        Plivo's own command line, which reports it. Whether the PHLO API sends it is
        unknown.
    """
    if isinstance(headers, CIMultiDictProxy):  # aiohttp's: ten times as fast
        return _id(headers.get(_REQUEST_ID))
    return _id(_header(headers, "x-request-id"))


def _id(value: object) -> str | None:
    if not isinstance(value, str) or len(value) > _ID_LENGTH:
        return None
    return value if value.isprintable() and value.strip() else None


def retry_after(
    headers: Mapping[str, str], *, now: Callable[[], float]
) -> float | None:
    """Return the seconds that an answer's Retry-After asks to wait.

    Args:
        headers: The answer's headers.
        now: Unix time, used for a date where the answer has no Date header.

    Returns:
        Seconds, 0 or more; None where there is no such header, or no sense in it.

    Source:
        RFC 9110, 10.2.3. Whether Plivo sends it is unknown.
    """
    value = (_header(headers, "retry-after") or "").strip()
    if _SECONDS.fullmatch(value):
        seconds = float(value)
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    until = _unix_time(value)
    if until is None:
        return None
    sent = _unix_time(_header(headers, "date") or "")
    return max(until - (now() if sent is None else sent), 0.0)


def _header(headers: Mapping[str, str], name: str) -> str | None:
    for key, value in headers.items():
        if key.lower() == name:
            return value
    return None


def _unix_time(text: str) -> float | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:  # asctime's form names no zone: HTTP's is always GMT
        when = when.replace(tzinfo=UTC)
    return when.timestamp()
