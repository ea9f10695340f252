"""What a stream asks of a journal, and of one that several runners share."""

from collections.abc import Awaitable, Sequence
from enum import Enum
from typing import Protocol, TypeAlias, runtime_checkable

import attrs

from aiophlo.model.actions import Action
from aiophlo.model.outcomes import Outcome


class BatchJournal(Protocol):
    """What came of each key of a batch: see `Journal`, whose methods these are."""

    def start_run(self) -> None:
        """Begin a batch: what was asked for before it is no duplicate in it."""

    def verdict_on(self, key: str, outcome: Outcome) -> Outcome:
        """Return what `outcome` of a claimed key comes to, as `settle()` notes it."""

    def release(self, key: str) -> None:
        """End the claim on a key that is not to be sent; nothing is noted."""

    def intend(self, key: str, action: Action) -> Awaitable[None]:
        """Note that a request is about to leave; await it before sending."""

    def earlier(self, key: str) -> Outcome | None:
        """Return what an earlier run has left of a claimed key; None if it is new."""

    def resolve(self, key: str, outcome: Outcome) -> Awaitable[Outcome]:
        """Note what has become known of a claimed key that was left in doubt."""

    def settle(self, key: str, outcome: Outcome) -> Awaitable[Outcome]:
        """Note what came of a claimed key; await it before telling anybody."""


class Held(Enum):
    """Why nothing can be done about a row at present."""

    ELSEWHERE = "elsewhere"  # another runner has claimed it


@attrs.define(eq=False)
class SharedRow:
    """A row on its way through a shared journal.

    Attributes:
        number: Its place in the list, from 0.
        action: What it asks.
        key: What it is known by.
        stored: Its key as it is kept.
        name: The key's 64 bits.
        digest: The action's.
        repeated: Its key was asked for before, in this run.
        equal: It asks for the same dial as an earlier row, and isn't to be sent.
    """

    number: int
    action: Action
    key: str
    stored: str
    name: int
    digest: str
    repeated: bool
    equal: bool = False


Claimed: TypeAlias = Outcome | Held | None


class SharedJournal(BatchJournal, Protocol):
    """A journal that several runners work with at once."""

    def may_leave(self) -> bool:
        """Say whether a request may leave now: this runner is taken for alive."""


@runtime_checkable
class ClaimingJournal(SharedJournal, Protocol):
    """How rows are claimed in a shared journal."""

    def row(self, number: int, action: Action) -> SharedRow:
        """Return what a row is known by; asked once for each.

        Raises:
            InvalidInputError: Its key can't be one.
        """

    async def claim(
        self, rows: Sequence[SharedRow], *, include_in_doubt: bool
    ) -> list[Claimed]:
        """Claim rows for this runner, all at once.

        Returns:
            Of each, None if it is claimed: it may be sent; what is known of it; or
            that another runner has it, so that it has to be asked for again.

        Raises:
            JournalError: They can't be claimed.
        """
