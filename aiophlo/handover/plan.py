"""What a handover is to do, checked before anything is sent."""

from collections.abc import Sequence
from typing import Any, TypedDict

import attrs

from aiophlo.actions import AbortTransfer, Hangup, Role, WarmTransfer
from aiophlo.addresses import mask, parse_address
from aiophlo.checks import check_optional, check_seconds, check_type
from aiophlo.errors import InvalidInputError
from aiophlo.handover.table import OpenHandover
from aiophlo.journal import Journal
from aiophlo.nodes import AnyRole, MultiPartyCall
from aiophlo.routing import EventRouter


def _agent(value: str) -> str:
    return parse_address(value, field="agent")


def _customer(value: str) -> str:
    return parse_address(value, field="customer")


def _targets(value: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, str | Sequence):
        message = "to: expected an address, or several in order"
        raise InvalidInputError(message, field="to")
    several = [value] if isinstance(value, str) else value
    targets = tuple(parse_address(one, field="to") for one in several)
    if not targets or len(set(targets)) < len(targets):
        message = "to: expected one address or more, each of them once"
        raise InvalidInputError(message, field="to")
    return targets


def _role(value: AnyRole) -> Role:
    try:
        return Role(value)
    except ValueError as error:
        message = "role: expected 'agent' or 'customer'"
        raise InvalidInputError(message, field="role") from error


def _seconds(_: Any, field: "attrs.Attribute[Any]", value: float) -> None:  # noqa: ANN401 -- attrs'
    check_seconds(value, field.name)


def _shown(targets: tuple[str, ...]) -> str:
    return ", ".join(map(mask, targets))


class ConsultOptions(TypedDict, total=False):
    """What `SessionPool.hand_over` takes besides, as `SessionPool.consult` does."""

    ring_for: float
    journal: Journal | None
    role: AnyRole
    conference_uuid: str | None
    send_within: float
    told_within: float
    bring_back_within: float


@attrs.frozen(kw_only=True)
class Plan:
    """What a handover is to do; see `SessionPool.consult` for the attributes."""

    node: MultiPartyCall
    agent: str = attrs.field(converter=_agent, repr=mask)
    customer: str = attrs.field(converter=_customer, repr=mask)
    targets: tuple[str, ...] = attrs.field(converter=_targets, repr=_shown)
    ring_for: float = attrs.field(validator=_seconds)
    role: Role = attrs.field(converter=_role)
    send_within: float = attrs.field(validator=_seconds)
    told_within: float = attrs.field(validator=_seconds)
    bring_back_within: float = attrs.field(validator=_seconds)
    router: EventRouter | None = None
    journal: Journal | None = None
    conference_uuid: str | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        check_type(self.node, MultiPartyCall, "node")
        check_optional(self.router, EventRouter, "router")
        check_optional(self.journal, Journal, "journal")
        check_optional(self.conference_uuid, str, "conference_uuid")
        if self.conference_uuid == "":
            message = "conference_uuid: expected text, or None to have it found"
            raise InvalidInputError(message, field="conference_uuid")
        if self.customer == self.agent:
            message = "customer: expected somebody other than the agent"
            raise InvalidInputError(message, field="customer")
        if {self.agent, self.customer} & set(self.targets):
            message = "to: expected neither the agent nor the customer"
            raise InvalidInputError(message, field="to")

    @property
    def where(self) -> dict[str, str]:
        """The ids of PHLO and node."""
        return {"phlo_id": self.node.phlo.phlo_id, "node_id": self.node.node_id}

    def transfer(self, target: str) -> WarmTransfer:
        """Return what rings `target`."""
        return WarmTransfer(
            to=target, trigger_source=self.agent, role=self.role, **self.where
        )

    def hangup(self) -> Hangup:
        """Return what leaves the customer to the partner."""
        return Hangup(member=self.agent, **self.where)

    def abort(self) -> AbortTransfer:
        """Return what brings the customer back to the agent."""
        return AbortTransfer(member=self.agent, **self.where)

    def entry(self, auth_id: str) -> OpenHandover:
        """Return what a crash must not make anybody forget."""
        return OpenHandover(
            account=auth_id,
            phlo_id=self.node.phlo.phlo_id,
            node_id=self.node.node_id,
            agent=self.agent,
            customer=mask(self.customer),
            targets=_shown(self.targets),
        )
