"""Instrumentation: tells observers and the log of actions, handovers and webhooks."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import aiophlo  # for annotations: what they name is loaded when they are resolved
from aiophlo.logs import let_end, log_attempt, log_end, logger
from aiophlo.model.accounts import Account
from aiophlo.model.actions import Action, Lane
from aiophlo.model.invalid_input import refuse
from aiophlo.model.outcomes import Outcome
from aiophlo.model.redaction import mask_text
from aiophlo.model.validation import check_callable


def check_observers(
    observers: Iterable[aiophlo.Observer],
) -> tuple[aiophlo.Observer, ...]:
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


class PoolObserver:
    """An observer that looks at the pool, too, besides hearing its events."""

    def __call__(self, event: aiophlo.ObservedEvent) -> object:
        """Hear an event that is of no pool: of a receiver, or of a journal."""
        raise NotImplementedError

    def of_pool(self, pool: aiophlo.SessionPool) -> aiophlo.Observer:
        """Return the observer of one pool, which has just opened."""
        raise NotImplementedError


class ClosingObserver:
    """An observer that may still have something to do when its pool is closed."""

    def __call__(self, event: aiophlo.ObservedEvent) -> object:
        """Hear an event."""
        raise NotImplementedError

    def close(self) -> None:
        """Do what is left to do: the pool is closed."""
        raise NotImplementedError


class Observers:
    """Passes events to the observers, and outcomes to the log.

    Nothing that one of them raises harms anything else: it is logged, once for
    each kind. What is to end the program ends it one step of the loop later.

    Args:
        observers: Called with each event, in order.

    Attributes:
        listening: Whether there are observers; ask before making an event.
    """

    def __init__(self, observers: Sequence[aiophlo.Observer] = ()) -> None:
        self._observers: tuple[aiophlo.Observer, ...] = ()
        self.listening = False
        self._ids = count(1)
        self._failures: set[tuple[int, type[BaseException]]] = set()
        for observer in observers:
            self.add(observer)

    def add(
        self, observer: aiophlo.Observer, pool: aiophlo.SessionPool | None = None
    ) -> None:
        """Call one more observer from now on, after the others.

        Args:
            observer: The observer.
            pool: Whose events it hears, if that is open already.
        """
        if pool is not None and isinstance(observer, PoolObserver):
            observer = observer.of_pool(pool)
        from aiophlo import observed_events  # noqa: PLC0415 -- for most, for nothing

        self._events = observed_events
        self._observers = (*self._observers, observer)
        self.listening = True

    def attach(self, pool: aiophlo.SessionPool) -> None:
        """Let the observers that want to know it hear whose events they are."""
        self._observers = tuple(
            observer.of_pool(pool) if isinstance(observer, PoolObserver) else observer
            for observer in self._observers
        )

    def close(self) -> None:
        """Let those that keep something back know that the pool is closed."""
        for number, observer in enumerate(self._observers):
            if isinstance(observer, ClosingObserver):
                try:
                    observer.close()
                except BaseException as error:  # noqa: BLE001 -- its bug harms nothing
                    self._failed(number, observer, error)

    def new_id(self) -> int:
        """Return an id for one more action."""
        return next(self._ids)

    def tell(self, event: aiophlo.ObservedEvent) -> None:
        """Call every observer with an event; never raises."""
        for number, observer in enumerate(self._observers):
            try:
                observer(event)
            except BaseException as error:  # noqa: BLE001 -- its bug changes no outcome
                self._failed(number, observer, error)

    def _failed(
        self, number: int, observer: aiophlo.Observer, error: BaseException
    ) -> None:
        kind = number, type(error)
        if kind not in self._failures:
            self._failures.add(kind)
            logger.failure(
                "observer %s failed; this is logged once", _name(observer), error=error
            )
            let_end(error)  # once: the program's last steps must not be ended, too

    def action_begun(
        self,
        account: Account,
        action: Action,
        number: int,
        handover: str | None,
        lane: Lane,
    ) -> None:
        """Tell observers, of whom there are some, of an action that was asked for."""
        self.tell(self._events.ActionBegun(account, action, number, handover, lane))

    def attempt_begun(self, account: Account, action: Action, *about: Any) -> None:  # noqa: ANN401 -- the other fields of `AttemptBegun`, in order
        """Tell observers, of whom there are some, of one attempt that leaves now."""
        self.tell(self._events.AttemptBegun(account, action, *about))

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
            self.tell(self._events.AttemptEnded(account, outcome, id, seconds, waited))
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
            self.tell(self._events.ActionEnded(account, outcome, id, handover))
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
            self.tell(self._events.ActionJoined(account, outcome, id, joined))
        log_end(account, outcome, id)


def _name(observer: aiophlo.Observer) -> str:
    try:
        return mask_text(repr(observer))
    except Exception:  # noqa: BLE001 -- a repr that fails, too
        return mask_text(type(observer).__name__)
