"""Whom one open handover is about, and what events tell of them."""

from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from aiophlo.handover.conversations import (
    NAMELESS,
    Conversation,
    Presence,
    SeenCall,
    SeenCalls,
    presence_in,
)
from aiophlo.model.address_matching import (
    WITHHELD,
    country_code_of,
    is_withheld,
    national_keys,
    party_keys,
)
from aiophlo.model.enums import MaskedStrEnum
from aiophlo.model.handover_records import new_handover_id
from aiophlo.model.redaction import mask


class Party(MaskedStrEnum):
    """The part that a person has in a handover."""

    AGENT = "agent"
    CUSTOMER = "customer"
    PARTNER = "partner"
    FORMER = "former"  #: rung before, and might still answer


Person: TypeAlias = tuple[Party, int]
"""A party, and the event after which its calls count: unlike all others."""

AGENT: Final[Person] = (Party.AGENT, -1)
CUSTOMER: Final[Person] = (Party.CUSTOMER, -1)


@attrs.define(eq=False)
class Watch:
    """The events of one open handover.

    Attributes:
        agent: Address of the agent.
        customer: Address of the customer; None, or a text such as `anonymous`, if
            their number isn't known.
        tell: Called with each party that is heard of, and its presence now.
        customer_call_uuid: The customer's call, where it is known.
        id: Of the handover.
        conference_uuid: The handover's conversation, once it is known.
        is_inferred: Whether that is known by who is in it, and not by what the
            caller said: so it may have been their call before this one.
        partner: Address of the one who is being rung, or has answered.
        call_status: How the partner's call has ended, in Plivo's word, if an event
            said that nobody answered it: one of `UNANSWERED`. Set before `tell`.
        heard_of: Of whom events have come; of the partner, since they were rung.
        opened: Number of the event after which this began.
        rung: Number of the event after which the partner was rung.
        former: When those were rung who might still answer, by address.
        names: Who is known by which key.
        hide: Returns what stands for a key in the events of this router; None if the
            key itself does.
        unplaced: What events told that named no conversation.
    """

    agent: str = attrs.field(repr=mask)
    customer: str | None = attrs.field(repr=False)
    tell: Callable[[Party, Presence], None] = attrs.field(repr=False)
    customer_call_uuid: str | None = attrs.field(default=None, repr=False)
    id: str = attrs.field(factory=new_handover_id)
    conference_uuid: str | None = None
    is_inferred: bool = attrs.field(default=False, repr=False)
    partner: str | None = attrs.field(default=None, repr=False)
    call_status: str | None = attrs.field(default=None, repr=False)
    heard_of: set[Party] = attrs.field(factory=set, repr=False)
    opened: int = attrs.field(default=0, repr=False)
    rung: int = attrs.field(default=0, repr=False)
    former: dict[str, int] = attrs.field(factory=dict, repr=False)
    names: dict[str, Person] = attrs.field(factory=dict, repr=False)
    hide: Callable[[str], str] | None = attrs.field(default=None, repr=False)
    unplaced: Conversation = attrs.field(
        factory=lambda: Conversation(""), repr=False, init=False
    )

    @property
    def heard(self) -> bool:
        """Whether events of this call are known to arrive here.

        They are if one came about the partner since they were rung, or if agent
        and customer were both heard of. Otherwise that no answer was heard says
        nothing about the partner, but something about the webhooks.
        """
        return (
            Party.PARTNER in self.heard_of
            or {Party.AGENT, Party.CUSTOMER} <= self.heard_of
        )

    @property
    def hides_customer(self) -> bool:
        """Whether the customer has no number to be known by."""
        return self.customer is None or is_withheld(self.customer)

    def is_in(self, conference_uuid: str) -> bool:
        """Say whether an event of a conversation, if it names one, may be of this."""
        own = self.conference_uuid
        return not own or not conference_uuid or own == conference_uuid

    def people(self) -> dict[Person, str | None]:
        """Return all parties with their addresses, those that matter least first."""
        people: dict[Person, str | None] = {
            (Party.FORMER, rung): address for address, rung in self.former.items()
        }
        people |= {AGENT: self.agent, CUSTOMER: self.customer}
        if self.partner is not None:
            people[Party.PARTNER, self.rung] = self.partner
        return people

    def learn_names(self) -> None:
        """Index the parties by their keys.

        By a national number somebody is known only where another party's number has
        the same country code, and if nobody else would be known by it.
        """
        keys = {
            person: party_keys(address)[0]
            for person, address in self.people().items()
            if address is not None and not is_withheld(address)
        }
        self.names = {key: person for person, key in keys.items()}
        national: dict[str, Person | None] = {}
        for key, person in self.names.items():
            others = {country_code_of(other) for other in self.names if other != key}
            if country_code_of(key) in others:
                for name in national_keys(key):
                    national[name] = None if name in national else person
        self.names |= {name: who for name, who in national.items() if who is not None}
        if self.hide is not None:
            self.names = {self.hide(name): who for name, who in self.names.items()}

    def who(self, keys: tuple[str, ...], call_uuid: str) -> Person | None:
        """Return the party that these keys match, if they match one alone."""
        if call_uuid and call_uuid == self.customer_call_uuid:
            return CUSTOMER
        if len(keys) == 1:
            return self.names.get(keys[0])
        found = {self.names[key] for key in keys if key in self.names}
        return found.pop() if len(found) == 1 else None

    def calls_of(
        self, person: Person, *places: Conversation, by_exclusion: bool = True
    ) -> list[tuple[str, SeenCall]]:
        """Return the calls of a party in some conversations, with their ids.

        A customer without a number is whoever withholds theirs, or else whoever
        called in and is nobody else: who was called has a number that is known.

        Args:
            person: Whose.
            places: Where.
            by_exclusion: Whether the customer may be who is nobody else.
        """
        members = [one for place in places for one in place.members.values()]
        calls = [
            (uuid, call)
            for member in members
            for uuid, call in member.calls.items()
            if self.who(member.keys, uuid) == person
        ]
        if calls or person != CUSTOMER or not self.hides_customer:
            return calls
        others = [one for one in members if self.who(one.keys, NAMELESS) is None]
        found = [one for one in others if WITHHELD in one.keys]
        if by_exclusion:
            found = found or [one for one in others if one.called_in]
        return [one for member in found for one in member.calls.items()]


def agent_since(watch: Watch, conversation: Conversation) -> int:
    """Return after which event the agent's latest call in a conversation was new."""
    calls = watch.calls_of(AGENT, conversation)
    return max((call.heard for _, call in calls), default=-1)


def is_newer_call_of_agent(watch: Watch, conversation: Conversation) -> bool:
    """Say whether the agent has joined another call since the partner was rung.

    With somebody there whom the handover doesn't know: the agent may be heard of first
    in what is the handover's own call.
    """
    if conversation.uuid == watch.conference_uuid:
        return False
    if watch.hides_customer and watch.is_inferred:
        return False  # who called in there may be the customer
    if watch.calls_of(CUSTOMER, conversation, by_exclusion=False):
        return False

    def is_inside(calls: SeenCalls) -> bool:
        now = presence_in(calls, since=watch.rung, opened=watch.rung)
        return now is Presence.INSIDE

    return is_inside(watch.calls_of(AGENT, conversation)) and any(
        is_inside(member.calls.items())
        for member in conversation.members.values()
        if watch.who(member.keys, NAMELESS) is None
    )


def fit(watch: Watch, conversation: Conversation) -> int:
    """Count the parties who are in a conversation, or were since this was opened.

    The customer's call counts once more where the caller said which one it is: it is
    in one conversation alone.
    """
    count = 0
    for person in watch.people():
        party, since = person
        if party is Party.FORMER:
            continue
        calls = watch.calls_of(person, conversation, by_exclusion=False)
        now = presence_in(calls, since=since, opened=watch.opened)
        count += any(uuid == watch.customer_call_uuid for uuid, _ in calls)
        late = max(since, watch.opened)
        count += now is Presence.INSIDE or (
            presence_in(calls, since=late, opened=watch.opened) is Presence.LEFT
        )
    return count
