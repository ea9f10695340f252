"""From events to the open handovers that they are about.

A router remembers who is in which conversation, so a handover that opens knows
its own at once. An event counts for a handover if it comes from that handover's
conversation, or, where it names none, if it fits one handover alone. What fits
two settles none.
"""

from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import attrs

from aiophlo.addresses import mask
from aiophlo.errors import InvalidInputError
from aiophlo.events import BaseEvent, Event, MemberJoined, MemberLeft

# Statuses of a call that was never answered.
_UNANSWERED: Final = frozenset(
    {"busy", "cancel", "canceled", "failed", "no-answer", "rejected", "timeout"}
)
_NAMELESS: Final = ""  # the id of all of a member's calls that were told without one
_ENOUGH: Final = 2  # of agent, customer and partner, to know a conversation by


class Party(StrEnum):
    """Who somebody is in a handover."""

    AGENT = "agent"
    CUSTOMER = "customer"
    PARTNER = "partner"
    FORMER = "former"  # rung before, and might still answer


class Presence(StrEnum):
    """What the events say of a party."""

    UNSEEN = "unseen"
    INSIDE = "inside"
    LEFT = "left"


@attrs.define(eq=False)
class _Leg:
    """One call of one member: a leave that overtook its join ends it all the same."""

    number: int  # in the order in which they were first heard of
    joined: bool = False
    left: bool = False


@attrs.define(eq=False)
class _Conversation:
    uuid: str
    legs: dict[str, dict[str, _Leg]] = attrs.field(factory=dict)  # address, call_uuid
    watch: "Watch | None" = None

    def presence(self, address: str, since: int = -1) -> Presence:
        legs = {
            uuid: leg
            for uuid, leg in self.legs.get(address, {}).items()
            if leg.number > since
        }
        left = any(leg.left for leg in legs.values())
        # Calls can't be told apart where one has no id: what left may be any.
        if not (left and _NAMELESS in legs) and any(
            leg.joined and not leg.left for leg in legs.values()
        ):
            return Presence.INSIDE
        return Presence.LEFT if left else Presence.UNSEEN


@attrs.define(eq=False)
class Watch:
    """What one open handover hears.

    Attributes:
        agent: Address of the agent.
        customer: Address of the customer.
        tell: Called with each party that is heard of, and its presence now.
        conference_uuid: The handover's conversation, once it is known.
        partner: Address of the one who is being rung, or has answered.
    """

    agent: str = attrs.field(repr=mask)
    customer: str = attrs.field(repr=mask)
    tell: Callable[[Party, Presence], None] = attrs.field(repr=False)
    conference_uuid: str | None = None
    partner: str | None = attrs.field(default=None, repr=False)
    opened: int = attrs.field(default=0, repr=False)
    rung: int = attrs.field(default=0, repr=False)
    left: set[str] = attrs.field(factory=set, repr=False)
    former: dict[str, int] = attrs.field(factory=dict, repr=False)  # as `rung`

    def parties(self) -> dict[str, Party]:
        """Return who has which address."""
        known = dict.fromkeys(self.former, Party.FORMER)
        known |= {self.agent: Party.AGENT, self.customer: Party.CUSTOMER}
        if self.partner is not None:
            known[self.partner] = Party.PARTNER
        return known

    def since(self, address: str) -> int:
        """Return after which number somebody's calls count."""
        if address == self.partner:
            return self.rung
        return self.former.get(address, -1)


class EventRouter:
    """Tells open handovers what happens in their calls.

    Give its `feed` to a `Receiver`, or call it with each event that you get by
    other ways, on the pool's event loop. Feed it all events from the beginning of
    each call: a conversation is known by two of agent, customer and partner.
    Events may come twice and in any order.

    Args:
        remember: Conversations without an open handover that it keeps in mind,
            the latest ones: 1 to 2 kB each.

    Raises:
        InvalidInputError: `remember` is no whole number above 0.

    Source:
        Plivo docs, "PHLO components": a Multi-Party Call's events and variables.
        Assumed: `conference_uuid` is one conversation's from its first event to its
        last, `call_uuid` is one member's; the call statuses of Plivo's Voice API
        mean the same here. Where events come without `call_uuid`, who has left is
        taken to stay away for as long as the handover is open.
    """

    def __init__(self, *, remember: int = 10_000) -> None:
        if isinstance(remember, bool) or not isinstance(remember, int) or remember < 1:
            message = f"remember: expected a whole number above 0, got {remember!r}"
            raise InvalidInputError(message, field="remember")
        self._remember = remember
        self._conversations: OrderedDict[str, _Conversation] = OrderedDict()
        self._where: dict[str, dict[str, None]] = {}  # address: conference_uuids
        self._watches: dict[str, dict[Watch, None]] = {}  # by address
        self._number = 0
        self._open = 0  # handovers
        self._bound = 0  # of these, those whose conversation is known

    def __repr__(self) -> str:
        known = len(self._conversations)
        return f"<EventRouter {self._open} handovers, {known} conversations>"

    def feed(self, event: Event) -> bool:
        """Take an event.

        Args:
            event: As `parse_event` returns it.

        Returns:
            Whether it was about one open handover.

        Raises:
            InvalidInputError: It is no event.
        """
        if not isinstance(event, BaseEvent):
            message = f"event: expected an event, got {type(event).__name__}"
            raise InvalidInputError(message, field="event")
        left = _has_left(event)
        if left is None or event.member is None:
            return False
        if event.conference_uuid is None:
            return self._feed_unplaced(event.member, left=left)
        conversation = self._conversation(event.conference_uuid)
        self._note(conversation, event.member, event.call_uuid or _NAMELESS, left=left)
        watch = conversation.watch or self._recognise(conversation)
        return watch is not None and self._tell(watch, conversation, event.member)

    def watch(
        self,
        *,
        agent: str,
        customer: str,
        tell: Callable[[Party, Presence], None],
        conference_uuid: str | None = None,
    ) -> Watch:
        """Listen for a handover from now on, until `forget`.

        Args:
            agent: Address of the agent.
            customer: Address of the customer.
            tell: Called with each party that is heard of, and its presence now;
                perhaps before this returns.
            conference_uuid: The handover's conversation, if the caller knows it.

        Raises:
            InvalidInputError: Another open handover has that conversation: its
                events would fit both, and so settle neither.
        """
        if conference_uuid is not None and self._is_held(conference_uuid):
            message = "conference_uuid: expected no other open handover's conversation"
            raise InvalidInputError(message, field="conference_uuid")
        self._number += 1
        self._open += 1
        watch = Watch(agent, customer, tell, opened=self._number)
        for address in (agent, customer):
            self._watches.setdefault(address, {})[watch] = None
            self._forget_nameless(watch, address, over=True)
        conversation = (
            self._best(watch)
            if conference_uuid is None
            else self._conversation(conference_uuid)
        )
        if conversation is not None:
            self._bind(watch, conversation)
        return watch

    def _is_held(self, uuid: str) -> bool:
        conversation = self._conversations.get(uuid)
        return conversation is not None and conversation.watch is not None

    def follow(self, watch: Watch, partner: str, *, keep: bool = False) -> None:
        """Listen for another partner, who is about to be rung.

        Calls of theirs that were heard of before don't count.

        Args:
            watch: As `watch` returned it.
            partner: Address.
            keep: Whether the one before might still answer, and is listened for.
        """
        if keep and watch.partner is not None:
            watch.former[watch.partner] = watch.rung
        else:
            self._unindex(watch, watch.partner)
        self._number += 1
        watch.partner, watch.rung = partner, self._number
        watch.left.discard(partner)
        self._watches.setdefault(partner, {})[watch] = None
        self._forget_nameless(watch, partner, over=False)

    def _forget_nameless(self, watch: Watch, address: str, *, over: bool) -> None:
        """Forget somebody's calls without an id, which the next ones are taken for.

        Args:
            watch: Who begins to listen.
            address: To whom.
            over: Whether only those that are over are forgotten.
        """
        for uuid in self._where.get(address, ()):
            conversation = self._conversations[uuid]
            legs = conversation.legs[address]
            if conversation.watch not in {None, watch} or _NAMELESS not in legs:
                continue
            if legs[_NAMELESS].left or not over:
                del legs[_NAMELESS]

    def forget(self, watch: Watch) -> None:
        """Listen no more to a watch that `watch` returned."""
        self._open -= 1
        for address in watch.parties():
            self._unindex(watch, address)
        conversation = self._conversations.get(watch.conference_uuid or "")
        if conversation is not None and conversation.watch is watch:
            conversation.watch = None
            self._bound -= 1

    def _unindex(self, watch: Watch, address: str | None) -> None:
        watches = self._watches.get(address or "", {})
        watches.pop(watch, None)
        if not watches:
            self._watches.pop(address or "", None)

    def _feed_unplaced(self, member: str, *, left: bool) -> bool:
        watches = self._watches.get(member, {})
        if len(watches) != 1:
            return False
        watch = next(iter(watches))
        if left:
            watch.left.add(member)
        presence = Presence.LEFT if member in watch.left else Presence.INSIDE
        watch.tell(watch.parties()[member], presence)
        return True

    def _conversation(self, uuid: str) -> _Conversation:
        conversation = self._conversations.get(uuid)
        if conversation is None:
            conversation = self._conversations[uuid] = _Conversation(uuid)
            self._forget_oldest()
        self._conversations.move_to_end(uuid)
        return conversation

    def _forget_oldest(self) -> None:
        excess = len(self._conversations) - self._bound - self._remember
        idle = (one for one in self._conversations.values() if one.watch is None)
        for conversation in [one for _, one in zip(range(excess), idle, strict=False)]:
            del self._conversations[conversation.uuid]
            for address in conversation.legs:
                places = self._where[address]
                del places[conversation.uuid]
                if not places:
                    del self._where[address]

    def _note(
        self, conversation: _Conversation, member: str, call_uuid: str, *, left: bool
    ) -> None:
        legs = conversation.legs.setdefault(member, {})
        self._where.setdefault(member, {})[conversation.uuid] = None
        if call_uuid not in legs:
            self._number += 1
            legs[call_uuid] = _Leg(self._number)
        if left:
            legs[call_uuid].left = True
        else:
            legs[call_uuid].joined = True

    def _recognise(self, conversation: _Conversation) -> Watch | None:
        """Find the one open handover whose conversation this must be."""
        fitting = {
            watch
            for address in conversation.legs
            for watch in self._watches.get(address, ())
            if watch.conference_uuid is None and self._best(watch) is conversation
        }
        if len(fitting) != 1:
            return None
        watch = fitting.pop()
        self._bind(watch, conversation)
        return watch

    def _best(self, watch: Watch) -> _Conversation | None:
        """Return the conversation that fits a handover better than any other."""
        uuids = {uuid for one in watch.parties() for uuid in self._where.get(one, ())}
        free = [self._conversations[uuid] for uuid in uuids]
        scores = {one: _fit(watch, one) for one in free if one.watch is None}
        best = max(scores.values(), default=0)
        found = [one for one, score in scores.items() if score == best]
        return found[0] if best >= _ENOUGH and len(found) == 1 else None

    def _bind(self, watch: Watch, conversation: _Conversation) -> None:
        watch.conference_uuid, conversation.watch = conversation.uuid, watch
        self._bound += 1
        for address in list(watch.parties()):
            self._tell(watch, conversation, address)

    def _tell(self, watch: Watch, conversation: _Conversation, address: str) -> bool:
        party = watch.parties().get(address)
        if party is None:
            return False
        presence = conversation.presence(address, watch.since(address))
        if address in watch.left:
            presence = Presence.LEFT
        if presence is not Presence.UNSEEN:
            watch.tell(party, presence)
        return True


def _has_left(event: Event) -> bool | None:
    """Say whether an event tells of a leaving or a joining; None if of neither."""
    if isinstance(event, MemberLeft):
        return True
    if (event.call_status or "").lower() in _UNANSWERED:
        return True
    return False if isinstance(event, MemberJoined) else None


def _fit(watch: Watch, conversation: _Conversation) -> int:
    """Count the parties who are in a conversation, or were since this was opened."""
    known = [one for one, who in watch.parties().items() if who is not Party.FORMER]
    return sum(
        conversation.presence(address, watch.since(address)) is Presence.INSIDE
        or conversation.presence(address, max(watch.opened, watch.since(address)))
        is Presence.LEFT
        for address in known
    )
