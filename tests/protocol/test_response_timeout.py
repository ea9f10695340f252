"""One timer ends the wait for every answer, each when its own time is up."""

import asyncio
from collections.abc import Callable

from aiophlo.protocol.response_timeout import ResponseTimeout
from tests.support.raw_server import steps
from tests.support.virtual_time import VirtualTimeLoop, run_virtually


class Request:
    """A request that notes when it gave up, and does something then."""

    def __init__(self) -> None:
        self.gave_up_at: list[float] = []
        self.then: Callable[[], object] = int

    def give_up(self) -> None:
        """Note the time."""
        self.gave_up_at.append(asyncio.get_running_loop().time())
        self.then()

    def drop(self) -> None:
        """Be of no interest any more."""


def virtual_loop() -> VirtualTimeLoop:
    """Give the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop


def test_each_gives_up_when_its_own_time_is_up() -> None:
    """An agent stares at a spinner for as long as this is late."""

    async def main() -> None:
        loop = virtual_loop()
        timer, requests = (
            ResponseTimeout[Request](loop, 10.0),
            [Request() for _ in range(4)],
        )
        for request, pause in zip(requests, (0.0, 0.0, 3.0, 20.0), strict=True):
            await asyncio.sleep(pause)
            timer.begin(request)
        await asyncio.sleep(20.0)
        assert [request.gave_up_at for request in requests] == [
            [1_010.0],
            [1_010.0],
            [1_013.0],
            [1_033.0],
        ]
        assert not len(timer)

    run_virtually(main())


def test_nobody_gives_up_when_the_answers_came() -> None:
    """An answer that came in time is an answer."""

    async def main() -> None:
        timer, requests = (
            ResponseTimeout[Request](virtual_loop(), 10.0),
            [Request(), Request()],
        )
        for request in requests:
            timer.begin(request)
            await asyncio.sleep(1.0)
        timer.end(requests[0])
        await asyncio.sleep(20.0)
        timer.end(requests[0])
        timer.end(Request())
        assert [request.gave_up_at for request in requests] == [[], [1_011.0]]

    run_virtually(main())


def test_time_counts_anew_when_all_answers_had_come() -> None:
    """The timer that was set for an earlier request is not the later one's."""

    async def main() -> None:
        timer, first, second = (
            ResponseTimeout[Request](virtual_loop(), 10.0),
            Request(),
            Request(),
        )
        timer.begin(first)
        timer.end(first)
        await asyncio.sleep(9.0)
        timer.begin(second)
        await asyncio.sleep(20.0)
        assert (first.gave_up_at, second.gave_up_at) == ([], [1_019.0])

    run_virtually(main())


def test_all_who_are_late_give_up_when_the_timer_is_late() -> None:
    """A loop that stood still must not wake to a timer for each."""

    async def main() -> None:
        loop = virtual_loop()
        timer, requests = (
            ResponseTimeout[Request](loop, 10.0),
            [Request() for _ in range(3)],
        )
        for request in requests:
            timer.begin(request)
            await asyncio.sleep(1.0)
        loop.now = 1_011.5
        await steps(3)
        given_up = [request.gave_up_at for request in requests]
        assert given_up == [[1_011.5], [1_011.5], []]
        await asyncio.sleep(1.0)
        assert requests[2].gave_up_at == [1_012.0]

    run_virtually(main())


def test_others_give_up_when_one_fails_to() -> None:
    """A connection that can't be ended must not leave everybody waiting."""

    async def main() -> None:
        loop = virtual_loop()
        timer, failed = ResponseTimeout[Request](loop, 10.0), list[object]()
        first, second, third = Request(), Request(), Request()
        loop.set_exception_handler(lambda _, context: failed.append(context))
        first.then = [].pop
        for request in (first, second):
            timer.begin(request)
        await asyncio.sleep(1.0)
        timer.begin(third)
        await asyncio.sleep(30.0)
        assert len(failed) == 1
        assert (second.gave_up_at, third.gave_up_at) == ([1_010.0], [1_011.0])
        assert not len(timer)

    run_virtually(main())
