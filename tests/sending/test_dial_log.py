"""The latest dials are kept for whoever looks only once something is in doubt."""

import math

from aiophlo import WarmTransfer
from aiophlo.sending import dial_log
from aiophlo.sending.dial_log import DialLog, LeftDial
from tests.support.doubles import AGENT, NODE_ID, PHLO_ID, address

DIAL = WarmTransfer(
    phlo_id=PHLO_ID, node_id=NODE_ID, trigger_source=AGENT, to=address(1)
)


def test_it_says_from_when_dials_are_missing() -> None:
    """A look must not take the only dial that is left for the only one there was."""
    now = 0.0
    log = DialLog(lambda: now)
    assert (log.begun_at, log.forgotten_until) == (0.0, -math.inf)
    for _ in range(dial_log._MOST + 3):  # noqa: SLF001 -- its bound
        now += 1.0
        log.note(DIAL)
    assert len(log.latest) == dial_log._MOST  # noqa: SLF001 -- as above
    assert log.forgotten_until == log.latest[0].left_at == 4.0


def test_each_is_told_of_once_and_bears_its_latest_time() -> None:
    """After a 429 it leaves again, and only then may ring."""
    now = 1.0
    heard: list[LeftDial] = []
    log = DialLog(lambda: now)
    log.heard = heard.append
    left = log.note(DIAL)
    now = 31.0
    log.note_again(left)
    assert [*log.latest] == heard == [left]
    assert left.left_at == 31.0


def test_broken_clock_keeps_no_dial_back() -> None:
    """The supervisor is rung all the same."""

    def broken() -> float:
        raise OSError

    assert math.isnan(DialLog(broken).note(DIAL).left_at)
