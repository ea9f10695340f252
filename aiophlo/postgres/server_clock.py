"""The database server's clock, mapped to the event loop's.

A round trip shows where the server's clock stands, but for half of its length: the
shortest one of the last half minute counts.

Pure: times are passed in.
"""

from collections import deque

_KEPT = 30.0  # seconds
_UNSURE = 0.01  # seconds by which clocks may drift apart meanwhile
_EVERY = 1.0  # seconds from one that is kept to the next, unless it is shorter


class ServerClock:
    """What round trips have shown of the server's clock.

    Attributes:
        round_trip: Seconds of the shortest one.
    """

    def __init__(self) -> None:
        self.round_trip = 0.0
        self._offset = 0.0  # the server's clock less the loop's
        self._samples: deque[tuple[float, float, float]] = deque()

    def note(self, sent: float, came: float, begun: float, ended: float) -> None:
        """Note one round trip.

        Args:
            sent: Loop time at which the statement was sent.
            came: Loop time at which its answer came.
            begun: The server's time when it began.
            ended: The server's time when it ended.
        """
        travelled = max((came - sent) - (ended - begun), 0.0)
        offset = (begun + ended - sent - came) / 2
        samples = self._samples
        unsure = (travelled + self.round_trip) / 2 + _UNSURE
        if samples and abs(offset - self._offset) > unsure:
            samples.clear()  # one of the clocks was set
        while samples and samples[0][0] < came - _KEPT:
            samples.popleft()
        shorter = not samples or travelled < self.round_trip
        if shorter or samples[-1][0] < came - _EVERY:
            samples.append((came, travelled, offset))
            _, self.round_trip, self._offset = min(samples, key=lambda s: s[1])

    def forget(self) -> None:
        """Forget all: another server may answer."""
        self._samples.clear()

    def to_loop(self, server: float) -> float:
        """Return the loop time of a time of the server's clock."""
        return server - self._offset

    def to_server(self, loop: float) -> float:
        """Return the server's time of a loop time."""
        return loop + self._offset
