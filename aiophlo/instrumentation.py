"""Instrumentation: what observers are told of actions, handovers and webhooks."""

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

import attrs

import aiophlo  # for an annotation: what it names is loaded when it is resolved
from aiophlo.logs import let_end, log_attempt, log_end, logger
from aiophlo.model.accounts import Account
from aiophlo.model.actions import Action
from aiophlo.model.enums import MaskedStrEnum
from aiophlo.model.invalid_input import refuse
from aiophlo.model.outcomes import Outcome
from aiophlo.model.redaction import mask, mask_text
from aiophlo.model.validation import check_callable

if TYPE_CHECKING:
    import aiophlo.webhooks


def _repr_address(address: str | None) -> str:
    return repr(None if address is None else mask(address))


@attrs.frozen
class ActionBegun:
    """An action was asked for. Exactly one `ActionEnded` or `ActionJoined` follows.

    Attributes:
        account: Whose action it is.
        action: What was asked.
        id: Borne by every event of this action; unique in its pool.
        handover: Id of the handover that asked, if one did: `Consult.id`.
    """

    account: Account
    action: Action
    id: int = 0
    handover: str | None = None


@attrs.frozen
class AttemptBegun:
    """A request of an action has its slot, and leaves now.

    Attributes:
        account: Whose request it is.
        action: What it asks.
        id: Of the action.
        attempt: Its number, from 1.
        waited: Seconds that this attempt waited for a free connection and a
            slot.
    """

    account: Account
    action: Action
    id: int = 0
    attempt: int = 1
    waited: float = 0.0


@attrs.frozen
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


@attrs.frozen
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


@attrs.frozen
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
    """

    account: Account
    id: str
    phase: str
    before: str
    partner: str | None = attrs.field(default=None, repr=_repr_address)
    cause: str = ""


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
            `feed` returned them: `Consult.id`.
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
    | WebhookReceived
)
Observer = Callable[[ObservedEvent], object]


def check_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """Return the observers if each can be called."""
    if callable(observers) or not isinstance(observers, Iterable):
        refuse("observers", "a sequence of callables", observers)
    found = tuple(check_callable(observer, "observers") for observer in observers)
    for observer in found:
        if _is_async(observer):
            called = _inside_partials(observer)
            name = getattr(called, "__qualname__", type(called).__qualname__)
            right = f"plain callables, which nobody awaits; {name} is async"
            refuse("observers", right)
    return found


def _inside_partials(observer: object) -> object:
    while isinstance(observer, functools.partial):
        observer = observer.func
    return observer


def _is_async(observer: object) -> bool:
    observer = _inside_partials(observer)
    call = getattr(observer, "__call__", None)  # noqa: B004 -- the method, not whether
    return inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(call)


class Observers:
    """Passes events to the observers, and outcomes to the log.

    Nothing that one of them raises harms anything else: it is logged, once for
    each kind. What is to end the program ends it one step of the loop later.

    Args:
        observers: Called with each event, in order.

    Attributes:
        listening: Whether there are observers; ask before making an event.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)
        self.listening = bool(self._observers)
        self._ids = count(1)
        self._failures: set[tuple[int, type[BaseException]]] = set()

    def new_id(self) -> int:
        """Return an id for one more action."""
        return next(self._ids)

    def tell(self, event: ObservedEvent) -> None:
        """Call every observer with an event; never raises."""
        for number, observer in enumerate(self._observers):
            try:
                observer(event)
            except BaseException as error:  # noqa: BLE001 -- its bug changes no outcome
                self._failed(number, observer, error)

    def _failed(self, number: int, observer: Observer, error: BaseException) -> None:
        kind = number, type(error)
        if kind not in self._failures:
            self._failures.add(kind)
            logger.failure(
                "observer %s failed; this is logged once", _name(observer), error=error
            )
            let_end(error)  # once: the program's last steps must not be ended, too

    def attempt_ended(
        self,
        account: Account,
        outcome: Outcome,
        *,
        id: int = 0,  # noqa: A002 -- the event's name for it
        seconds: float = 0.0,
        waited: float = 0.0,
        handover: str | None = None,
    ) -> None:
        """Tell observers and the log of one attempt."""
        if self.listening:
            self.tell(AttemptEnded(account, outcome, id, seconds, waited))
        if logger.isEnabledFor(logging.DEBUG):
            log_attempt(account, outcome, id, handover)

    def action_ended(
        self,
        account: Account,
        outcome: Outcome,
        *,
        id: int = 0,  # noqa: A002 -- the event's name for it
        handover: str | None = None,
    ) -> None:
        """Tell observers and the log of an outcome."""
        if self.listening:
            self.tell(ActionEnded(account, outcome, id, handover))
        log_end(account, outcome, id, handover)

    def action_joined(
        self,
        account: Account,
        outcome: Outcome,
        *,
        id: int = 0,  # noqa: A002 -- the event's name for it
        joined: int = 0,
    ) -> None:
        """Tell observers and the log of an outcome that was an equal action's."""
        if self.listening:
            self.tell(ActionJoined(account, outcome, id, joined))
        log_end(account, outcome, id)


def _name(observer: Observer) -> str:
    try:
        return mask_text(repr(observer))
    except Exception:  # noqa: BLE001 -- a repr that fails, too
        return mask_text(type(observer).__name__)
