"""The account's quota, kept as strictly as a server can: in a moving window."""

from collections import deque


class MovingWindow:
    """Admits `limit` requests in any `period` seconds, and not one more.

    Refused requests don't count.

    Args:
        limit: Requests admitted per period.
        period: Seconds.

    Source:
        Plivo docs, "API rate limits": 300 requests per 5 seconds. Assumed: the window
        moves, which is the strictest reading.
    """

    def __init__(self, limit: int, period: float) -> None:
        self._limit = limit
        self._period = period
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> float:
        """Admit a request at `now` or say when to come again.

        Returns:
            0.0 when admitted, else the seconds until one would be.
        """
        admitted = self._admitted
        while admitted and now - admitted[0] >= self._period:
            admitted.popleft()
        if len(admitted) >= self._limit:
            return self._period - (now - admitted[0])
        admitted.append(now)
        return 0.0
