"""What becomes of one request of a handover."""

import pytest

from aiophlo import WarmTransfer
from aiophlo.handover.requests import input_of
from aiophlo.handover.states import Input
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected

ASKED = WarmTransfer(
    phlo_id="p", node_id="n", to="+14155550101", trigger_source="+14152223333"
)


@pytest.mark.parametrize(
    ("outcome", "meaning"),
    [
        (Accepted(action=ASKED), Input.ACCEPTED),
        (Rejected(action=ASKED, status=409), Input.REFUSED),
        (NotSent(action=ASKED, reason=Reason.EXPIRED), Input.NOT_SENT),
        (InDoubt(action=ASKED, reason=Reason.SILENT), Input.IN_DOUBT),
    ],
)
def test_outcome_means_what_it_says(outcome: Outcome, meaning: Input) -> None:
    """A phone that may ring must never be taken for one that doesn't."""
    assert input_of(outcome) is meaning
