"""What observers are told of actions, handovers, webhooks: one class per event.

Loaded with the first observer, as most pools have none. Those of which each action
makes some have no slots: frozen ones of attrs are made faster without.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import attrs

import aiophlo  # for an annotation: what it names is loaded when it is resolved
from aiophlo.model.accounts import Account
from aiophlo.model.actions import Action, Lane
from aiophlo.model.enums import MaskedStrEnum
from aiophlo.model.outcomes import Outcome
from aiophlo.model.redaction import mask, mask_text, masked_repr

if TYPE_CHECKING:
    import aiophlo.webhooks


@attrs.frozen(slots=False)
class ActionBegun:
    """An action was asked for. Exactly one `ActionEnded` or `ActionJoined` follows.

    Attributes:
        account: Whose action it is.
        action: What was asked.
        id: Borne by every event of this action; unique in its pool.
        handover: Id of the handover that asked, if one did: `Consult.id`.
        lane: Where it queues for its slots.
    """

    account: Account
    action: Action
    id: int = 0
    handover: str | None = None
    lane: Lane = Lane.AWAITED


@attrs.frozen(slots=False)
class AttemptBegun:
    """A request of an action has its slot, and leaves now.

    Attributes:
        account: Whose request it is.
        action: What it asks.
        id: Of the action.
        attempt: Its number, from 1.
        waited: Seconds that this attempt waited for a free connection and a
            slot.
        lane: Where it did.
        method: `GET` or `POST`.
        url: Where it goes. A member's whole address may be in it; its repr masks it.
    """

    account: Account
    action: Action
    id: int = 0
    attempt: int = 1
    waited: float = 0.0
    lane: Lane = Lane.AWAITED
    method: str = "POST"
    url: str = attrs.field(default="", repr=masked_repr(mask_text))


@attrs.frozen(slots=False)
class AttemptEnded:
    """One request of an action has its answer, or will have none.

    Attributes:
        account: Whose request it was.
        outcome: What this attempt alone came to.
        id: Of the action.
        seconds: From its slot to its answer, of this attempt alone.
        waited: As in its `AttemptBegun`.
    """

    account: Account
    outcome: Outcome
    id: int = 0
    seconds: float = 0.0
    waited: float = 0.0


@attrs.frozen(slots=False)
class ActionEnded:
    """An action has its outcome.

    Attributes:
        account: Whose action it was.
        outcome: What it came to, over all its attempts.
        id: Of the action.
        handover: As in its `ActionBegun`.
    """

    account: Account
    outcome: Outcome
    id: int = 0
    handover: str | None = None


@attrs.frozen(slots=False)
class ActionJoined:
    """An action got the outcome of an equal one, and nothing was sent for it.

    Attributes:
        account: Whose action it was.
        outcome: What it is told, marked `joined`.
        id: Of the action.
        joined: Id of the one it joined; 0 where that isn't known any more.
    """

    account: Account
    outcome: Outcome
    id: int = 0
    joined: int = 0


@attrs.frozen
class HandoverStep:
    """A handover has come to another phase.

    Attributes:
        account: Whose call it is.
        id: Of the handover: `Consult.id`, and the journal's.
        phase: Where it stands now, such as `"ringing"`.
        before: Where it stood; empty for one that a crash left open, of which
            `recover_handovers` tells.
        partner: Address of the one being rung or spoken to, if there is one.
        cause: What led there: an answer, an event or a wish; of one that a crash
            left open `"recovered"` first, or the `Recovery` with which nothing was
            sent.
        customer: Whose handover it is, masked; empty if nobody told.
    """

    account: Account
    id: str
    phase: str
    before: str
    partner: str | None = attrs.field(default=None, repr=masked_repr(mask))
    cause: str = ""
    customer: str = ""


@attrs.frozen
class HandoverEnded:
    """A handover has ended: no step of it follows.

    It comes again, with an alarm, where other processes tell too late that whom the
    customer was left to had gone.

    Attributes:
        account: Whose call it is.
        id: Of the handover.
        phase: Where it ended: with whom the customer is, `"over"`, or `"on_hold"`.
        seconds: Since it began.
        alarm: Whether nobody can say that the customer isn't alone or on hold: the
            log had a CRITICAL record of it. So it may be in any phase.
        unseen: How many of its rings ended without any event of that call: this is
            about the webhooks, not about who was rung.
    """

    account: Account
    id: str
    phase: str
    seconds: float = 0.0
    alarm: bool = False
    unseen: int = 0


@attrs.frozen
class JournalCommitted:
    """A journal has put a group of writes on disk, or has failed to.

    Attributes:
        seconds: That this took.
        writes: How many.
        failed: Whether it failed.
    """

    seconds: float
    writes: int
    failed: bool = False


class WebhookResult(MaskedStrEnum):
    """What became of a request that a `Receiver` was given."""

    FED = "fed"  # its event was passed on
    REFUSED = "refused"  # it bears no valid signature, or is neither GET nor POST
    REPEATED = "repeated"  # it came before, and was not passed on again
    FAILED = "failed"  # `feed` raised
    UNREADABLE = "unreadable"  # its body is too long, incomplete, or no event


@attrs.frozen
class WebhookReceived:
    """A request came to a `Receiver`, and is about to be answered.

    Attributes:
        event: What it says; None where it was refused or could not be read, for
            then anybody may have sent it.
        id: Of the conversation it is about, or else of the call; empty where it
            names neither. Other events of that call bear the same.
        handovers: Ids of the open handovers that it is about, as the receiver's
            `feed` returned them: `Consult.id`. Of this process alone, also where
            several share events.
        result: What became of it.
    """

    event: "aiophlo.webhooks.Event | None"
    id: str = ""
    handovers: tuple[str, ...] = ()
    result: WebhookResult = WebhookResult.FED


ObservedEvent: TypeAlias = (
    ActionBegun
    | AttemptBegun
    | AttemptEnded
    | ActionEnded
    | ActionJoined
    | HandoverStep
    | HandoverEnded
    | WebhookReceived
    | JournalCommitted
)
Observer = Callable[[ObservedEvent], object]
