"""Actions the PHLO API accepts, one frozen object per request.

Every action names the PHLO it is for and may carry a `key` of the caller's
own, which is never sent, takes no part in equality, and comes back on the
outcome. All are keyword-only and checked when built.
"""

import json
import re
from collections.abc import Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, Literal, NoReturn

import attrs

from aiophlo.addresses import mask, mask_id, mask_text, parse_address
from aiophlo.errors import InvalidInputError

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # no file or database takes one


class Role(StrEnum):
    """Role of the one who is dialled.

    Source:
        Plivo docs, "Warm transfer a caller".
    """

    AGENT = "agent"
    CUSTOMER = "customer"


class Lane(IntEnum):
    """Who goes first when requests queue for the account's next slot."""

    URGENT = 0  # ends somebody's wait
    AWAITED = 1
    STREAMED = 2


def _refuse(field: str, right: str, value: object) -> NoReturn:
    got = type(value).__name__
    if isinstance(value, str):
        got = f"{len(value)} characters" if value else "an empty string"
    raise InvalidInputError(f"{field}: expected {right}, got {got}", field=field)


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


class Parameters(Mapping[str, Any]):
    """A JSON object that can't change: what a PHLO's Start node is given.

    Attributes:
        text: The object as JSON, the form in which it is kept and sent.

    Raises:
        InvalidInputError: JSON can't hold it, or a name is not a string.
    """

    __slots__ = ("text",)
    text: str

    def __init__(self, values: Mapping[str, Any], *, field: str = "values") -> None:
        if not isinstance(values, Mapping):
            _refuse(field, "a mapping from names to JSON values", values)
        if not all(isinstance(name, str) for name in values):
            _refuse(field, "names that are strings", values)
        try:
            text = json.dumps(dict(values), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            message = f"{field}: expected values that JSON can hold"
            raise InvalidInputError(message, field=field) from error
        object.__setattr__(self, "text", text)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise attrs.exceptions.FrozenInstanceError

    def __delattr__(self, name: str) -> NoReturn:
        raise attrs.exceptions.FrozenInstanceError

    def __reduce__(self) -> tuple[type["Parameters"], tuple[dict[str, Any]]]:
        return Parameters, (json.loads(self.text),)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 -- any JSON value
        return json.loads(self.text)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(json.loads(self.text))

    def __len__(self) -> int:
        return len(json.loads(self.text))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        theirs = json.loads(other.text) if isinstance(other, Parameters) else other
        mine: dict[str, Any] = json.loads(self.text)
        return mine == dict(theirs)

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return f"<{len(self)} parameters>"  # their values may be numbers to dial


def _phlo_id(value: str) -> str:
    return parse_id(value, field="phlo_id")


def _node_id(value: str) -> str:
    return parse_id(value, field="node_id")


def _node_type(value: str) -> str:
    return parse_id(value, field="node_type")


def _trigger_source(value: str) -> str:
    return parse_address(value, field="trigger_source")


def _to(value: str) -> str:
    return parse_address(value, field="to")


def _member(value: str) -> str:
    return parse_address(value, field="member")


def _role(value: Role | Literal["agent", "customer"]) -> Role:
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


def _repr_id(value: str) -> str:
    return repr(mask_id(value))


def _repr_key(value: str | None) -> str:
    return repr(None if value is None else mask_text(value))


@attrs.frozen(kw_only=True)
class Action:
    """What every action has; build one of its subclasses.

    Attributes:
        phlo_id: PHLO the call runs in.
        key: Yours: never sent, comes back on the outcome.
    """

    verb: ClassVar[str] = ""  # the `action` of its JSON body
    repeatable: ClassVar[bool] = False  # doing it twice is doing it once
    dials: ClassVar[bool] = False  # a phone rings
    lane: ClassVar[Lane] = Lane.AWAITED
    phlo_id: str = attrs.field(converter=_phlo_id, repr=_repr_id)
    key: str | None = attrs.field(
        default=None, converter=_key, eq=False, repr=_repr_key
    )


@attrs.frozen(kw_only=True)
class NodeAction(Action):
    """What every action on a node has.

    Attributes:
        node_id: The node it is for.
    """

    node_type: ClassVar[str] = "multi_party_call"
    node_id: str = attrs.field(converter=_node_id, repr=_repr_id)


@attrs.frozen(kw_only=True)
class DialAction(NodeAction):
    """What the actions that ring a phone on a multi-party-call node have.

    Attributes:
        trigger_source: Address of the agent who starts it.
        to: Address to dial.
        role: Role given to `to`.
    """

    dials: ClassVar[bool] = True
    trigger_source: str = attrs.field(converter=_trigger_source, repr=mask)
    to: str = attrs.field(converter=_to, repr=mask)
    role: Role = attrs.field(default=Role.AGENT, converter=_role)


@attrs.frozen(kw_only=True)
class MemberAction(NodeAction):
    """What every action on one member of a node has.

    Attributes:
        member: Address of the member it is for.
    """

    member: str = attrs.field(converter=_member, repr=mask)


class AddUser(DialAction):
    """Dial `to` into the call of `trigger_source`.

    Source:
        Plivo docs, "Add a user".
    """

    __slots__ = ()
    verb: ClassVar[str] = "call"


class WarmTransfer(DialAction):
    """Dial `to` and let it consult with `trigger_source` before the customer joins.

    The customer hears hold music until the transfer is completed or aborted.

    Source:
        Plivo docs, "Warm transfer a caller".
    """

    __slots__ = ()
    verb: ClassVar[str] = "warm_transfer"


class ColdTransfer(DialAction):
    """Dial `to` and connect the customer straight to it.

    `trigger_source` is disconnected.

    Source:
        Plivo docs, "Cold transfer a caller".
    """

    __slots__ = ()
    verb: ClassVar[str] = "cold_transfer"


class AbortTransfer(MemberAction):
    """End the transfer that `member` started; the customer comes back to it.

    Source:
        Plivo docs, "Abort transfer".
    """

    __slots__ = ()
    verb: ClassVar[str] = "abort_transfer"
    repeatable: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.URGENT


class ResumeCall(MemberAction):
    """Bring the customer back into the talk of `member` and its partner.

    Source:
        Plivo docs name it; that three parties then talk is assumed.
    """

    __slots__ = ()
    verb: ClassVar[str] = "resume_call"


class VoicemailDrop(MemberAction):
    """Leave a recording on the answering machine that `member` reached.

    Source:
        Plivo docs, "Voicemail drop".
    """

    __slots__ = ()
    verb: ClassVar[str] = "voicemail_drop"


class Hangup(MemberAction):
    """Disconnect `member`.

    Source:
        Plivo docs, "Hang up"; the agent hanging up after a consult leaves the
        customer with the partner.
    """

    __slots__ = ()
    verb: ClassVar[str] = "hangup"
    repeatable: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.URGENT


class Hold(MemberAction):
    """Put the call of `member` on hold: it is muted, the others hear hold music.

    Source:
        Plivo docs, "Hold".
    """

    __slots__ = ()
    verb: ClassVar[str] = "hold"
    repeatable: ClassVar[bool] = True


class Unhold(MemberAction):
    """End the hold that `member` placed.

    Source:
        Plivo docs, "Unhold".
    """

    __slots__ = ()
    verb: ClassVar[str] = "unhold"
    repeatable: ClassVar[bool] = True
    lane: ClassVar[Lane] = Lane.URGENT


class Mute(MemberAction):
    """Mute `member`.

    Source:
        plivo-python, `phlo_member.py`; the documentation has no word on it.
    """

    __slots__ = ()
    verb: ClassVar[str] = "mute"
    repeatable: ClassVar[bool] = True


class Unmute(MemberAction):
    """Unmute `member`.

    Source:
        plivo-python, `phlo_member.py`; the documentation has no word on it.
    """

    __slots__ = ()
    verb: ClassVar[str] = "unmute"
    repeatable: ClassVar[bool] = True


class BridgeMute(MemberAction):
    """Mute `member` of a conference bridge.

    Source:
        The official SDKs' conference bridge; the documentation has no word on it.
    """

    __slots__ = ()
    verb: ClassVar[str] = "mute"
    node_type: ClassVar[str] = "conference_bridge"
    repeatable: ClassVar[bool] = True


class BridgeUnmute(MemberAction):
    """Unmute `member` of a conference bridge.

    Source:
        The official SDKs' conference bridge; the documentation has no word on it.
    """

    __slots__ = ()
    verb: ClassVar[str] = "unmute"
    node_type: ClassVar[str] = "conference_bridge"
    repeatable: ClassVar[bool] = True


class BridgeLeave(MemberAction):
    """Make `member` leave a conference bridge.

    Source:
        The official SDKs' conference bridge; the documentation has no word on it.
    """

    __slots__ = ()
    verb: ClassVar[str] = "leave"
    node_type: ClassVar[str] = "conference_bridge"
    repeatable: ClassVar[bool] = True


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
    parameters: Parameters = attrs.field(
        factory=lambda: Parameters({}), converter=_parameters
    )


class GetPhlo(Action):
    """Describe the PHLO: its name and when it was made.

    Source:
        Plivo docs, "PHLO object".
    """

    __slots__ = ()
    repeatable: ClassVar[bool] = True


@attrs.frozen(kw_only=True)
class GetNode(Action):
    """Describe a node of the PHLO.

    Attributes:
        node_id: The node.
        node_type: Its type as it stands in paths, such as `multi_party_call`.

    Source:
        plivo-python, `phlos.py`: `GET /phlo/{phlo_id}/{node_type}/{node_id}`.
    """

    repeatable: ClassVar[bool] = True
    node_id: str = attrs.field(converter=_node_id, repr=_repr_id)
    node_type: str = attrs.field(
        default="multi_party_call", converter=_node_type, repr=_repr_id
    )
