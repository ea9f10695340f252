"""Live calls behave as people on a telephone do."""

import heapq
import itertools
from collections.abc import Callable

import pytest

from aiophlo.simulator import Call, Habit, State
from aiophlo.simulator.api import Asked, RefusedError
from aiophlo.simulator.switchboard import Switchboard

AGENT = "+14152223333"
CUSTOMER = "+14152224444"
PARTNER = "+14152225555"
OTHER = "sip:other@phone.plivo.com"
TALKING, ON_HOLD = State.TALKING, State.ON_HOLD
RINGING, CONSULTING, LEFT = State.RINGING, State.CONSULTING, State.LEFT


class Office:
    """A switchboard whose time passes only when told, with one call in it."""

    def __init__(self, *, strict: bool = False, returns_customer: bool = True) -> None:
        self.events: list[str] = []
        self.board = Switchboard(
            strict=strict,
            returns_customer=returns_customer,
            later=self.later,
            tell=lambda call, member, event: self.events.append(
                f"{event} {list(call.members).index(member.address)}"
            ),
            changed=lambda: None,
        )
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._now = 0.0
        self.call = self.place()

    def place(self) -> Call:
        """Start a call of the same people."""
        return self.board.place("p", "n", agent=AGENT, customer=CUSTOMER, account="MA")

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Do something once that much time has passed."""
        heapq.heappush(self._due, (self._now + seconds, next(self._number), callback))

    def pass_time(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        self._now += seconds
        while self._due and self._due[0][0] <= self._now:
            heapq.heappop(self._due)[2]()

    def ask(self, action: str, who: str = AGENT, to: str = "") -> RefusedError | None:
        """Ask as the API does; give the refusal, if it is refused."""
        asked = Asked(action=action, phlo_id="p", node_id="n", to=to, role="agent")
        if to:
            asked.trigger_source = who
        else:
            asked.member = who
        refusal = self.board.refusal(asked)
        if refusal is None:
            self.board.apply(asked)
        return refusal

    def consult(self) -> None:
        """Bring the agent and the partner into a consult."""
        assert self.ask("warm_transfer", to=PARTNER) is None
        self.pass_time()

    def states(self) -> list[State]:
        """Say what agent, customer and partner are doing."""
        members = self.call.members
        who = [AGENT, CUSTOMER, PARTNER]
        return [members[address].state for address in who if address in members]


@pytest.fixture
def office() -> Office:
    """Give an office in easy mode."""
    return Office()


def test_call_begins_with_customer_and_agent(office: Office) -> None:
    """A handover starts from two people who talk."""
    assert office.states() == [TALKING, TALKING]
    assert office.events == ["ConferenceEnter 0", "ConferenceEnter 1"]


def test_warm_transfer_becomes_a_consult_when_answered(office: Office) -> None:
    """The customer must hear music while the two of them talk."""
    office.board.people.set(Habit(after=3.0), PARTNER)
    assert office.ask("warm_transfer", to=PARTNER) is None
    assert office.states() == [CONSULTING, ON_HOLD, RINGING]
    office.pass_time(2.9)
    assert office.states() == [CONSULTING, ON_HOLD, RINGING]
    office.pass_time(0.1)
    assert office.states() == [CONSULTING, ON_HOLD, CONSULTING]
    assert office.events[2:] == ["ConferenceEnter 2"]


def test_customer_is_joined_to_the_partner_when_the_agent_hangs_up(
    office: Office,
) -> None:
    """That is what a warm transfer is for."""
    office.consult()
    assert office.ask("hangup") is None
    assert office.states() == [LEFT, TALKING, TALKING]
    assert office.call.transfer is None


def test_customer_is_back_when_the_transfer_is_aborted(office: Office) -> None:
    """Nobody may be left with the music."""
    office.consult()
    assert office.ask("abort_transfer") is None
    assert office.states() == [TALKING, TALKING, LEFT]
    assert office.events[-1] == "ConferenceExit 2"


def test_phone_stops_ringing_when_the_transfer_is_aborted(office: Office) -> None:
    """Whoever picks up after the abort must find nobody."""
    office.ask("warm_transfer", to=PARTNER)
    assert office.ask("abort_transfer") is None
    office.pass_time()
    assert office.states() == [TALKING, TALKING, LEFT]
    assert "Conference" not in "".join(office.events[2:])


def test_phone_stops_ringing_when_its_member_is_hung_up(office: Office) -> None:
    """A member can be acted on from the first ring."""
    office.ask("warm_transfer", to=PARTNER)
    assert office.ask("hangup", who=PARTNER) is None
    assert office.states() == [TALKING, TALKING, LEFT]


def test_all_three_talk_when_the_call_is_resumed(office: Office) -> None:
    """The agent introduces the customer to the partner."""
    office.consult()
    assert office.ask("resume_call") is None
    assert office.states() == [TALKING, TALKING, TALKING]


@pytest.mark.parametrize("reaction", ["busy", "declines", "ignores"])
@pytest.mark.parametrize(
    ("returns_customer", "states", "abort"),
    [(True, [TALKING, TALKING, LEFT], 409), (False, [CONSULTING, ON_HOLD, LEFT], None)],
)
def test_transfer_fails_when_nobody_takes_it(
    reaction: str, returns_customer: bool, states: list[State], abort: int | None
) -> None:
    """Both ways in which Plivo might treat the customer then must be tried."""
    office = Office(returns_customer=returns_customer)
    office.board.people.set(Habit(reaction, after=20.0), PARTNER)
    office.ask("warm_transfer", to=PARTNER)
    office.pass_time(20.0)
    assert office.states() == states
    refusal = office.ask("abort_transfer")
    assert (refusal and refusal.status) == abort
    assert office.states() == [TALKING, TALKING, LEFT]


def test_customer_is_back_when_the_partner_hangs_up_in_the_consult(
    office: Office,
) -> None:
    """A partner who says no and hangs up is the usual end of a consult."""
    office.board.people.set(Habit(stays=10.0), PARTNER)
    office.consult()
    office.pass_time(10.0)
    assert office.states() == [TALKING, TALKING, LEFT]
    assert office.events[-1] == "ConferenceExit 2"


def test_customer_waits_for_the_partner_when_the_agent_leaves_early(
    office: Office,
) -> None:
    """An agent who hangs up too soon leaves the customer to whoever picks up."""
    office.board.people.set(Habit(after=5.0), PARTNER)
    office.ask("warm_transfer", to=PARTNER)
    office.ask("hangup")
    assert office.states() == [LEFT, ON_HOLD, RINGING]
    office.pass_time(5.0)
    assert office.states() == [LEFT, TALKING, TALKING]


def test_customer_is_alone_when_agent_and_partner_are_gone(office: Office) -> None:
    """The worst end must be possible, or no test can rule it out."""
    office.board.people.set(Habit("busy", after=5.0), PARTNER)
    office.ask("cold_transfer", to=PARTNER)
    office.pass_time(5.0)
    assert office.states() == [LEFT, ON_HOLD, LEFT]
    assert office.call.transfer is None


def test_transfer_ends_when_agent_leaves_after_a_partner_who_was_busy() -> None:
    """The same end, in the other order."""
    office = Office(returns_customer=False)
    office.board.people.set(Habit("busy"), PARTNER)
    office.consult()
    office.ask("hangup")
    assert office.states() == [LEFT, ON_HOLD, LEFT]
    assert office.call.transfer is None


def test_cold_transfer_connects_the_customer_when_answered(office: Office) -> None:
    """The agent is out at once."""
    assert office.ask("cold_transfer", to=PARTNER) is None
    assert office.states() == [LEFT, ON_HOLD, RINGING]
    office.pass_time()
    assert office.states() == [LEFT, TALKING, TALKING]


def test_added_user_joins_when_answering(office: Office) -> None:
    """Adding somebody interrupts nobody."""
    assert office.ask("call", to=PARTNER) is None
    assert office.states() == [TALKING, TALKING, RINGING]
    office.pass_time()
    assert office.states() == [TALKING, TALKING, TALKING]


def test_others_hear_music_when_a_member_holds(office: Office) -> None:
    """Hold goes to the one who places the call on hold."""
    office.ask("hold")
    assert office.states() == [TALKING, ON_HOLD]
    assert office.call[AGENT].holding
    office.ask("unhold")
    assert office.states() == [TALKING, TALKING]
    assert not office.call[AGENT].holding


def test_hold_ends_when_its_holder_leaves(office: Office) -> None:
    """Music for the rest of the day helps nobody."""
    office.consult()
    office.ask("resume_call")
    office.ask("hold", who=PARTNER)
    assert office.states() == [ON_HOLD, ON_HOLD, TALKING]
    office.ask("hangup", who=PARTNER)
    assert office.states() == [TALKING, TALKING, LEFT]


def test_member_is_muted_until_unmuted(office: Office) -> None:
    """Mute is the member's own."""
    office.ask("bridge_mute")
    assert office.call[AGENT].muted
    office.ask("mute", who=CUSTOMER)
    office.ask("unmute")
    assert (office.call[AGENT].muted, office.call[CUSTOMER].muted) == (False, True)


@pytest.mark.parametrize("who", [AGENT, PARTNER])
def test_voicemail_is_dropped_when_a_machine_has_answered(
    office: Office, who: str
) -> None:
    """The recording goes on the machine, and the machine off the line."""
    office.board.people.set(Habit("machine"), PARTNER)
    office.consult()
    assert office.call[PARTNER].machine
    assert office.ask("voicemail_drop", who=who) is None
    assert office.states() == [TALKING, TALKING, LEFT]


@pytest.mark.parametrize(
    ("before", "asked", "error"),
    [
        ("", ("abort_transfer", AGENT), "no transfer"),
        ("", ("resume_call", AGENT), "no transfer"),
        ("", ("voicemail_drop", AGENT), "machine"),
        ("", ("call", AGENT, CUSTOMER), "already"),
        ("warm_transfer", ("abort_transfer", CUSTOMER), "no transfer"),
        ("warm_transfer", ("resume_call", AGENT), "answered"),
        ("warm_transfer", ("warm_transfer", AGENT, OTHER), "in progress"),
        ("hold", ("warm_transfer", CUSTOMER, PARTNER), "not talking"),
    ],
)
def test_action_is_refused_when_it_is_impossible(
    office: Office, before: str, asked: tuple[str, ...], error: str
) -> None:
    """A client must be able to see what Plivo would say to nonsense."""
    if before:
        office.ask(before, to=PARTNER if before == "warm_transfer" else "")
    states = office.states()
    refusal = office.ask(*asked)
    assert refusal
    assert refusal.status == 409
    assert error in refusal.error
    assert office.states() == states


def test_call_is_over_when_all_have_left(office: Office) -> None:
    """A phone that rings for nobody must stop."""
    office.ask("call", to=PARTNER)
    office.ask("hangup", who=CUSTOMER)
    office.ask("hangup")
    office.pass_time()
    assert office.states() == [LEFT, LEFT, LEFT]
    assert office.call.completed
    assert office.board.calls == []
    assert office.ask("abort_transfer") is None  # easy mode: somebody else's, then


def test_people_are_found_in_their_newest_call(office: Office) -> None:
    """An agent takes one call after the other."""
    second = office.place()
    office.ask("hold")
    assert second[CUSTOMER].state is ON_HOLD
    assert office.call[CUSTOMER].state is TALKING
    office.call.leave(office.call[AGENT])
    office.call.leave(office.call[CUSTOMER])
    office.ask("unhold")
    assert second[CUSTOMER].state is TALKING
    office.call.leave(office.call[AGENT])
    assert office.board.calls == [second]


def test_stranger_is_accepted_in_easy_mode(office: Office) -> None:
    """A test that doesn't care about calls needn't place any."""
    assert office.ask("hold", who=OTHER) is None
    assert office.ask("warm_transfer", who=OTHER, to=PARTNER) is None
    assert office.states() == [TALKING, TALKING]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (Asked(action="get_phlo", phlo_id="p"), None),
        (Asked(action="get_phlo", phlo_id="q"), "PHLO"),
        (Asked(action="get_node", phlo_id="p", node_id="n"), None),
        (Asked(action="get_node", phlo_id="p", node_id="m"), "node"),
        (Asked(action="hold", phlo_id="p", node_id="n", member=AGENT), None),
        (Asked(action="hold", phlo_id="p", node_id="n", member=OTHER), "member"),
        (Asked(action="hold", phlo_id="p", node_id="m", member=AGENT), "node"),
    ],
)
def test_only_what_was_placed_exists_in_strict_mode(
    asked: Asked, error: str | None
) -> None:
    """A wrong id must show in the test, not on the first live call."""
    refusal = Office(strict=True).board.refusal(asked)
    assert (refusal is None) is (error is None)
    if refusal and error:
        assert refusal.status == 404
        assert error in refusal.error


def test_repr_shows_no_whole_number(office: Office) -> None:
    """Test reports are read by people who mustn't know whom we call."""
    assert CUSTOMER not in repr(office.call)
    assert "talking" in repr(office.call)
