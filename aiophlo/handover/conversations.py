"""Who is in which conversation, as far as events say, in bounded memory.

Pure: no handover is known here. Events may come twice, in any order, and in part
without ids, so that nothing but the order in which calls were first heard of is
relied on.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, TypeAlias

import attrs

NAMELESS: Final = ""  # the id of all of a member's calls that were told without one
LATEST: Final = 64  # conversations under which one address is looked for
MOST_CALLS: Final = 100  # in one conversation
_CALLS_PER_CONVERSATION: Final = 4  # whose age is remembered, on average


class Presence(StrEnum):
    """What the events say of a party."""

    UNSEEN = "unseen"
    INSIDE = "inside"
    LEFT = "left"


@attrs.define(eq=False)
class SeenCall:
    """One call of one member: a leave that overtook its join ends it all the same.

    Attributes:
        heard: Number of the event that it was first heard of in, anywhere.
        joined: Number of the last event that told of a joining; 0 if none did.
        left: Number of the last one that told of a leaving.
        unanswered: The status that told that nobody took it, in lower case.
    """

    heard: int
    joined: int = 0
    left: int = 0
    unanswered: str | None = None


SeenCalls: TypeAlias = Iterable[tuple[str, SeenCall]]
"""Calls with their ids."""


@attrs.define(eq=False)
class SeenMember:
    """A member of a conversation.

    Attributes:
        keys: As `aiophlo.model.address_matching` says; where it isn't known which
            of two they are, those of both.
        called_in: Whether they called in; False if they were called, or nobody said.
        calls: Theirs, by call_uuid.
    """

    keys: tuple[str, ...]
    called_in: bool
    calls: dict[str, SeenCall] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Conversation:
    """The members that events have named in one conversation.

    Attributes:
        uuid: Its conference_uuid.
        members: By their keys.
        held: Whether an open handover is about it, so that it isn't forgotten.
        dropped: Keys of members who are forgotten, and perhaps still found by them.
    """

    uuid: str
    members: dict[tuple[str, ...], SeenMember] = attrs.field(factory=dict)
    held: bool = False
    dropped: list[tuple[str, ...]] = attrs.field(factory=list)
    _size: int = 0

    def member(self, keys: tuple[str, ...], *, called_in: bool) -> SeenMember:
        """Return the member with these keys, new or not."""
        member = self.members.get(keys)
        if member is None:
            member = self.members[keys] = SeenMember(keys, called_in)
        return member

    def call(self, member: SeenMember, call_uuid: str, heard: int) -> SeenCall:
        """Return a member's call, new or not."""
        call = member.calls.get(call_uuid)
        if call is None:
            if self._size >= MOST_CALLS:
                self._forget_a_call()
            call = member.calls[call_uuid] = SeenCall(heard)
            self._size += 1
        return call

    def _forget_a_call(self) -> None:
        """Forget the oldest call that is over, or else the oldest of all."""
        member, uuid = min(
            (
                (member, uuid)
                for member in self.members.values()
                for uuid in member.calls
            ),
            key=lambda one: (not one[0].calls[one[1]].left, one[0].calls[one[1]].heard),
        )
        del member.calls[uuid]
        self._size -= 1
        if not member.calls:
            del self.members[member.keys]
            self.dropped.append(member.keys)


def presence_in(calls: SeenCalls, *, since: int, opened: int) -> Presence:
    """Return the presence of a party with these calls.

    Args:
        calls: Theirs; one that was told of under two spellings comes twice.
        since: Calls that were heard of up to this event don't count.
        opened: When listening began. Calls without an id are one: what of it was
            over by then is over.
    """
    left = nameless = False
    inside: set[str] = set()
    over: set[str] = set()
    calls = list(calls)
    old = {uuid for uuid, call in calls if uuid and call.heard <= since}
    for uuid, call in calls:
        if uuid == NAMELESS:
            begun = call.joined > max(since, opened if call.left else -1)
            ended = call.left > max(since, opened)
            nameless |= begun or ended
        elif uuid in old:
            continue
        else:
            begun, ended = bool(call.joined), bool(call.left)
        if begun:
            inside.add(uuid)
        if ended:
            over.add(uuid)
            left = True
    # Calls can't be told apart where one has no id: what left may be any.
    if inside - over and not (left and nameless):
        return Presence.INSIDE
    return Presence.LEFT if left else Presence.UNSEEN


class ConversationMemory:
    """The conversations that were heard of, the latest ones.

    Args:
        remember: How many that no handover is about.
    """

    def __init__(self, remember: int) -> None:
        self._remember = remember
        self._all: OrderedDict[str, Conversation] = OrderedDict()
        self._where: dict[str, dict[str, None]] = {}  # key: uuids, the latest last
        self._calls: OrderedDict[tuple[str, tuple[str, ...]], tuple[int, str]] = (
            OrderedDict()
        )
        self._held = 0
        self.number = 0  # of events

    def __len__(self) -> int:
        return len(self._all)

    def get(self, uuid: str) -> Conversation | None:
        """Return a conversation, if it is remembered."""
        return self._all.get(uuid)

    def open(self, uuid: str) -> Conversation:
        """Return a conversation that is heard of now, new or not."""
        conversation = self._all.get(uuid)
        if conversation is None:
            conversation = self._all[uuid] = Conversation(uuid)
            self._forget_oldest()
        self._all.move_to_end(uuid)
        return conversation

    def hold(self, conversation: Conversation) -> None:
        """Keep a conversation for as long as a handover is about it."""
        conversation.held = True
        self._held += 1

    def release(self, conversation: Conversation) -> None:
        """Let a conversation be forgotten."""
        conversation.held = False
        self._held -= 1

    def first_heard(
        self, call_uuid: str, keys: tuple[str, ...], where: str, number: int
    ) -> tuple[int, str]:
        """Return when a call was first heard of, and in which conversation last.

        Args:
            call_uuid: Its id.
            keys: Of whose it is.
            where: The conversation it is heard of in now; empty if none is named.
            number: Of the event.
        """
        name = (call_uuid, keys)
        known = self._calls.get(name)
        if known is None:
            known = self._calls[name] = (number, where)
            if len(self._calls) > _CALLS_PER_CONVERSATION * self._remember:
                self._calls.popitem(last=False)
        elif number < known[0] or (where and known[1] != where):
            known = (min(known[0], number), where or known[1])
            self._calls[name] = known
        return known

    def index(self, conversation: Conversation, keys: tuple[str, ...]) -> None:
        """Let a conversation be found by a member's keys."""
        while conversation.dropped:
            self._unindex(conversation, conversation.dropped.pop())
        for key in keys:
            places = self._where.setdefault(key, {})
            places.pop(conversation.uuid, None)
            places[conversation.uuid] = None
            if len(places) > LATEST:
                del places[next(iter(places))]

    def find(self, keys: Iterable[str]) -> Iterator[Conversation]:
        """Return the latest conversations in which any of some keys was heard of."""
        uuids = {uuid for key in keys for uuid in self._where.get(key, ())}
        return (self._all[uuid] for uuid in uuids)

    def _forget_oldest(self) -> None:
        excess = len(self._all) - self._held - self._remember
        if excess <= 0:
            return
        idle = (one for one in self._all.values() if not one.held)
        for conversation in [one for _, one in zip(range(excess), idle, strict=False)]:
            del self._all[conversation.uuid]
            for keys in (*conversation.members, *conversation.dropped):
                self._unindex(conversation, keys)

    def _unindex(self, conversation: Conversation, keys: tuple[str, ...]) -> None:
        for key in keys:
            places = self._where.get(key, {})
            places.pop(conversation.uuid, None)
            if not places:
                self._where.pop(key, None)
