"""Single flight: two equal dials at the same moment are one double click."""

import asyncio
from collections import deque
from collections.abc import Hashable

from aiophlo.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason

MEMORY = 3.0  # seconds after its end in which a flight still answers its equals


class _Flight:
    __slots__ = ("joiners", "outcome")

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.joiners: dict[asyncio.Future[Outcome | None], None] | None = None


class Flights:
    """The dials of one account that are under way, or have only just ended.

    Args:
        loop: The event loop they run on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._flights: dict[Hashable, _Flight] = {}
        self._ended: deque[tuple[float, Hashable]] = deque()

    def __len__(self) -> int:
        return len(self._flights)

    async def join(self, key: Hashable) -> Outcome | None:
        """Return the outcome of an equal flight, waiting for it.

        Returns:
            None if there is none: the caller leads one now, and must `land` it.
        """
        self._forget()
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = _Flight()
            return None
        if flight.outcome is not None:
            return flight.outcome
        if flight.joiners is None:
            flight.joiners = {}
        joiner: asyncio.Future[Outcome | None] = self._loop.create_future()
        flight.joiners[joiner] = None
        try:
            return await joiner
        except asyncio.CancelledError:
            if joiner.cancelled():
                flight.joiners.pop(joiner, None)
            elif joiner.result() is None:
                self._hand_over(key, flight)  # it was to lead, and is going too
            raise

    def land(self, key: Hashable, outcome: Outcome) -> None:
        """End the flight that the caller leads.

        One whose leader went away before anything left is handed to the first
        who joined it. Accepted and in doubt are remembered.
        """
        flight = self._flights[key]
        if isinstance(outcome, NotSent) and outcome.reason is Reason.CANCELLED:
            self._hand_over(key, flight)
            return
        for joiner in flight.joiners or ():
            if not joiner.done():
                joiner.set_result(outcome)
        if isinstance(outcome, Accepted | InDoubt):
            flight.outcome = outcome
            self._ended.append((self._loop.time(), key))
        else:
            del self._flights[key]

    def _hand_over(self, key: Hashable, flight: _Flight) -> None:
        joiners = flight.joiners
        while joiners:
            joiner = next(iter(joiners))
            del joiners[joiner]
            if not joiner.done():
                joiner.set_result(None)
                return
        del self._flights[key]

    def _forget(self) -> None:
        oldest = self._loop.time() - MEMORY
        while self._ended and self._ended[0][0] <= oldest:
            del self._flights[self._ended.popleft()[1]]
