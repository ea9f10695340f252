"""Handles of PHLOs, nodes and members: each sends actions to its place. No I/O.

::

    node = pool.phlo(PHLO_ID).multi_party_call(NODE_ID)
    await node.warm_transfer(to="+14152225555", trigger_source="+14152223333")
    await node.member("+14152223333").abort_transfer()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, TypedDict, Unpack

import attrs

from aiophlo.model.accounts import Account
from aiophlo.model.actions import (
    AbortTransfer,
    Action,
    AddUser,
    BridgeLeave,
    BridgeMute,
    BridgeUnmute,
    ColdTransfer,
    DialAction,
    GetNode,
    GetPhlo,
    Hangup,
    Hold,
    MemberAction,
    Mute,
    ResumeCall,
    Role,
    RunPhlo,
    Unhold,
    Unmute,
    VoicemailDrop,
    WarmTransfer,
    parse_member,
    parse_node_id,
    parse_phlo_id,
)
from aiophlo.model.outcomes import Accepted
from aiophlo.model.redaction import mask

AnyRole = Role | Literal["agent", "customer"]


class SendOptions(TypedDict, total=False):
    """What every method of a handle takes besides, as `SessionPool.send` does.

    Attributes:
        send_within: Seconds after which sending is worthless; None never.
        on_duplicate: Join an equal dial, or ring again.
        look: Look for a dial that is in doubt in Plivo's list of calls.
        look_for: Seconds for which it is looked for.
    """

    send_within: float | None
    on_duplicate: Literal["join", "send"]
    look: bool
    look_for: float


class Sends(Protocol):
    """What a handle needs of a pool."""

    async def send(
        self,
        action: Action,
        *,
        account: Account | str | None = None,
        **options: Unpack[SendOptions],
    ) -> Accepted:
        """Send `action`; see `SessionPool.send`."""
        ...


@attrs.frozen
class Phlo:
    """A PHLO of one account.

    Attributes:
        phlo_id: Which.
        account: Whose; None with a pool of one account.

    Raises:
        InvalidInputError: `phlo_id` is no id.
    """

    _pool: Sends = attrs.field(repr=False)
    phlo_id: str = attrs.field(converter=parse_phlo_id)
    account: Account | str | None = None

    def multi_party_call(self, node_id: str) -> MultiPartyCall:
        """Return the handle of a multi-party-call node."""
        return MultiPartyCall(self._pool, self, node_id)

    def conference_bridge(self, node_id: str) -> ConferenceBridge:
        """Return the handle of a conference-bridge node."""
        return ConferenceBridge(self._pool, self, node_id)

    async def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        **options: Unpack[SendOptions],
    ) -> Accepted:
        """Start a run, with what the PHLO's Start node declares; see `RunPhlo`."""
        given = {} if parameters is None else parameters
        action = RunPhlo(phlo_id=self.phlo_id, parameters=given, key=key)
        return await self._pool.send(action, account=self.account, **options)

    async def describe(self, **options: Unpack[SendOptions]) -> Accepted:
        """Ask what the PHLO is; its `body` has `name` and `created_on`."""
        action = GetPhlo(phlo_id=self.phlo_id)
        return await self._pool.send(action, account=self.account, **options)


@attrs.frozen
class _Node:
    """What the nodes have in common."""

    _type: ClassVar[str]
    _pool: Sends = attrs.field(repr=False)
    phlo: Phlo
    node_id: str = attrs.field(converter=parse_node_id)

    async def describe(self, **options: Unpack[SendOptions]) -> Accepted:
        """Ask what the node is; its `body` has `name`, `node_type` and more."""
        action = GetNode(
            phlo_id=self.phlo.phlo_id, node_id=self.node_id, node_type=self._type
        )
        return await self._pool.send(action, account=self.phlo.account, **options)


class MultiPartyCall(_Node):
    """A multi-party-call node: where transfers happen."""

    __slots__ = ()
    _type = "multi_party_call"

    def member(self, address: str) -> Member:
        """Return the handle of the member at `address`."""
        return Member(self._pool, self, address)

    async def warm_transfer(
        self,
        *,
        to: str,
        trigger_source: str,
        role: AnyRole = Role.AGENT,
        key: str | None = None,
        **options: Unpack[SendOptions],
    ) -> Accepted:
        """Dial `to` for a consult before the customer joins; see `WarmTransfer`."""
        action = self._dial(WarmTransfer, to, trigger_source, role, key)
        return await self._pool.send(action, account=self.phlo.account, **options)

    async def cold_transfer(
        self,
        *,
        to: str,
        trigger_source: str,
        role: AnyRole = Role.AGENT,
        key: str | None = None,
        **options: Unpack[SendOptions],
    ) -> Accepted:
        """Connect the customer straight to `to`; see `ColdTransfer`."""
        action = self._dial(ColdTransfer, to, trigger_source, role, key)
        return await self._pool.send(action, account=self.phlo.account, **options)

    async def add_user(
        self,
        *,
        to: str,
        trigger_source: str,
        role: AnyRole = Role.AGENT,
        key: str | None = None,
        **options: Unpack[SendOptions],
    ) -> Accepted:
        """Dial `to` into the call; see `AddUser`."""
        action = self._dial(AddUser, to, trigger_source, role, key)
        return await self._pool.send(action, account=self.phlo.account, **options)

    def _dial(
        self,
        kind: type[DialAction],
        to: str,
        trigger_source: str,
        role: AnyRole,
        key: str | None,
    ) -> DialAction:
        return kind(
            phlo_id=self.phlo.phlo_id,
            node_id=self.node_id,
            to=to,
            trigger_source=trigger_source,
            role=role,
            key=key,
        )


class ConferenceBridge(_Node):
    """A conference-bridge node."""

    __slots__ = ()
    _type = "conference_bridge"

    def member(self, address: str) -> BridgeMember:
        """Return the handle of the member at `address`."""
        return BridgeMember(self._pool, self, address)


@attrs.frozen
class _Member:
    """What the members of both kinds of nodes have in common."""

    _pool: Sends = attrs.field(repr=False)
    node: _Node
    address: str = attrs.field(converter=parse_member, repr=mask)

    async def _act(
        self, kind: type[MemberAction], key: str | None, options: SendOptions
    ) -> Accepted:
        phlo = self.node.phlo
        action = kind(
            phlo_id=phlo.phlo_id,
            node_id=self.node.node_id,
            member=self.address,
            key=key,
        )
        return await self._pool.send(action, account=phlo.account, **options)


class Member(_Member):
    """A party of a multi-party call, known by its address."""

    __slots__ = ()
    node: MultiPartyCall

    async def abort_transfer(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """End the transfer that this member started; see `AbortTransfer`."""
        return await self._act(AbortTransfer, key, options)

    async def resume_call(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """Bring the customer back into this member's talk; see `ResumeCall`."""
        return await self._act(ResumeCall, key, options)

    async def voicemail_drop(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """Leave a recording on this member's machine; see `VoicemailDrop`."""
        return await self._act(VoicemailDrop, key, options)

    async def hangup(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """Disconnect this member; see `Hangup`."""
        return await self._act(Hangup, key, options)

    async def hold(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """Put this member's call on hold; see `Hold`."""
        return await self._act(Hold, key, options)

    async def unhold(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """End the hold that this member placed; see `Unhold`."""
        return await self._act(Unhold, key, options)

    async def mute(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """Mute this member; see `Mute`."""
        return await self._act(Mute, key, options)

    async def unmute(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """Unmute this member; see `Unmute`."""
        return await self._act(Unmute, key, options)


class BridgeMember(_Member):
    """A party of a conference bridge, known by its address."""

    __slots__ = ()
    node: ConferenceBridge

    async def mute(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """Mute this member; see `BridgeMute`."""
        return await self._act(BridgeMute, key, options)

    async def unmute(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """Unmute this member; see `BridgeUnmute`."""
        return await self._act(BridgeUnmute, key, options)

    async def leave(
        self, *, key: str | None = None, **options: Unpack[SendOptions]
    ) -> Accepted:
        """Make this member leave the bridge; see `BridgeLeave`."""
        return await self._act(BridgeLeave, key, options)
