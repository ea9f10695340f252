"""Actions the PHLO API accepts, one frozen object per request.

Every action names the PHLO it is for and may carry a `key` of the caller's
own, which is never sent, takes no part in equality, and comes back on the
outcome. All are keyword-only and checked when built.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, ClassVar, Literal, NoReturn

import attrs

from aiophlo.model.addresses import parse_address
from aiophlo.model.enums import MaskedStrEnum, refuse_value
from aiophlo.model.invalid_input import refuse
from aiophlo.model.lazy_regex import lazy_compile
from aiophlo.model.parameters import Parameters
from aiophlo.model.redaction import mask, mask_id, mask_text, masked_repr

_ID = lazy_compile(r"[A-Za-z0-9_-]{1,128}")
_SURROGATE = lazy_compile(r"[\ud800-\udfff]")  # no file or database takes one

PartyKey = tuple[str, str, str]  # PHLO, node, and the phone of an address


class Role(MaskedStrEnum):
    """Role of the one who is dialled.

    Source:
        Plivo docs, "Warm transfer a caller".
    """

    AGENT = "agent"
    CUSTOMER = "customer"


class Lane(IntEnum):
    """Who goes first when requests queue for the account's next slot."""

    URGENT = 0  #: what ends a person's wait, such as an abort, an unhold or a hang-up
    AWAITED = 1  #: what a caller awaits
    STREAMED = 2  #: what a stream sends
    LOOKED = 3  #: what asks for Plivo's list of calls

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:  # noqa: ARG003 -- it isn't quoted
        refuse_value(cls)


def _refuse(field: str, right: str, value: object) -> NoReturn:
    got = type(value).__name__
    if isinstance(value, str):
        got = f"{len(value)} characters" if value else "an empty string"
    refuse(field, f"{right}, got {got}")


def parse_id(value: str, *, field: str) -> str:
    """Return `value` if it is an id as the API's paths take it.

    Args:
        value: A PHLO's, node's or node type's id.
        field: The name that an error gives it.

    Raises:
        InvalidInputError: It is not letters, digits, `_` and `-` alone, and
            would name another resource once it stood in a path; or it is
            longer than 128 characters.
    """
    match = _ID.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        _refuse(field, "an id of up to 128 letters, digits, '_' and '-'", value)
    return match[0]  # a plain str: a str-based enum formats as its own name


def parse_phlo_id(value: str) -> str:
    """Return a PHLO's id."""
    return parse_id(value, field="phlo_id")


def parse_node_id(value: str) -> str:
    """Return a node's id."""
    return parse_id(value, field="node_id")


def _node_type(value: str) -> str:
    return parse_id(value, field="node_type")


def _trigger_source(value: str) -> str:
    return parse_address(value, field="trigger_source")


def _to(value: str) -> str:
    return parse_address(value, field="to")


def parse_member(value: str) -> str:
    """Return a member's address."""
    return parse_address(value, field="member")


def parse_role(value: Role | Literal["agent", "customer"]) -> Role:
    """Return `value` as a `Role`.

    Raises:
        InvalidInputError: It is none; the message doesn't quote it.
    """
    if isinstance(value, Role):
        return value
    try:
        return Role(value)
    except ValueError:
        pass  # the stock message quotes the value
    _refuse("role", "'agent' or 'customer'", value)


def _parameters(value: Mapping[str, Any]) -> Parameters:
    if isinstance(value, Parameters):
        return value
    return Parameters(value, field="parameters")


def _key(value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        _refuse("key", "a string of your own, or None", value)
    if _SURROGATE.search(value):
        _refuse("key", "a string that UTF-8 can hold", value)
    return value


_repr_id = masked_repr(mask_id)


@attrs.frozen(kw_only=True)
class Action:
    """What every action has; build one of its subclasses.

    What sending must know of an action stands on its class: each says all of the
    class variables below for itself, or inherits them from `DialAction`.

    Attributes:
        phlo_id: PHLO the call runs in.
        key: Yours: never sent, comes back on the outcome.
    """

    verb: ClassVar[str] = ""  # the `action` of its JSON body
    idempotent: ClassVar[bool] = False  # doing it twice is doing it once
    reads: ClassVar[bool] = False  # a GET: it changes nothing, whenever it comes
    dials: ClassVar[bool] = False  # a phone rings
    ends_dials: ClassVar[bool] = False  # who dials again after it means it
    lane: ClassVar[Lane] = Lane.AWAITED
    # Names of the actions after which, for the same member, it must not leave.
    undone_by: ClassVar[frozenset[str]] = frozenset()
    phlo_id: str = attrs.field(converter=parse_phlo_id, repr=_repr_id)
    key: str | None = attrs.field(
        default=None, converter=_key, eq=False, repr=masked_repr(mask_text)
    )


@attrs.frozen(kw_only=True)
class NodeAction(Action):
    """What every action on a node has.

    Attributes:
        node_id: The node it is for.
    """

    node_type: ClassVar[str] = "multi_party_call"
    node_id: str = attrs.field(converter=parse_node_id, repr=_repr_id)


@attrs.frozen(kw_only=True)
class DialAction(NodeAction):
    """What the actions that ring a phone on a multi-party-call node have.

    Attributes:
        trigger_source: Address of the agent who starts it.
        to: Address to dial.
        role: Role given to `to`.
    """

    dials: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False
    lane: ClassVar[Lane] = Lane.AWAITED
    trigger_source: str = attrs.field(converter=_trigger_source, repr=mask)
    to: str = attrs.field(converter=_to, repr=mask)
    role: Role = attrs.field(default=Role.AGENT, converter=parse_role)


@attrs.frozen(kw_only=True)
class MemberAction(NodeAction):
    """What every action on one member of a node has.

    Attributes:
        member: Address of the member it is for.
    """

    member: str = attrs.field(converter=parse_member, repr=mask)


class AddUser(DialAction):
    """Dial `to` into the call of `trigger_source`.

    Attributes:
        phlo_id: PHLO the call runs in.
        node_id: Its multi-party-call node.
        trigger_source: Address of the agent who starts it.
        to: Address to dial.
        role: Role given to `to`.
        key: Yours: never sent, comes back on the outcome.

    Source:
        Plivo docs, "Add a user".
    """

    __slots__ = ()
    verb: ClassVar[str] = "call"
    undone_by: ClassVar[frozenset[str]] = frozenset({"Hangup"})


class WarmTransfer(DialAction):
    """Dial `to` and let it consult with `trigger_source` before the customer joins.

    The customer hears hold music until the transfer is completed or aborted.

    Attributes:
        phlo_id: PHLO the call runs in.
        node_id: Its multi-party-call node.
        trigger_source: Address of the agent who starts it.
        to: Address to dial.
        role: Role given to `to`.
        key: Yours: never sent, comes back on the outcome.

    Source:
        Plivo docs, "Warm transfer a caller".
    """

    __slots__ = ()
    verb: ClassVar[str] = "warm_transfer"
    undone_by: ClassVar[frozenset[str]] = frozenset({"AbortTransfer", "Hangup"})


class ColdTransfer(DialAction):
    """Dial `to` and connect the customer straight to it.

    `trigger_source` is disconnected.

    Attributes:
        phlo_id: PHLO the call runs in.
        node_id: Its multi-party-call node.
        trigger_source: Address of the agent who starts it.
        to: Address to dial.
        role: Role given to `to`.
        key: Yours: never sent, comes back on the outcome.

    Source:
        Plivo docs, "Cold transfer a caller".
    """

    __slots__ = ()
    verb: ClassVar[str] = "cold_transfer"
    undone_by: ClassVar[frozenset[str]] = frozenset({"AbortTransfer", "Hangup"})


class AbortTransfer(MemberAction):
    """End the transfer that `member` started; the customer comes back to it.

    Source:
        Plivo docs, "Abort transfer".
    """

    __slots__ = ()
    verb: ClassVar[str] = "abort_transfer"
    idempotent: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.URGENT
    ends_dials: ClassVar[bool] = True
    undone_by: ClassVar[frozenset[str]] = frozenset(
        {"WarmTransfer", "ColdTransfer", "Hangup"}
    )


class ResumeCall(MemberAction):
    """Bring the customer back into the talk of `member` and its partner.

    Source:
        Plivo docs name it; that three parties then talk is assumed.
    """

    __slots__ = ()
    verb: ClassVar[str] = "resume_call"
    idempotent: ClassVar[bool] = False
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset({"Hangup"})


class VoicemailDrop(MemberAction):
    """Leave a recording on the answering machine that `member` reached.

    Source:
        Plivo docs, "Voicemail drop".
    """

    __slots__ = ()
    verb: ClassVar[str] = "voicemail_drop"
    idempotent: ClassVar[bool] = False
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset({"Hangup"})


class Hangup(MemberAction):
    """Disconnect `member`.

    Source:
        Plivo docs, "Hang up"; the agent hanging up after a consult leaves the
        customer with the partner.
    """

    __slots__ = ()
    verb: ClassVar[str] = "hangup"
    idempotent: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.URGENT
    ends_dials: ClassVar[bool] = True
    undone_by: ClassVar[frozenset[str]] = frozenset({"Hangup"})


class Hold(MemberAction):
    """Put the call of `member` on hold: it is muted, the others hear hold music.

    Source:
        Plivo docs, "Hold".
    """

    __slots__ = ()
    verb: ClassVar[str] = "hold"
    idempotent: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset({"Unhold", "Hangup"})


class Unhold(MemberAction):
    """End the hold that `member` placed.

    Source:
        Plivo docs, "Unhold".
    """

    __slots__ = ()
    verb: ClassVar[str] = "unhold"
    idempotent: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.URGENT
    undone_by: ClassVar[frozenset[str]] = frozenset({"Hold", "Hangup"})


class Mute(MemberAction):
    """Mute `member`.

    Source:
        plivo-python, `phlo_member.py`; the documentation has no word on it.
    """

    __slots__ = ()
    verb: ClassVar[str] = "mute"
    idempotent: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset({"Unmute", "Hangup"})


class Unmute(MemberAction):
    """Unmute `member`.

    Source:
        plivo-python, `phlo_member.py`; the documentation has no word on it.
    """

    __slots__ = ()
    verb: ClassVar[str] = "unmute"
    idempotent: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset({"Mute", "Hangup"})


class BridgeMute(MemberAction):
    """Mute `member` of a conference bridge.

    Source:
        The official SDKs' conference bridge; the documentation has no word on it.
    """

    __slots__ = ()
    verb: ClassVar[str] = "mute"
    node_type: ClassVar[str] = "conference_bridge"
    idempotent: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset({"BridgeUnmute", "BridgeLeave"})


class BridgeUnmute(MemberAction):
    """Unmute `member` of a conference bridge.

    Source:
        The official SDKs' conference bridge; the documentation has no word on it.
    """

    __slots__ = ()
    verb: ClassVar[str] = "unmute"
    node_type: ClassVar[str] = "conference_bridge"
    idempotent: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset({"BridgeMute", "BridgeLeave"})


class BridgeLeave(MemberAction):
    """Make `member` leave a conference bridge.

    Source:
        The official SDKs' conference bridge; the documentation has no word on it.
    """

    __slots__ = ()
    verb: ClassVar[str] = "leave"
    node_type: ClassVar[str] = "conference_bridge"
    idempotent: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset({"Hangup"})


@attrs.frozen(kw_only=True)
class RunPhlo(Action):
    """Start a run of the PHLO.

    Attributes:
        parameters: What its Start node declares, by name: any mapping that
            JSON can hold, copied.

    Source:
        Plivo docs, "Run a PHLO". That a run dials is assumed: most begin by
        placing a call.
    """

    dials: ClassVar[bool] = True
    verb: ClassVar[str] = ""
    idempotent: ClassVar[bool] = False
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset()
    parameters: Parameters = attrs.field(
        factory=lambda: Parameters({}), converter=_parameters
    )


class GetPhlo(Action):
    """Describe the PHLO: its name and when it was made.

    Source:
        Plivo docs, "PHLO object".
    """

    __slots__ = ()
    idempotent: ClassVar[bool] = True
    verb: ClassVar[str] = ""
    reads: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset()


@attrs.frozen(kw_only=True)
class GetNode(Action):
    """Describe a node of the PHLO.

    Attributes:
        node_id: The node.
        node_type: Its type as it stands in paths, such as `multi_party_call`.

    Source:
        plivo-python, `phlos.py`: `GET /phlo/{phlo_id}/{node_type}/{node_id}`.
    """

    idempotent: ClassVar[bool] = True
    verb: ClassVar[str] = ""
    reads: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.AWAITED
    undone_by: ClassVar[frozenset[str]] = frozenset()
    node_id: str = attrs.field(converter=parse_node_id, repr=_repr_id)
    node_type: str = attrs.field(
        default="multi_party_call", converter=_node_type, repr=_repr_id
    )
