"""One call that fits is proof, and nothing else is."""

from typing import Any

import attrs
import pytest

from aiophlo import CallState, InDoubt, Reason, WarmTransfer
from aiophlo.looking.call_records import CallRecord
from aiophlo.looking.matching import LAG, Match, Window, match
from aiophlo.looking.recent_dials import MEMORY, RecentDials
from tests.support.doubles import act, address

TO = address(1)
DIAL = WarmTransfer(phlo_id="p", node_id="n", trigger_source=address(9), to=TO)
LEFT_AT = 1_000.0
OURS = "+14155550100"
DOUBT = InDoubt(
    action=act(WarmTransfer, 1),
    reason=Reason.DISCONNECTED,
    left_at=LEFT_AT,
    seconds=2.5,
    waited=2.0,
)
RECORD = CallRecord(
    call_uuid="a",
    to=TO.removeprefix("+"),
    from_="14155550100",
    is_outbound=True,
    state=CallState.RINGING,
    began_at=LEFT_AT,
)


def dial(number: int) -> WarmTransfer:
    """Return a dial to a number."""
    return attrs.evolve(DIAL, to=address(number))


def judge(
    *records: CallRecord,
    caller_ids: frozenset[str] = frozenset(),
    complete: bool = True,
    alone: bool = True,
) -> Match:
    """Match records with the doubt."""
    return match(
        records,
        to=TO,
        window=Window.of(DOUBT),
        caller_ids=caller_ids,
        complete=complete,
        alone=alone,
    )


def test_the_only_call_that_fits_is_proof() -> None:
    """That is what looking is for."""
    assert judge(RECORD).proof == RECORD
    early = judge(RECORD, complete=False, caller_ids=frozenset({OURS}))
    assert early.proof == RECORD


@pytest.mark.parametrize(
    "changed",
    [
        {"to": address(2)},
        {"is_outbound": False},
        {"began_at": LEFT_AT - 2.1},
        {"began_at": LEFT_AT + 3.6},
        {"from_": "14155550199"},
    ],
)
def test_call_that_does_not_fit_is_no_candidate(changed: dict[str, Any]) -> None:
    """Never by number alone."""
    other = attrs.evolve(RECORD, call_uuid="b", **changed)
    ids = frozenset({OURS})
    assert judge(other, caller_ids=ids) == Match(())
    assert judge(other, RECORD, caller_ids=ids).proof == RECORD


def test_call_that_fits_proves_nothing_where_there_is_a_doubt_about_it() -> None:
    """Each of these may hide the dial's own call."""
    other = attrs.evolve(RECORD, call_uuid="b")
    untimed = attrs.evolve(other, began_at=None)
    assert judge(RECORD, other).proof is None
    assert judge(RECORD, untimed).proof is None
    assert judge(untimed).proof is None
    assert judge(RECORD, complete=False).proof is None
    assert judge(RECORD, alone=False).proof is None
    ids = frozenset({OURS})
    assert judge(RECORD, other, caller_ids=ids).proof is None
    assert judge(RECORD, alone=False, caller_ids=ids).proof is None


def test_call_in_two_lists_is_one_call() -> None:
    """It may end between two questions."""
    ended = attrs.evolve(RECORD, state=CallState.ENDED)
    assert judge(ended, RECORD).proof == ended
    assert judge(RECORD, ended).proof == ended


def test_window_lasts_as_long_as_the_request_may_have_been_on_its_way() -> None:
    """A server that was silent for ten seconds may have dialled in any of them."""
    assert Window.of(DOUBT) == Window(LEFT_AT - 2.0, LEFT_AT + 3.5)
    silent = attrs.evolve(DOUBT, seconds=12.0, waited=2.0)
    assert Window.of(silent).end == LEFT_AT + 13.0
    repeated = attrs.evolve(silent, attempts=2)
    assert Window.of(repeated).end == LEFT_AT + 15.0
    known_late = attrs.evolve(DOUBT, seconds=9_000.0)
    assert Window.of(known_late).end == LEFT_AT + 16.0
    assert Window.of(DOUBT).listed_by == LEFT_AT + 3.5 + LAG
    assert not Window.of(attrs.evolve(DOUBT, left_at=None)).may_hold(LEFT_AT)


def test_other_dials_to_the_phone_are_remembered_for_a_while() -> None:
    """A call to a phone that was dialled twice may be either's."""
    now = 990.0
    dials = RecentDials(lambda: now)
    window = Window.of(DOUBT)
    now = LEFT_AT
    dials.note(dial(1))
    assert dials.is_alone(address(1), window, LEFT_AT)
    assert dials.is_alone(address(2), window, LEFT_AT)
    now = LEFT_AT + 1.0
    dials.note(dial(1))
    dials.note(dial(2))
    assert not dials.is_alone(address(1), window, LEFT_AT)
    assert not dials.is_alone(address(2), window, 900.0), "that one is another's own"
    now += MEMORY
    dials.note(dial(3))
    assert len(dials) == 3
    now += 0.5
    dials.note(dial(3))
    assert len(dials) == 2
    assert dials.is_alone(address(1), window, 900.0), "what is over is forgotten"
