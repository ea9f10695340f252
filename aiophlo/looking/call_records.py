"""Parses one record of Plivo's list of calls. Pure, and total."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from aiophlo.model.address_matching import same_party, same_phone
from aiophlo.model.redaction import mask, mask_id
from aiophlo.model.sightings import CallState

_FORMATS = ("%Y-%m-%d %H:%M:%S%z", "%Y-%m-%d %H:%M:%S")


@attrs.frozen(kw_only=True)
class CallRecord:
    """One call in the list; times are Unix times by Plivo's clock.

    Attributes:
        call_uuid: Its id.
        to: Who is called, as the list spells it.
        from_: Which number calls.
        is_outbound: Plivo calls, and isn't called.
        state: What it is doing.
        began_at: When it began; None where the list doesn't say.
        answered_at: When it was answered; None where it wasn't, or nothing says so.
        ended_at: When it ended.
        hangup_cause: Why, in Plivo's words.
        hangup_code: Plivo's number for that.
    """

    call_uuid: str = attrs.field(repr=mask_id)
    to: str = attrs.field(repr=mask)
    from_: str = attrs.field(repr=mask)
    is_outbound: bool
    state: CallState
    began_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    hangup_cause: str | None = None
    hangup_code: int | None = None

    def is_to(self, address: str) -> bool:
        """Say whether this address is called."""
        return same_party(address, self.to)

    def is_to_exactly(self, address: str) -> bool:
        """Say whether this address is called, and no other that is spelled alike."""
        return same_phone(address, self.to)

    def is_from_one_of(self, addresses: frozenset[str]) -> bool:
        """Say whether one of these numbers calls."""
        return any(same_party(address, self.from_) for address in addresses)


def read_finished(document: object) -> CallRecord | None:
    """Return what a finished call's record says; None if it makes no sense.

    Source:
        Plivo docs, "Calls": the call object.
    """
    if not isinstance(document, Mapping):
        return None
    known = _identity(document, "to_number", "from_number", "call_direction")
    if known is None:
        return None
    code = document.get("hangup_cause_code")
    cause = document.get("hangup_cause_name")
    return CallRecord(
        **known,
        state=CallState.ENDED,
        began_at=read_time(document.get("initiation_time")),
        answered_at=read_time(document.get("answer_time")),
        ended_at=read_time(document.get("end_time")),
        hangup_cause=cause if isinstance(cause, str) and cause.isprintable() else None,
        hangup_code=code if isinstance(code, int) else None,
    )


def read_under_way(document: object) -> CallRecord | None:
    """Return what a queued or live call's description says; None if it makes no sense.

    Source:
        plivo-python, `live_calls.py` and `queued_calls.py`. Assumed: `call_status` is
        `in-progress` once it is answered, and `queued` before it is dialled.
    """
    if not isinstance(document, Mapping):
        return None
    known = _identity(document, "to", "from", "direction")
    if known is None:
        return None
    state = {"in-progress": CallState.TALKING, "queued": CallState.QUEUED}.get(
        str(document.get("call_status")), CallState.RINGING
    )
    began_at = read_time(document.get("session_start"))
    return CallRecord(**known, state=state, began_at=began_at)


def _identity(
    document: Mapping[str, Any], to: str, from_: str, direction: str
) -> dict[str, Any] | None:
    texts = [document.get(name) for name in ("call_uuid", to, from_, direction)]
    if not all(isinstance(text, str) for text in texts):
        return None
    call_uuid, called, caller, way = map(str, texts)
    return {
        "call_uuid": call_uuid,
        "to": called,
        "from_": caller,
        "is_outbound": way.lower().startswith("outbound"),
    }


def read_time(text: object) -> float | None:
    """Return the Unix time that a record says; None if that makes no sense.

    Source:
        Plivo docs, "Calls", examples: `2022-06-28 19:39:05+05:30`. Assumed: UTC where
        no offset stands there.
    """
    if not isinstance(text, str):
        return None
    whole, dot, rest = text.strip().replace("T", " ").partition(".")
    if dot:  # of the fraction only the offset behind it counts
        whole += rest.lstrip("0123456789")
    for form in _FORMATS:
        try:
            when = datetime.strptime(whole.replace("Z", "+00:00"), form)  # noqa: DTZ007 -- the zone is set below
        except ValueError:
            continue
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return None
