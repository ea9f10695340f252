"""What a pool does for its handovers, apart from any call."""

import asyncio
import gc
import logging

import pytest

from aiophlo.handover.registry import HandoverRegistry
from tests.support.virtual_time import run_virtually


class Endless:
    """A handover that can't be ended."""

    patience = 0.01

    def __init__(self, care: HandoverRegistry) -> None:
        self.care = care
        self.ending: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Begin what never ends."""
        self.ending = self.care.own(asyncio.sleep(3600.0), "")


async def test_close_gives_up_what_never_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A deployment must come to an end, and say what it left behind."""
    care = HandoverRegistry()
    handover = Endless(care)
    care.begin(handover)
    await asyncio.wait_for(care.close(0.01), 5.0)
    assert handover.ending is not None
    assert handover.ending.cancelled()
    assert "closed before handovers had ended: 1" in caplog.text


class Slow(Endless):
    """A handover that needs most of its patience."""

    patience = 30.0
    ended = False

    def end(self) -> None:
        """Begin what takes a while."""
        self.ending = self.care.own(self._end(), "")

    async def _end(self) -> None:
        await asyncio.sleep(29.0)
        self.ended = True
        self.care.leave(self)


@pytest.mark.parametrize("draining", [True, False])
def test_customer_is_waited_for_as_long_as_it_may_take(draining: bool) -> None:
    """An abort that is repeated for 30 seconds would be cut off after one answer."""

    async def end() -> Slow:
        care = HandoverRegistry()
        handover = Slow(care)
        care.begin(handover)
        await (care.drain(1.0, 1.0) if draining else care.close(1.0))
        return handover

    assert run_virtually(end()).ended


async def test_address_is_one_handovers_at_a_time() -> None:
    """Two handovers about one phone would undo each other."""
    care = HandoverRegistry()
    first, second = Endless(care), Endless(care)
    care.begin(first)
    care.begin(second)
    assert care.engage("+14155550100", first)
    assert care.engage("+14155550100", first)
    assert not care.engage("+14155550100", second)
    care.leave(first)
    assert len(care) == 1
    assert care.engage("+14155550100", second)
    care.release("+14155550100", second)
    assert not care.is_engaged("+14155550100")


async def test_mistake_in_a_task_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody may wait for it, so nobody else would hear of it."""

    async def mistake() -> None:
        raise KeyError("+14155550100")

    with caplog.at_level(logging.ERROR, "aiophlo"):
        task = HandoverRegistry().own(mistake(), "id")
        await asyncio.wait({task})
    (record,) = caplog.records
    assert vars(record)["phlo_handover"] == "id"
    assert "a handover failed" in caplog.text
    assert "KeyError: '…00'" in caplog.text
    assert "4155550100" not in caplog.text


async def test_mistake_of_what_is_abandoned_is_seen_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Python's own complaint about it would come at any time."""
    done = asyncio.get_running_loop().create_future()
    done.set_exception(ZeroDivisionError())
    HandoverRegistry().abandon(done, "id")
    del done
    gc.collect()
    assert "never retrieved" not in caplog.text
