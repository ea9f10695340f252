"""What a pool does for its handovers, apart from any call."""

import asyncio
import gc
import logging

import pytest

from aiophlo.handover.care import Care


class Endless:
    """A handover that can't be ended."""

    patience = 0.01

    def __init__(self, care: Care) -> None:
        self.care = care
        self.ending: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Begin what never ends."""
        self.ending = self.care.own(asyncio.sleep(3600.0))


async def test_close_gives_up_what_never_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A deployment must come to an end, and say what it left behind."""
    care = Care()
    handover = Endless(care)
    care.begin(handover)
    await asyncio.wait_for(care.close(0.01), 5.0)
    assert handover.ending is not None
    assert handover.ending.cancelled()
    assert "closed before 1 handovers had ended" in caplog.text


async def test_address_is_one_handovers_at_a_time() -> None:
    """Two handovers about one phone would undo each other."""
    care = Care()
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
        task = Care().own(mistake())
        await asyncio.wait({task})
    assert "a handover failed" in caplog.text
    assert "KeyError: '…00'" in caplog.text
    assert "4155550100" not in caplog.text


async def test_mistake_of_what_is_abandoned_is_seen_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Python's own complaint about it would come at any time."""
    done = asyncio.get_running_loop().create_future()
    done.set_exception(ZeroDivisionError())
    Care().abandon(done)
    del done
    gc.collect()
    assert "never retrieved" not in caplog.text
