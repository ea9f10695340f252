"""The log, for who watches a command: what is wrong with the run, and no more."""

import logging

import pytest

from aiophlo.cli.log_lines import log_shown
from aiophlo.instrumentation import Observers
from aiophlo.logs import logger
from aiophlo.model.accounts import Account
from aiophlo.model.actions import WarmTransfer
from aiophlo.model.outcomes import Accepted, InDoubt, Reason

TRANSFER = WarmTransfer(
    phlo_id="p", node_id="n", trigger_source="+14155550100", to="+14155550199"
)
DOUBT = "WARNING after 1 attempt, WarmTransfer: in_doubt (silent)"


@pytest.mark.parametrize("doubts", [False, True])
def test_outages_are_shown_and_single_doubts_where_they_are_wanted(
    *, doubts: bool
) -> None:
    """A thousand rows in doubt would hide that the database is away."""
    lines: list[str] = []
    observers, account = Observers([]), Account("MA" + "X" * 18, "token")
    with log_shown(lines.append, "%(levelname)s %(message)s", doubts=doubts):
        logger.warning("the database is away")
        observers.action_ended(account, Accepted(action=TRANSFER))
        doubt = InDoubt(action=TRANSFER, reason=Reason.SILENT)
        observers.action_ended(account, doubt)
        logger.info("the database is back")
    told = ["WARNING the database is away", "INFO the database is back"]
    assert lines == ([*told[:1], DOUBT, *told[1:]] if doubts else told)


def test_log_is_as_it_was_afterwards() -> None:
    """A program that calls the command has a log of its own."""
    log, lines = logging.getLogger("aiophlo"), list[str]()
    before = log.level, list(log.handlers)
    with log_shown(lines.append, "%(message)s", doubts=True):
        assert log.level <= logging.INFO
    logger.warning("the database is away")
    assert lines == []
    assert (log.level, log.handlers) == before
