"""Whether an action is still the last word to its member.

A repeat that comes late is harmless only if nothing else was said meanwhile:
a second Hold would undo a newer Unhold, a second abort end a newer transfer.
"""

from aiophlo.actions import Action, DialAction, MemberAction

Party = tuple[str, str, str]


class Word:
    """One action's claim to be the last word.

    Attributes:
        is_last: Nothing else was begun for the same party since.
    """

    __slots__ = ("is_last", "party")

    def __init__(self, party: Party | None) -> None:
        self.party = party
        self.is_last = True


_NOBODY = Word(None)


class Rivals:
    """The repeatable actions under way, by the party they are for."""

    def __init__(self) -> None:
        self._under_way: dict[Party, list[Word]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, action: Action) -> Word:
        """Take note that `action` begins; pass what this returns to `end`."""
        if not self._under_way and not action.repeatable:
            return _NOBODY
        party = party_of(action)
        if party is None:
            return _NOBODY
        for word in self._under_way.get(party, ()):
            word.is_last = False
        if not action.repeatable:
            return _NOBODY
        word = Word(party)
        self._under_way.setdefault(party, []).append(word)
        return word

    def end(self, word: Word) -> None:
        """Take note that an action has its outcome."""
        if word.party is None:
            return
        words = self._under_way[word.party]
        words.remove(word)
        if not words:
            del self._under_way[word.party]


def party_of(action: Action) -> Party | None:
    """Return the PHLO, node and address of the one whom `action` is for."""
    if isinstance(action, MemberAction):
        return action.phlo_id, action.node_id, action.member
    if isinstance(action, DialAction):
        return action.phlo_id, action.node_id, action.trigger_source
    return None
