"""Routes each event to the open handover that it is about.

A router remembers who is in which conversation, so a new handover knows its own
conversation at once. An event is routed to a handover if it names that handover's
conversation, or, where it names none, if it matches that handover alone. An event that
matches two open handovers is ignored for both.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Final

from aiophlo.coordination import Coordinator
from aiophlo.errors import engaged_error
from aiophlo.handover.conversations import (
    Conversation,
    ConversationMemory,
    Presence,
    SeenCall,
    SeenCalls,
    SeenMember,
    presence_in,
)
from aiophlo.handover.event_reading import read_event
from aiophlo.handover.late_news import LateNews
from aiophlo.handover.watch import (
    AGENT,
    CUSTOMER,
    Party,
    Person,
    Watch,
    agent_since,
    fit,
    is_newer_call_of_agent,
)
from aiophlo.logs import logger
from aiophlo.loop_guard import LoopGuard
from aiophlo.model.call_events import CallEvent
from aiophlo.model.handover_records import new_handover_id
from aiophlo.model.invalid_input import refuse
from aiophlo.model.validation import check_count, check_seconds
from aiophlo.webhooks.events import BaseEvent, Event

_ENOUGH: Final = 2  # of agent, customer and partner, to know a conversation by
_UNSURE: Final = 0.1  # seconds: how exactly other pools say when they heard something


class EventRouter:
    """Tells open handovers what happens in their calls.

    Give its `feed` to a `Receiver`, or call it with each event that you get by
    other ways. It belongs to the pool's event loop and has no lock: from a thread,
    hand each event to that loop. While handovers are open, `feed` refuses to be
    called elsewhere. Feed it all events from the beginning of
    each call: a conversation is known by two of agent, customer and partner.
    Events may come twice and in any order.

    Parties are compared as `aiophlo.model.address_matching` says: however an event
    spells an endpoint or a number, with one exception. A number without its country
    code counts only where the event says the country in two letters, or another
    party of that handover has the same country code. An event without a direction
    is about whichever of `from` and `to` is a party; if both are, it is about
    neither.

    Args:
        remember: Conversations without an open handover that it keeps in mind,
            the latest ones: 1 to 2 kB each. Of one address it looks through the
            latest 64, and of one conversation it keeps 100 calls.
        told_within: Seconds by which events may be behind the call, which handovers
            wait for what may still be told. In tests, where they come at once, a
            tenth is enough.
        coordinator: The one that the pool has: then each event that any process
            feeds is told to the routers of all, and one that starts in mid-call
            learns who is inside. Such a router is fed while its pool is open, on
            that one's event loop. None shares nothing.

    Attributes:
        told_within: The same.

    Raises:
        InvalidInputError: `remember` is no whole number above 0, `told_within` no
            number of seconds, or `coordinator` none.

    Source:
        Plivo docs, "PHLO components": a Multi-Party Call's events and variables.
        Assumed: `conference_uuid` is one conversation's from its first event to its
        last, `call_uuid` is one member's; the call statuses of Plivo's Voice API
        mean the same here. Where events come without `call_uuid`, who has left is
        taken to stay away for as long as the handover is open.
    """

    def __init__(
        self,
        *,
        remember: int = 10_000,
        told_within: float = 2.0,
        coordinator: Coordinator | None = None,
    ) -> None:
        self.told_within = check_seconds(told_within, "told_within")
        self._memory = ConversationMemory(check_count(remember, "remember"))
        self._holders: dict[str, Watch] = {}  # by conference_uuid
        self._callers: dict[str, dict[Watch, None]] = {}  # by agent's, customer's key
        self._partners: dict[str, dict[Watch, None]] = {}  # by the key of who is rung
        self._open = 0  # handovers
        self._guard: LoopGuard | None = None  # of the loop that they are on
        self._unmatched = 0
        self._has_warned = False
        if not (coordinator is None or callable(getattr(coordinator, "calls", None))):
            refuse("coordinator", "a PostgresCoordinator", coordinator)
        self._coordinator = coordinator
        self._shared = None if coordinator is None else coordinator.calls(self._hear)
        # When each watch, and each ring of it, began: what was before may come late.
        self._begun: dict[Watch, list[tuple[float, int]]] = {}
        self._late_before = -math.inf
        self._late_news = LateNews(self._presence, told_within)

    def __repr__(self) -> str:
        return (
            f"<EventRouter handovers={self._open}"
            f" conversations={len(self._memory)} unmatched={self._unmatched}>"
        )

    @property
    def unmatched(self) -> int:
        """How many joins and leaves were about none of the handovers then open.

        Those of other calls, too, and of all processes that share events. If handovers
        hear nothing while it grows, their events come, and are not recognised: compare
        how they spell the parties, and whether they bear `direction` and
        `conference_uuid`.
        """
        return self._unmatched

    def feed(self, event: Event) -> str | None:
        """Take an event.

        Args:
            event: As `parse_event` returns it.

        Returns:
            Id of the one open handover of this router that it was about; None if
            there is none.

        Raises:
            InvalidInputError: It is no event; or this is another process, thread or
                event loop than that of the handovers which are open; or the pool that
                has the coordinator isn't open yet.
        """
        if self._guard is not None:
            self._guard.check()
        if not isinstance(event, BaseEvent):
            refuse("event", "an event", event)
        said = read_event(event)
        if said is None:
            return None
        if self._shared is not None and said.keys:
            said = self._shared.tell(said)
        return self._hear(said)

    def _hear(self, event: CallEvent) -> str | None:
        """Hear what this process was told, or another one."""
        watch = self._take(event) if event.keys else None
        if watch is not None:
            return watch.id
        if self._open:
            self._unmatched += 1
        self._late_news.hear(event)
        return None

    def _take(self, event: CallEvent) -> Watch | None:
        """Return the handover that an event is about, which has been told."""
        keys, call_uuid, memory = event.keys, event.call_uuid, self._memory
        memory.number += 1
        number = memory.number
        if event.at < self._late_before:
            number = self._number_then(event.at)
        heard, where = number, event.conference_uuid
        if call_uuid:
            heard, where = memory.first_heard(call_uuid, keys, where, number)
        place = memory.open(where) if event.conference_uuid else memory.get(where)
        watch = self._only_one(keys, call_uuid) if place is None else None
        if place is None:
            if watch is None:
                return None
            place = watch.unplaced
        else:
            memory.index(place, keys)
        member = place.member(keys, called_in=event.called_in)
        call = place.call(member, call_uuid, heard)
        _note(call, event, heard, number)
        if event.left:
            self._leave_former_call(place)
        watch = watch or self._holders.get(place.uuid) or self._recognise(place)
        if watch is None:
            return None
        person = self._person(watch, member, call_uuid)
        if person is None:
            return None
        self._tell(watch, person)
        return watch

    def _number_then(self, at: float) -> int:
        """Return the number of the first watch or ring that began after a time."""
        return min(
            (
                number
                for moments in self._begun.values()
                for moment, number in moments
                if at < moment
            ),
            default=self._memory.number,
        )

    def _only_one(self, keys: tuple[str, ...], call_uuid: str) -> Watch | None:
        """Return the one open handover that a member's call belongs to."""
        watches = {
            watch
            for key in (*keys, _call_key(call_uuid))
            for index in (self._callers, self._partners)
            for watch in index.get(key, ())
            if watch.who(keys, call_uuid) is not None
        }
        return watches.pop() if len(watches) == 1 else None

    def _person(
        self, watch: Watch, member: SeenMember, call_uuid: str
    ) -> Person | None:
        """Return who in a handover a member's call belongs to."""
        person = watch.who(member.keys, call_uuid)
        if person is None and watch.hides_customer:
            calls = watch.calls_of(CUSTOMER, *self._places(watch))
            is_theirs = any(call is member.calls[call_uuid] for _, call in calls)
            return CUSTOMER if is_theirs else None
        return person

    def watch(
        self,
        *,
        agent: str,
        customer: str | None,
        tell: Callable[[Party, Presence], None],
        conference_uuid: str | None = None,
        customer_call_uuid: str | None = None,
        handover: str | None = None,
    ) -> Watch:
        """Listen for a handover from now on, until `forget`.

        Args:
            agent: Address of the agent.
            customer: Address of the customer; None, or a text such as `anonymous`, if
                their number isn't known.
            tell: Called with each party that is heard of, and its presence now;
                perhaps before this returns.
            conference_uuid: The handover's conversation, if the caller knows it.
            customer_call_uuid: The customer's call, if the caller knows it.
            handover: Id of the handover, which `feed` returns; None for a new one.

        Raises:
            EngagedError: Another open handover has that conversation: its events
                would match both, and be ignored for both.
            InvalidInputError: Those that are open are on another event loop.
        """
        self._keep_to_this_loop()
        if self._shared is not None:
            conference_uuid = conference_uuid and self._shared.hide(conference_uuid)
            customer_call_uuid = customer_call_uuid and self._shared.hide(
                customer_call_uuid
            )
        if conference_uuid in self._holders:
            raise engaged_error("conference_uuid")
        self._memory.number += 1
        self._open += 1
        watch = Watch(
            agent,
            customer,
            tell,
            customer_call_uuid,
            id=handover or new_handover_id(),
            opened=self._memory.number,
            hide=None if self._shared is None else self._shared.hide,
        )
        self._note_beginning(watch)
        self._index(watch)
        conversation = (
            self._best(watch)
            if conference_uuid is None
            else self._memory.open(conference_uuid)
        )
        if conversation is not None:
            self._bind(watch, conversation, inferred=conference_uuid is None)
        return watch

    def check_coordinator(self, coordinator: object) -> None:
        """Refuse the handovers of a pool that other events are shared with.

        Raises:
            InvalidInputError: This router has a coordinator, and it isn't that one.
        """
        if self._coordinator is not None and self._coordinator is not coordinator:
            refuse("router", "one with the coordinator that the pool has", self)

    def _note_beginning(self, watch: Watch) -> None:
        if self._shared is not None:
            self._late_before = self._shared.now() - _UNSURE
            begun = self._begun.setdefault(watch, [])
            begun.append((self._late_before, self._memory.number))

    def _keep_to_this_loop(self) -> None:
        if self._guard is not None:
            self._guard.check()
        elif asyncio._get_running_loop() is not None:  # noqa: SLF001 -- documented for frameworks; doesn't raise
            self._guard = LoopGuard("router")

    def follow(self, watch: Watch, partner: str, *, keep: bool = False) -> None:
        """Listen for another partner, who is about to be rung.

        A call that was heard of before, in whatever conversation, is not the one that
        rings now. What can't be told from it is a call of theirs in this conversation
        that is older and whose first event comes only now, with an id that no event
        had before.

        Args:
            watch: As `watch` returned it.
            partner: Address.
            keep: Whether the one before might still answer, and is listened for.
        """
        if keep and watch.partner is not None:
            watch.former[watch.partner] = watch.rung
        watch.former.pop(partner, None)
        self._memory.number += 1
        watch.partner, watch.rung = partner, self._memory.number
        watch.call_status = None
        watch.heard_of.discard(Party.PARTNER)
        self._note_beginning(watch)
        self._index(watch)

    def forget(self, watch: Watch) -> None:
        """Listen no more to a watch that `watch` returned."""
        self._open -= 1
        if not self._open:
            self._guard = None  # the next pool may be on another loop
        self._begun.pop(watch, None)
        self._unindex(watch)
        uuid = watch.conference_uuid or ""
        if self._holders.get(uuid) is watch:
            del self._holders[uuid]
            conversation = self._memory.get(uuid)
            if conversation is not None:
                self._memory.release(conversation)
                self._recognise(conversation)
        for other in [one for key in watch.names for one in self._callers.get(key, ())]:
            # An event that matched two handovers may match one alone now.
            best = None if other.conference_uuid else self._best(other)
            if best is not None:
                self._recognise(best)

    def remember(self, watch: Watch, host: Party, tell: Callable[[], None]) -> None:
        """Go on listening to what comes late about a handover that has ended.

        Only pools that share events are told late of what happened before.

        Args:
            watch: Its events.
            host: Whom it left the customer to.
            tell: Called if they had left by now, and the customer not.
        """
        if self._shared is not None:
            self._late_news.remember(watch, host, self._shared.now(), tell)

    def agent_had_left(self, watch: Watch) -> bool:
        """Say whether the agent was last heard of as leaving, in whatever call."""
        calls = watch.calls_of(AGENT, *self._agents_calls(watch))
        return presence_in(calls, since=-1, opened=-1) is Presence.LEFT

    def agent_is_elsewhere(self, watch: Watch) -> bool:
        """Say whether the agent has been heard of in a newer call, and is there."""
        places = self._agents_calls(watch)
        return any(is_newer_call_of_agent(watch, one) for one in places)

    def _agents_calls(self, watch: Watch) -> Iterator[Conversation]:
        keys = [key for key, who in watch.names.items() if who == AGENT]
        return self._memory.find(keys)

    def warn_not_seen(self, watch: Watch) -> None:
        """Say, once for all handovers, that a call was rung and nothing was heard."""
        if self._has_warned:
            return
        self._has_warned = True
        logger.warning(
            "a phone was rung and no event of that call came: whether it was answered"
            " can't be known. Check that the multi-party call's events are posted to"
            " this process, or one that shares events with it, from the beginning of"
            " each call, that your webhook feeds them to its router, and that they bear"
            " from, to, direction and conference_uuid; if its unmatched ones grow in"
            " number, how they spell agent, customer and partner (%r)",
            self,
            extra={"phlo_handover": watch.id},
        )

    def _index(self, watch: Watch) -> None:
        """Index a handover by the keys of all its parties."""
        self._unindex(watch)
        watch.learn_names()
        for key, (party, _) in watch.names.items():
            is_caller = party in {Party.AGENT, Party.CUSTOMER}
            index = self._callers if is_caller else self._partners
            index.setdefault(key, {})[watch] = None
        if watch.customer_call_uuid is not None:
            key = _call_key(watch.customer_call_uuid)
            self._callers.setdefault(key, {})[watch] = None

    def _unindex(self, watch: Watch) -> None:
        for key in (*watch.names, _call_key(watch.customer_call_uuid or "")):
            for index in (self._callers, self._partners):
                watches = index.get(key, {})
                watches.pop(watch, None)
                if not watches:
                    index.pop(key, None)

    def _recognise(self, conversation: Conversation) -> Watch | None:
        """Find the one open handover whose conversation this must be."""
        candidates = {
            watch
            for member in conversation.members.values()
            for key in member.keys
            for watch in self._callers.get(key, ())
            if watch.conference_uuid is None or self._may_move(watch, conversation)
        }
        fitting = [
            watch
            for watch in candidates
            if fit(watch, conversation) >= _ENOUGH and self._best(watch) is conversation
        ]
        if len(fitting) != 1:
            return None
        self._bind(fitting[0], conversation)
        return fitting[0]

    def _best(self, watch: Watch) -> Conversation | None:
        """Return the conversation that fits a handover better than any other."""
        scores = {
            one: fit(watch, one)
            for one in self._memory.find(watch.names)
            if one.uuid not in self._holders
        }
        best = max(scores.values(), default=0)
        found = [one for one, score in scores.items() if score == best]
        return found[0] if best >= _ENOUGH and len(found) == 1 else None

    def _leave_former_call(self, place: Conversation) -> None:
        """Let a handover go on where its people are, if what they leave was before."""
        watch = self._holders.get(place.uuid)
        if watch is None or not watch.is_inferred:
            return
        best = self._best(watch)
        if best is not None and self._may_move(watch, best):
            self._bind(watch, best)

    def _may_move(self, watch: Watch, to: Conversation) -> bool:
        """Say whether a handover was taken to be in its people's call before this one.

        Leaves that come late let that seem to go on. Another conversation is theirs if
        more of them are there, the agent since later than in the one before; unless
        the partner was heard of here.
        """
        here = self._memory.get(watch.conference_uuid or "")
        if here is None or not watch.is_inferred or Party.PARTNER in watch.heard_of:
            return False
        return fit(watch, to) > fit(watch, here) and (
            agent_since(watch, to) > agent_since(watch, here)
        )

    def _bind(
        self, watch: Watch, conversation: Conversation, *, inferred: bool = True
    ) -> None:
        before = self._memory.get(watch.conference_uuid or "")
        if before is not None:
            del self._holders[before.uuid]
            self._memory.release(before)
            watch.heard_of.clear()
        watch.conference_uuid, watch.is_inferred = conversation.uuid, inferred
        self._holders[conversation.uuid] = watch
        self._memory.hold(conversation)
        for person in watch.people():
            self._tell(watch, person)

    def _places(self, watch: Watch) -> list[Conversation]:
        """Return where a handover's people were heard of."""
        conversation = self._memory.get(watch.conference_uuid or "")
        placed = [] if conversation is None else [conversation]
        return [*placed, watch.unplaced]

    def _presence(self, watch: Watch, person: Person) -> Presence:
        """Return a party's presence now."""
        calls = watch.calls_of(person, *self._places(watch))
        return presence_in(calls, since=person[1], opened=watch.opened)

    def _tell(self, watch: Watch, person: Person) -> None:
        """Tell a handover of a party's presence now."""
        party, since = person
        if party is Party.PARTNER:
            calls = watch.calls_of(person, *self._places(watch))
            watch.call_status = _status(calls, since)
        presence = self._presence(watch, person)
        if presence is not Presence.UNSEEN:
            watch.heard_of.add(party)
            watch.tell(party, presence)


def _call_key(call_uuid: str) -> str:
    return f"call {call_uuid}"  # no address has a blank in it


def _note(call: SeenCall, event: CallEvent, heard: int, number: int) -> None:
    """Note what an event tells of a call; one that comes late changes nothing newer."""
    call.heard = min(call.heard, heard)
    call.unanswered = event.unanswered or call.unanswered
    if event.left:
        call.left = max(call.left, number)
    else:
        call.joined = max(call.joined, number)


def _status(calls: SeenCalls, since: int) -> str | None:
    """Return how the last of these calls that nobody took has ended."""
    statuses = [
        call.unanswered
        for uuid, call in calls
        if (call.heard if uuid else call.left) > since and call.unanswered is not None
    ]
    return statuses[-1] if statuses else None
