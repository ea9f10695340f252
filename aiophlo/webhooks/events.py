"""Events that Plivo posts while a call runs: their types, and how they are parsed.

Pure: no I/O. `aiophlo.webhooks.signature` checks that they come from Plivo.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import attrs

from aiophlo.errors import InvalidAddressError, InvalidInputError
from aiophlo.model.address_matching import WITHHELD, party_keys
from aiophlo.model.addresses import parse_address
from aiophlo.model.calling_codes import calling_code
from aiophlo.model.invalid_input import refuse
from aiophlo.model.redaction import mask, mask_text, masked_repr
from aiophlo.webhooks.form_fields import iter_fields

_MAX_FIELDS = 1000
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)


_shown = masked_repr(mask_text)


def _shown_address(text: str | None) -> str:
    if text is None:
        return "None"
    return f"'{mask(text)}'" if _is_address(text) else "'…'"


def _shown_names(fields: Mapping[str, object]) -> str:
    return repr([mask_text(name) for name in fields if isinstance(name, str)])


@attrs.frozen(kw_only=True)
class BaseEvent:
    """What every event carries, as far as it was said.

    Attributes:
        event: The event's name, as Plivo wrote it; empty if it bears none.
        conference_uuid: The conversation, one per run of the node.
        conference_name: Its name.
        call_uuid: The member's call.
        member_id: The member's number within the conversation. Not an address.
        from_: Address that called: E.164 with `+`, or a SIP endpoint. What is
            neither, such as `anonymous`, is kept as it came.
        to: Address that was called, in the same form.
        direction: `inbound` or `outbound`, seen from Plivo.
        call_status: Such as `in-progress`.
        from_iso2: Two letters for the country of `from_`, by ISO 3166.
        to_iso2: Two letters for the country of `to`.
        from_text: `from_` as it came.
        to_text: `to` as it came.
        fields: Everything that came, under the names and with the values that
            it came with. A plain dict, so that events pickle; leave it alone.

    Source:
        Plivo docs, "PHLO components", variables of the Multi-Party Call.
        Assumed: their spelling, which is why any is read.
    """

    event: str = attrs.field(default="", repr=_shown)
    conference_uuid: str | None = attrs.field(default=None, repr=_shown)
    conference_name: str | None = attrs.field(default=None, repr=_shown)
    call_uuid: str | None = attrs.field(default=None, repr=_shown)
    member_id: str | None = attrs.field(default=None, repr=_shown)
    from_: str | None = attrs.field(default=None, repr=_shown_address)
    to: str | None = attrs.field(default=None, repr=_shown_address)
    direction: str | None = attrs.field(default=None, repr=_shown)
    call_status: str | None = attrs.field(default=None, repr=_shown)
    from_iso2: str | None = attrs.field(default=None, eq=False, repr=_shown)
    to_iso2: str | None = attrs.field(default=None, eq=False, repr=_shown)
    from_text: str | None = attrs.field(default=None, eq=False, repr=False)
    to_text: str | None = attrs.field(default=None, eq=False, repr=False)
    fields: Mapping[str, object] = attrs.field(
        factory=dict, hash=False, repr=_shown_names
    )

    @property
    def member(self) -> str | None:
        """Address of the member that the event is about, if it can be told.

        Source:
            Assumed: Plivo called a member whose direction is outbound (`to`)
            and was called by one whose direction is inbound (`from_`).
        """
        match (self.direction or "").lower():
            case "outbound":
                return self.to
            case "inbound":
                return self.from_
        return None

    @property
    def called_in(self) -> bool:
        """Whether it is said that the member called in."""
        return (self.direction or "").lower() == "inbound"

    @property
    def member_keys(self) -> tuple[str, ...]:
        """Keys of the member, by which `EventRouter` compares parties.

        Without a direction, those of `from_` and of `to`: one of them is the member.
        Who called in from nowhere withholds their number. Empty if it can't be told
        who the event is about.
        """
        match (self.direction or "").lower():
            case "outbound":
                return _keys(self.to, self.to_text, self.to_iso2)
            case "inbound":
                found = _keys(self.from_, self.from_text, self.from_iso2)
                return found or (WITHHELD,)
            case "":
                both = (
                    *_keys(self.from_, self.from_text, self.from_iso2),
                    *_keys(self.to, self.to_text, self.to_iso2),
                )
                return tuple(dict.fromkeys(both))
        return ()


@attrs.frozen(kw_only=True)
class MemberJoined(BaseEvent):
    """Someone entered the conversation: an agent, the customer or the one dialled."""


@attrs.frozen(kw_only=True)
class MemberLeft(BaseEvent):
    """Someone left the conversation: hung up, was hung up or was moved away."""


@attrs.frozen(kw_only=True)
class Redirected(BaseEvent):
    """A call was sent elsewhere within its PHLO."""


@attrs.frozen(kw_only=True)
class RecordingReady(BaseEvent):
    """A recording can be fetched.

    Attributes:
        recording_url: Where from. Not shown in the repr: who knows it, hears it.
        recording_id: Plivo's name for it.
        recording_duration: Seconds, where they are known.

    Source:
        Plivo docs, "PHLO components": the node has recording fields.
        Assumed: their names, after the recording callbacks of Plivo's Voice API.
    """

    recording_url: str = attrs.field(repr=False)
    recording_id: str | None = attrs.field(default=None, repr=_shown)
    recording_duration: float | None = None


@attrs.frozen(kw_only=True)
class UnknownEvent(BaseEvent):
    """Something that aiophlo doesn't know; `fields` has it all."""


Event: TypeAlias = (
    MemberJoined | MemberLeft | Redirected | RecordingReady | UnknownEvent
)

_KINDS: dict[str, type[MemberJoined | MemberLeft | Redirected]] = {
    "conferenceenter": MemberJoined,
    "conferenceexit": MemberLeft,
    "redirect": Redirected,
}


def parse_event(data: Mapping[str, object]) -> Event:
    """Return what `data` says as an event; never raises.

    Names are read in any case: `CallUUID`, `call_uuid`, `callUuid`. A field that
    comes more than once, saying different things, counts as not said.

    Args:
        data: The decoded form, JSON object or query, or any mapping.

    Returns:
        The event; an `UnknownEvent` if it isn't one that aiophlo knows.
    """
    fields = _collected(iter_fields(data))
    said = _Said(fields)
    common = said.common()
    name = _plain(common["event"])
    if name in _KINDS:
        return _KINDS[name](fields=fields, **common)
    url = said.text("recordingurl", "recordurl", "recordfile", "recordingfile")
    if url and (not name or "record" in name):
        return RecordingReady(
            recording_url=url,
            recording_id=said.text("recordingid", "recordinguuid", "recordid"),
            recording_duration=said.seconds(),
            fields=fields,
            **common,
        )
    return UnknownEvent(fields=fields, **common)


def decode_body(body: bytes, content_type: str = "") -> dict[str, object]:
    """Return the fields of a POST's body, a form or a JSON object.

    Numbers in JSON come as the text that they were written with, for it is the
    text that is signed.

    Args:
        body: The whole body.
        content_type: The header; where it says neither JSON nor form, a body
            that starts with `{` is JSON.

    Returns:
        Values by name; a form's repeated field is a list.

    Raises:
        InvalidInputError: The body is neither.

    Source:
        Assumed: which of both Plivo sends isn't documented.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    is_form = media_type == "application/x-www-form-urlencoded"
    looks_like_json = body.lstrip()[:1] == b"{"
    if media_type.startswith("multipart/"):
        refuse("body", "a form or a JSON object, not a multipart form")
    try:
        if media_type.endswith("json") or (looks_like_json and not is_form):
            return _decode_json(body)
        return _decode_form(body.decode(), errors="strict")
    except (RecursionError, TypeError, ValueError) as error:
        message = "body: expected a form or a JSON object"
        raise InvalidInputError(message, field="body") from error


def decode_query(query: str) -> dict[str, object]:
    """Return the fields of a URL's query; a repeated one is a list.

    Raises:
        InvalidInputError: There are more than 1,000.
    """
    try:
        return _decode_form(query, errors="replace")
    except ValueError as error:
        message = f"query: expected at most {_MAX_FIELDS} fields"
        raise InvalidInputError(message, field="query") from error


def join_fields(
    query: Mapping[str, object], body: Mapping[str, object]
) -> dict[str, object]:
    """Return the fields of a POST to a URL that has a query of its own.

    Args:
        query: The URL's fields, such as the `tenant` that you put there.
        body: What Plivo says, which overrides a query field of the same name in
            whatever case.

    Returns:
        Both.
    """
    names = {_plain(name) for name in body}
    return {
        **{name: value for name, value in query.items() if _plain(name) not in names},
        **body,
    }


class _Said:
    """The fields' values under names without case and punctuation."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in fields.items():
            if isinstance(name, str):
                values = value if isinstance(value, list | tuple) else [value]
                texts = [text for text in map(_text, values) if text]
                self._values.setdefault(_plain(name), []).extend(texts)

    def text(self, *names: str) -> str | None:
        """Return the value under the first of `names` that has just one."""
        for name in names:
            match self._values.get(name, []):
                case [text, *others] if all(text == other for other in others):
                    return text
        return None

    def address(self, name: str) -> str | None:
        """Return an address in its canonical spelling, if it has one."""
        text = self.text(name)
        return text if text is None else _address(text)

    def country(self, side: str) -> str | None:
        """Return two letters for the country of `from` or `to`, if they were said."""
        text = self.text(f"{side}iso2", f"{side}country")
        return text if text is not None and _COUNTRY.fullmatch(text) else None

    def seconds(self) -> float | None:
        """Return how long the recording is."""
        seconds = _number(self.text("recordingduration", "recordduration"))
        if seconds is not None:
            return seconds
        milliseconds = _number(self.text("recordingdurationms", "recorddurationms"))
        return None if milliseconds is None else milliseconds / 1000

    def common(self) -> dict[str, Any]:
        """Return what every event carries."""
        return {
            "event": self.text("event", "eventname") or "",
            "conference_uuid": self.text("conferenceuuid"),
            "conference_name": self.text("conferencename"),
            "call_uuid": self.text("calluuid"),
            "member_id": self.text("memberid", "conferencememberid"),
            "from_": self.address("from"),
            "to": self.address("to"),
            "from_iso2": self.country("from"),
            "to_iso2": self.country("to"),
            "from_text": self.text("from"),
            "to_text": self.text("to"),
            "direction": self.text("direction"),
            "call_status": self.text("callstatus"),
        }


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _text(value: object) -> str | None:
    match value:
        case str():
            return value.strip()
        case bool():
            return None
        case int() | float() if abs(value) < 1e18:  # noqa: PLR2004 -- no id is longer
            return str(value)
    return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _keys(
    address: str | None, text: str | None, country: str | None
) -> tuple[str, ...]:
    if address is None:
        return ()
    if text is None or text == address or _address(text) != address:
        text = address  # somebody has made or changed the event by hand
    code = None if country is None else calling_code(country)
    return party_keys(text, code)


def _address(text: str) -> str:
    # Some senders leave the plus out, and in a query that isn't encoded it
    # reads as a blank, which has been stripped by now.
    candidate = f"+{text}" if text[:1].isdigit() else text
    try:
        return parse_address(candidate)
    except InvalidAddressError:
        return text


def _is_address(text: str) -> bool:
    try:
        return parse_address(text) == text
    except InvalidAddressError:
        return False


def _collected(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    repeated: dict[str, list[object]] = {}
    for name, value in pairs:
        if name in fields:
            repeated.setdefault(name, [fields[name]]).append(value)
        else:
            fields[name] = value
    return {**fields, **repeated}


def _decode_json(body: bytes) -> dict[str, object]:
    decoded = json.loads(
        body,
        parse_int=str,
        parse_float=str,
        parse_constant=str,
        object_pairs_hook=_collected,
    )
    if not isinstance(decoded, dict):
        raise TypeError("not an object")
    return decoded


def _decode_form(text: str, *, errors: str) -> dict[str, object]:
    pairs = parse_qsl(
        text, keep_blank_values=True, errors=errors, max_num_fields=_MAX_FIELDS
    )
    return _collected(pairs)
