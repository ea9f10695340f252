"""One call that fits is proof, and nothing else is."""

from typing import Any

import attrs
import pytest

from aiophlo import CallState, InDoubt, Reason, WarmTransfer
from aiophlo.looking import recent_dials
from aiophlo.looking.call_records import CallRecord
from aiophlo.looking.matching import LAG, Match, Window, match
from aiophlo.looking.recent_dials import MEMORY, RecentDials
from aiophlo.model.address_matching import party_of
from aiophlo.sending.dial_log import DialLog
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
    assert judge(other, caller_ids=ids).candidates == ()
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


def test_calls_that_are_not_taken_for_it_are_counted() -> None:
    """Its own may be among them: from an unknown number, or queued by Plivo."""
    ids = frozenset({OURS})
    foreign = attrs.evolve(RECORD, call_uuid="b", from_="14155550199")
    late = attrs.evolve(RECORD, call_uuid="c", began_at=LEFT_AT + 60.0)
    hour_later = attrs.evolve(late, call_uuid="d", began_at=LEFT_AT + 3_600.0)
    inbound = attrs.evolve(RECORD, call_uuid="e", is_outbound=False)
    found = judge(foreign, foreign, late, hour_later, inbound, caller_ids=ids)
    assert (found.candidates, found.others) == ((), 2)
    assert judge(RECORD, caller_ids=ids).others == 0


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
    assert Window.of(repeated) == Window.of(silent), "it left only the last time"
    killed = attrs.evolve(silent, reason=Reason.INTERRUPTED, seconds=0.0, waited=0.0)
    assert Window.of(killed).end == LEFT_AT + 16.0, "nobody has measured how long"
    known_late = attrs.evolve(DOUBT, seconds=9_000.0)
    assert Window.of(known_late).end == LEFT_AT + 16.0
    assert Window.of(DOUBT).listed_by == LEFT_AT + 3.5 + LAG
    assert not Window.of(attrs.evolve(DOUBT, left_at=None)).may_hold(LEFT_AT)


@pytest.mark.parametrize(
    ("dialled", "listed", "proves"),
    [
        (TO, TO, True),
        (TO, f"sip:{TO}@pbx.example.com", False),
        (f"sip:{TO}@pbx.example.com;user=phone", TO.removeprefix("+"), False),
        (f"sip:{TO}@pbx.example.com;user=phone", f"{TO}@pbx.example.com", True),
        ("sip:a@b.example.com", "SIP:a@B.example.com:5060;transport=udp", True),
        ("sip:a@b.example.com", "<sip:a@b.example.com>", True),
        ("sip:a@b.example.com", "sip:a@b.example.com:5070", False),
        ("sip:a@b.example.com:5070", "sip:a@b.example.com", False),
        ("sip:a@b.example.com:5070", "sip:a@b.example.com:5070", True),
    ],
)
def test_address_that_is_only_alike_proves_nothing(
    dialled: str, listed: str, proves: bool
) -> None:
    """Two phones behind one PBX: it counts as a candidate, and not as proof."""
    record = attrs.evolve(RECORD, to=listed)
    found = match(
        [record],
        to=dialled,
        window=Window.of(DOUBT),
        caller_ids=frozenset(),
        complete=True,
        alone=True,
    )
    assert (len(found.candidates), found.proof is not None) == (1, proves)


def test_other_dials_to_the_phone_are_remembered_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call to a phone that was dialled twice may be either's."""
    monkeypatch.setattr(recent_dials, "LEAST", 3)
    now = 990.0
    log = DialLog(lambda: now)
    dials = RecentDials(log)
    window = Window.of(DOUBT)
    now = LEFT_AT
    log.note(dial(1))
    assert dials.is_alone(address(1), window, LEFT_AT)
    assert dials.is_alone(address(2), window, LEFT_AT)
    now = LEFT_AT + 1.0
    log.note(dial(1))
    log.note(dial(2))
    assert not dials.is_alone(address(1), window, LEFT_AT)
    assert not dials.is_alone(address(2), window, 900.0), "that one is another's own"
    now += MEMORY
    log.note(dial(3))
    assert len(dials) == 3
    now += 0.5
    log.note(dial(3))
    assert len(dials) == 3, "what is over is forgotten"
    assert not dials.is_alone(address(1), window, LEFT_AT), "nobody knows any more"
    long_ago = Window(900.0, 905.0)
    assert dials.is_alone(address(1), long_ago, 902.0), "by an earlier process"


def test_doubt_of_another_pool_is_not_taken_for_the_pools_own_dial() -> None:
    """Its call and this pool's can't be told apart."""
    now = 990.0
    log = DialLog(lambda: now)
    dials = RecentDials(log)
    now = LEFT_AT + 2.5
    log.note(dial(1))
    assert not dials.is_alone(address(1), Window.of(DOUBT), LEFT_AT)


def test_spellings_of_one_party_are_one_party() -> None:
    """The list may show them alike."""
    now = LEFT_AT
    log = DialLog(lambda: now)
    dials = RecentDials(log)
    window = Window.of(DOUBT)
    for to in (f"sip:{TO}@pbx.example.com;user=phone", "sip:a@b.example.com:5070"):
        log.note(attrs.evolve(DIAL, to=to))
    log.note(dial(1))
    log.note(attrs.evolve(DIAL, to="sip:a@b.example.com"))
    assert not dials.is_alone(party_of(TO), window, LEFT_AT)
    assert not dials.is_alone(party_of("sips:a@B.example.com"), window, LEFT_AT)
