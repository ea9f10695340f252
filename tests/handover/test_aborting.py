"""What a refused abort proves, and what it doesn't."""

import asyncio

import pytest

from aiophlo.coordination import Claim
from aiophlo.handover.aborting import AbortAnswers, bring_back
from aiophlo.handover.states import Input
from aiophlo.model.actions import AbortTransfer
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from tests.support.virtual_time import run_virtually

ABORT = AbortTransfer(phlo_id="p", node_id="n", member="+14152223333")
ACCEPTED = Accepted(action=ABORT)
SILENT = InDoubt(action=ABORT, reason=Reason.SILENT)
EXPIRED = NotSent(action=ABORT, reason=Reason.EXPIRED)


def refused(status: int, error: str | None = None) -> Outcome:
    """Return a refusal."""
    return Rejected(action=ABORT, status=status, error=error)


def weigh(*outcomes: Outcome, late: bool = False) -> Input:
    """Return what the last of several answers means."""
    answers = AbortAnswers(late=late)
    return [answers.weigh(outcome) for outcome in outcomes][-1]


@pytest.mark.parametrize(
    "error",
    [
        "the member has no transfer in progress",
        "No transfer",
        "no such warm transfer",
        "transfer not found",
        "Transfer is no longer active",
        "the transfer was never started",
    ],
)
def test_refusal_in_words_proves_that_there_is_no_transfer(error: str) -> None:
    """The next supervisor can be rung, and nobody needs to be alarmed."""
    assert weigh(refused(400, error)) is Input.NO_TRANSFER


@pytest.mark.parametrize(
    "error",
    [
        None,
        "scripted 409",
        "could not abort transfer",
        "you are not allowed to transfer",
        "no permission to abort transfer",
        "no right to transfer",
        "transfer not aborted",
        "transfer in progress",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 404, 409, 201])
def test_other_refusal_proves_nothing(status: int, error: str | None) -> None:
    """A customer on hold would be called well."""
    expected = Input.NO_AGENT if status == 404 else Input.REFUSED
    assert weigh(refused(status, error)) is expected


@pytest.mark.parametrize("status", [401, 403])
def test_want_of_rights_proves_nothing_whatever_it_says(status: int) -> None:
    """A token that was changed in a talk says nothing of where the customer is."""
    assert weigh(refused(status, "no transfer rights")) is Input.REFUSED


def test_conflict_three_times_in_a_row_proves_it_too() -> None:
    """Plivo's words aren't known; that nothing can be aborted is, by then."""
    bare = refused(409)
    assert weigh(bare, bare) is Input.REFUSED
    assert weigh(bare, bare, bare) is Input.NO_TRANSFER
    assert weigh(bare, bare, SILENT, bare) is Input.REFUSED
    assert weigh(bare, refused(404), bare, bare) is Input.REFUSED


def test_one_refusal_is_not_enough_when_the_transfer_may_come_late() -> None:
    """A transfer that was in doubt may begin after its abort was refused."""
    none = refused(409, "no transfer")
    assert weigh(none, late=True) is Input.REFUSED
    assert weigh(none, none, late=True) is Input.NO_TRANSFER


def test_other_answers_mean_what_they_say() -> None:
    """Accepted is the only yes."""
    assert weigh(ACCEPTED) is Input.ACCEPTED
    assert weigh(SILENT) is Input.IN_DOUBT
    assert weigh(EXPIRED) is Input.NOT_SENT


def test_repeating_is_pointless_after_five_refusals_in_a_row() -> None:
    """Somebody has to be told while the customer is still on the line."""
    answers = AbortAnswers(late=False)
    for outcome in [refused(401)] * 4 + [SILENT] + [refused(404)] * 4:
        answers.weigh(outcome)
        assert not answers.pointless
    answers.weigh(refused(404))
    assert answers.pointless


def test_refusal_that_says_something_is_none_of_the_pointless() -> None:
    """One more of its kind would prove that the customer is with the agent."""
    answers = AbortAnswers(late=True)
    for outcome in [refused(400)] * 4 + [refused(409, "no transfer")]:
        answers.weigh(outcome)
    assert not answers.pointless
    assert answers.weigh(refused(409, "no transfer")) is Input.NO_TRANSFER


def test_nothing_is_repeated_once_the_pool_is_closed() -> None:
    """The alarm would come half a minute after nothing could be done any more."""
    told: list[Input] = []

    async def claim() -> None:
        """Find nothing new."""

    async def abort(_within: float) -> Outcome:
        return NotSent(action=ABORT, reason=Reason.CLOSED, attempts=0)

    def tell(what: Input) -> bool:
        told.append(what)
        return True

    async def main() -> float:
        clock = asyncio.get_running_loop().time
        began, answers = clock(), AbortAnswers(late=False)
        await bring_back(abort, tell, answers, claim=claim, within=30.0, pause=0.5)
        return clock() - began

    assert run_virtually(main()) == 0.0
    assert told == [Input.NOT_SENT, Input.TIME_OVER]


def test_it_is_asked_who_has_the_handover_before_an_answer_counts() -> None:
    """A process that was stopped meanwhile would alarm of a customer who is well."""
    told: list[Input | Claim] = []

    async def abort(within: float) -> Outcome:
        await asyncio.sleep(within + 1.0)  # as one that was stopped finds it
        return SILENT

    def tell(what: Input) -> bool:
        told.append(what)
        return True

    async def claim() -> None:
        told.append(Claim.TAKEN_OVER)

    async def main() -> None:
        answers = AbortAnswers(late=False)
        await bring_back(abort, tell, answers, claim=claim, within=30.0, pause=0.5)

    run_virtually(main())
    assert told == [Claim.TAKEN_OVER, Input.IN_DOUBT, Input.TIME_OVER]


def test_nothing_is_repeated_for_what_events_have_settled_meanwhile() -> None:
    """The agent has hung up, and a second abort would end their newer transfer."""
    aborts: list[float] = []
    told: list[Input] = []

    async def abort(within: float) -> Outcome:
        aborts.append(within)
        return SILENT

    def tell(what: Input) -> bool:
        told.append(what)
        return told == [Input.IN_DOUBT]

    async def claim() -> None:
        """Find nothing new."""

    async def main() -> None:
        answers = AbortAnswers(late=False)
        await bring_back(abort, tell, answers, claim=claim, within=30.0, pause=0.5)

    run_virtually(main())
    assert len(aborts) == 1
