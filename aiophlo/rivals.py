"""Who had the last word to a party, and whose word is not wanted any more.

A repeat that comes late is harmless only if nothing else was said meanwhile:
a second Hold would undo a newer Unhold, a second abort end a newer transfer.
And what still waits for its slot must not leave after what undoes it: an
urgent Unhold goes first, and a Hold that came after it would stay.
"""

from aiophlo.actions import (
    AbortTransfer,
    Action,
    BridgeLeave,
    BridgeMute,
    BridgeUnmute,
    ColdTransfer,
    DialAction,
    Hangup,
    Hold,
    MemberAction,
    Mute,
    Unhold,
    Unmute,
    WarmTransfer,
)

Party = tuple[str, str, str]

_UNDONE_BY: dict[type[Action], tuple[type[Action], ...]] = {
    Hold: (Unhold, Hangup),
    Unhold: (Hold, Hangup),
    Mute: (Unmute, Hangup),
    Unmute: (Mute, Hangup),
    BridgeMute: (BridgeUnmute, BridgeLeave),
    BridgeUnmute: (BridgeMute, BridgeLeave),
    WarmTransfer: (AbortTransfer, Hangup),
    ColdTransfer: (AbortTransfer, Hangup),
    AbortTransfer: (WarmTransfer, ColdTransfer, Hangup),
}


class Word:
    """One action's claim to be the last word to its party.

    Attributes:
        kind: What is said.
        party: To whom.
        is_last: Nothing else was begun for the same party since.
        overtaken: What would undo it was begun since.
    """

    __slots__ = ("is_last", "kind", "overtaken", "party")

    def __init__(self, kind: type[Action], party: Party | None) -> None:
        self.kind = kind
        self.party = party
        self.is_last = True
        self.overtaken = False


NOBODY = Word(Action, None)
_Words = dict[Party, dict[Word, None]]


class Rivals:
    """The actions under way that a later one may concern, by party."""

    def __init__(self) -> None:
        self._setters: _Words = {}
        self._waiting: _Words = {}  # dials and the like, which are never repeated

    def __len__(self) -> int:
        return len(self._setters) + len(self._waiting)

    def begin(self, action: Action) -> Word:
        """Take note that `action` begins; pass what this returns to `end`."""
        if not (self._setters or self._waiting or action.repeatable):
            return NOBODY
        party = party_of(action)
        if party is None:
            return NOBODY
        _challenge(self._setters.get(party), action)
        if isinstance(action, MemberAction):
            _challenge(self._waiting.get(party), action)
        if not action.repeatable:
            return NOBODY
        return _enter(self._setters, action, party)

    def wait(self, action: Action, word: Word) -> Word:
        """Take note that `action` can't leave at once, and may be overtaken.

        Args:
            action: What waits.
            word: What `begin` returned for it.

        Returns:
            The word to ask from now on, and to pass to `end`.
        """
        party = party_of(action)
        if party is None or word.party is not None:
            return word
        return _enter(self._waiting, action, party)

    def end(self, word: Word) -> None:
        """Take note that an action has its outcome."""
        if word.party is None:
            return
        for words in (self._setters, self._waiting):
            found = words.get(word.party, {})
            if word in found:
                del found[word]
                if not found:
                    del words[word.party]


def party_of(action: Action) -> Party | None:
    """Return the PHLO, node and address of the one whom `action` is for."""
    if isinstance(action, MemberAction):
        return action.phlo_id, action.node_id, action.member
    if isinstance(action, DialAction):
        return action.phlo_id, action.node_id, action.trigger_source
    return None


def _enter(words: _Words, action: Action, party: Party) -> Word:
    word = Word(type(action), party)
    words.setdefault(party, {})[word] = None
    return word


def _challenge(words: dict[Word, None] | None, action: Action) -> None:
    for word in words or ():
        word.is_last = False
        undone_by = _UNDONE_BY.get(word.kind, (Hangup,))
        word.overtaken = word.overtaken or isinstance(action, undone_by)
