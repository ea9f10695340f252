"""The options of a handover, checked before anything is sent."""

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import attrs

from aiophlo.handles import AnyRole, MultiPartyCall
from aiophlo.handover.event_router import EventRouter
from aiophlo.handover.sighted_hangup import Look
from aiophlo.journal.journal import Journal
from aiophlo.model.actions import AbortTransfer, Hangup, Role, WarmTransfer, parse_role
from aiophlo.model.address_matching import is_withheld, same_party
from aiophlo.model.addresses import parse_address
from aiophlo.model.handover_records import OpenHandover
from aiophlo.model.invalid_input import refuse
from aiophlo.model.redaction import mask
from aiophlo.model.validation import check_optional, check_seconds, check_type


def _agent(value: str) -> str:
    return parse_address(value, field="agent")


def _customer(value: str | None) -> str | None:
    if value is None or (isinstance(value, str) and is_withheld(value)):
        return value
    return parse_address(value, field="customer")


def _addresses(value: str | Sequence[str], field: str) -> tuple[str, ...]:
    if not isinstance(value, str | Sequence):
        refuse(field, "an address, or several in order")
    several = [value] if isinstance(value, str) else value
    return tuple(parse_address(one, field=field) for one in several)


def _shared(value: str | Sequence[str]) -> frozenset[str]:
    return frozenset(_addresses(value, "shared"))


def _targets(value: str | Sequence[str]) -> tuple[str, ...]:
    targets = _addresses(value, "to")
    if not targets or len(set(targets)) < len(targets):
        refuse("to", "one address or more, each of them once")
    return targets


def _seconds(_: Any, field: "attrs.Attribute[Any]", value: float) -> None:  # noqa: ANN401 -- attrs'
    check_seconds(value, field.name)


def _shown_customer(customer: str | None) -> str:
    if customer is None or is_withheld(customer):
        return "without a number"
    return mask(customer)


def _check_given(value: str | None, field: str) -> None:
    check_optional(value, str, field)
    if value == "":
        refuse(field, "text, or None to have it found")


def _shown(targets: Iterable[str]) -> str:
    return ", ".join(map(mask, targets))


class ConsultOptions(TypedDict, total=False):
    """What `SessionPool.hand_over` takes besides, as `SessionPool.consult` does."""

    shared: str | Sequence[str]
    ring_for: float
    journal: Journal | None
    role: AnyRole
    conference_uuid: str | None
    customer_call_uuid: str | None
    send_within: float
    told_within: float | None
    bring_back_within: float
    look: bool


@attrs.frozen(kw_only=True)
class HandoverOptions:
    """What a handover is to do; see `SessionPool.consult` for the attributes."""

    node: MultiPartyCall
    agent: str = attrs.field(converter=_agent, repr=mask)
    customer: str | None = attrs.field(converter=_customer, repr=_shown_customer)
    targets: tuple[str, ...] = attrs.field(converter=_targets, repr=_shown)
    ring_for: float = attrs.field(validator=_seconds)
    role: Role = attrs.field(converter=parse_role)
    send_within: float = attrs.field(validator=_seconds)
    told_within: float = attrs.field(validator=_seconds)
    bring_back_within: float = attrs.field(validator=_seconds)
    shared: frozenset[str] = attrs.field(
        default=(), converter=_shared, repr=lambda some: _shown(sorted(some))
    )
    router: EventRouter | None = None
    journal: Journal | None = None
    conference_uuid: str | None = attrs.field(default=None, repr=False)
    customer_call_uuid: str | None = attrs.field(default=None, repr=False)
    look: Look | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        check_type(self.node, MultiPartyCall, "node")
        check_optional(self.router, EventRouter, "router")
        check_optional(self.journal, Journal, "journal")
        _check_given(self.conference_uuid, "conference_uuid")
        _check_given(self.customer_call_uuid, "customer_call_uuid")
        known = self.conference_uuid or self.customer_call_uuid
        if self.customer is None and self.router is not None and known is None:
            refuse(
                "customer",
                "an address, or a conference_uuid or customer_call_uuid to know an"
                " unknown caller by",
            )
        if self.customer is not None and same_party(self.customer, self.agent):
            refuse("customer", "somebody other than the agent")
        callers = filter(None, (self.agent, self.customer))
        if any(same_party(one, to) for one in callers for to in self.targets):
            refuse("to", "neither the agent nor the customer")
        if not self.shared <= set(self.targets):
            refuse("shared", "some of those to be reached")

    @property
    def where(self) -> dict[str, str]:
        """The ids of PHLO and node."""
        return {"phlo_id": self.node.phlo.phlo_id, "node_id": self.node.node_id}

    def transfer(self, target: str) -> WarmTransfer:
        """Return the action that rings `target`."""
        return WarmTransfer(
            to=target, trigger_source=self.agent, role=self.role, **self.where
        )

    def hangup(self) -> Hangup:
        """Return the action that leaves the customer to the partner."""
        return Hangup(member=self.agent, **self.where)

    def abort(self) -> AbortTransfer:
        """Return the action that brings the customer back to the agent."""
        return AbortTransfer(member=self.agent, **self.where)

    def entry(self, auth_id: str) -> OpenHandover:
        """Return the row for the journal, from which a crash is recovered."""
        return OpenHandover(
            account=auth_id,
            phlo_id=self.node.phlo.phlo_id,
            node_id=self.node.node_id,
            agent=self.agent,
            customer=_shown_customer(self.customer),
            targets=_shown(self.targets),
        )
