"""How many pools share the quotas, and how much of these may be booked.

Pure: times are passed in.
"""

import math
from collections import deque
from typing import Final

from aiophlo.postgres.operations import Answer, Operation

_TOLD_FOR: Final = 10.0  # seconds after which the database knows of who is alone
_RETURNING: Final = 10.0  # seconds within which the others are back, too
_FREE_AFTER: Final = 0.9  # seconds, at least, that who is back takes no slot


class PoolShares:
    """What a pool knows of those that share with it.

    Args:
        number: Its own.
        pools: How many it reckons with until the database says.

    Attributes:
        pools: How many share, this one included.
        available: Share of all rates that isn't kept for pools that are lost to the
            database and go on by themselves.
    """

    def __init__(self, number: int, pools: float) -> None:
        self._number = number
        self.pools: float = pools
        self.available = 1.0
        self._lately: deque[tuple[float, float]] = deque()  # when that much was
        self._counted = 0  # at the last sign of life
        self._missed = 0  # pools that were counted before the database was away
        self._missed_until = -math.inf
        # Of pools that said that they go on by themselves: when, by the server's time,
        # and when that was heard.
        self._alone: dict[int, tuple[float, float]] = {}

    def begin(self, now: float) -> None:
        """Begin to give signs of life, after none for a while.

        Pools that aren't back yet go on by themselves, and a server that has taken
        over knows nothing of them: those from before count for some seconds.
        """
        self._lately.clear()
        self._missed, self._missed_until = self._counted, now + _RETURNING

    def sign_of_life(self, now: float) -> Operation:
        """Return the operation that gives one, and asks for the others'."""
        old = now - _TOLD_FOR
        self._alone = {pool: it for pool, it in self._alone.items() if it[1] > old}
        alone = {str(pool): at for pool, (at, _) in self._alone.items()}
        return {"do": "seen", "pool": self._number, "alone": alone}

    def note(self, now: float, seen: Answer) -> float:
        """Note what the others' signs of life say.

        Who is back has sent by itself until now: its share is free a second later.

        Args:
            now: The time.
            seen: The database's answer.

        Returns:
            The part of what is booked that may be kept, at most 1.
        """
        live: int = max(seen["live"], 1)
        missed = self._missed if now < self._missed_until else 0
        self.pools = self._counted = max(live + seen["lost"], missed)
        lately = self._lately
        lately.append((now, live / self.pools))
        while len(lately) > 1 and lately[1][0] <= now - _FREE_AFTER:
            lately.popleft()
        available = min(share for _, share in lately)
        kept = available / self.available
        self.available = available
        return min(kept, 1.0)

    def count_alone(self, pools: int) -> bool:
        """Count the pools that are known while this one goes on by itself.

        Returns:
            Whether there are more than it reckoned with.
        """
        are_more = pools > self.pools
        if are_more:
            self.pools = self._counted = pools
        return are_more

    def hear_alone(
        self, now: float, pool: str, at: float, *, is_news: bool = True
    ) -> bool:
        """Hear that a pool goes on by itself, which the database misses only later.

        Args:
            now: The time.
            pool: Its number.
            at: The server's time at which it said so.
            is_news: It has just begun to, and doesn't only say it again.

        Returns:
            Whether to give a sign of life at once, by which its share is left to it.

        Raises:
            ValueError: It is no pool's: others may notify theirs, and the database
                would refuse to be asked about it.
            TypeError: As above.
            OverflowError: As above.
        """
        number, time = int(pool), float(at)
        if not math.isfinite(time):
            raise ValueError("no time")
        if number == self._number:
            return False
        is_news = is_news or number not in self._alone
        self._alone[number] = time, now
        return is_news
