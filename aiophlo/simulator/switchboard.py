"""The live calls by node and member, and which of them a request is about."""

from collections.abc import Callable
from typing import Final

from aiophlo.simulator import call_actions
from aiophlo.simulator.api import DIALLING, LISTING, Asked, RefusedError
from aiophlo.simulator.call import Call, Member, State
from aiophlo.simulator.call_list import CallList
from aiophlo.simulator.people import Habit, People

_BRIDGE: Final = "bridge_"

Event = Callable[[Call, Member, str], None]


class Switchboard:
    """Live calls by node and member.

    In easy mode every PHLO, node and address exists, and what is about none of the
    placed calls is accepted and changes nothing. In strict mode only what was placed
    exists.

    Args:
        strict: Which mode.
        returns_customer: Whether a transfer that fails gives the customer back.
        later: Does something after so many seconds.
        tell: Hears of a call, a member and an event's name.
        changed: Hears whenever something is as it wasn't before.
        call_list: Where every leg is entered; None for one of its own.

    Attributes:
        people: The habits of all addresses.
        call_list: Every leg.
    """

    def __init__(
        self,
        *,
        strict: bool,
        returns_customer: bool,
        later: Callable[[float, Callable[[], None]], None],
        tell: Event,
        changed: Callable[[], None],
        call_list: CallList | None = None,
    ) -> None:
        self.people = People()
        self.call_list = call_list or CallList()
        self.later = later
        self._strict = strict
        self._returns_customer = returns_customer
        self._tell = tell
        self._changed = changed
        self._calls: dict[Call, None] = {}
        self._phlos: set[str] = set()
        self._nodes: set[tuple[str, str]] = set()
        self._by_member: dict[tuple[str, str, str], Call] = {}

    @property
    def calls(self) -> list[Call]:
        """Those that go on."""
        return list(self._calls)

    def reset(self) -> None:
        """Forget all calls, nodes and habits; nobody is told."""
        for call in self._calls:
            for member in call.members.values():
                member.state = State.LEFT  # so that no timer lets them do anything
        self._calls.clear()
        self._phlos.clear()
        self._nodes.clear()
        self._by_member.clear()
        self.people.reset()
        self.call_list.reset()
        self._changed()

    def add_node(self, phlo_id: str, node_id: str) -> None:
        """Let a PHLO and a node of it exist in strict mode."""
        self._phlos.add(phlo_id)
        self._nodes.add((phlo_id, node_id))

    def place(
        self, phlo_id: str, node_id: str, *, agent: str, customer: str, account: str
    ) -> Call:
        """Start a call in which a customer talks to an agent."""
        self.add_node(phlo_id, node_id)
        call = Call(
            self,
            phlo_id=phlo_id,
            node_id=node_id,
            account=account,
            returns_customer=self._returns_customer,
        )
        self._calls[call] = None
        call.enter(customer, "customer", dialled=False)
        call.enter(agent, "agent", dialled=True)
        return call

    def refusal(self, asked: Asked) -> RefusedError | None:
        """Say why a request that is right in itself can't be carried out."""
        if asked.action in LISTING:
            return None
        if self._strict and not self._exists(asked):
            return RefusedError(404, "no such PHLO or node")
        who = asked.trigger_source or asked.member
        if not who:
            return None
        call, member = self._find(asked, who)
        if call is None or member is None:
            return RefusedError(404, "no such member") if self._strict else None
        action = asked.action.removeprefix(_BRIDGE)
        reason = call_actions.objection(action, call, member, asked.to)
        return RefusedError(409, reason) if reason else None

    def apply(self, asked: Asked, account: str = "") -> None:
        """Carry out a request of an account's that wasn't refused."""
        call, member = self._find(asked, asked.trigger_source or asked.member)
        if call and member:
            action = asked.action.removeprefix(_BRIDGE)
            if asked.to:
                self._index(call, asked.to)
            call_actions.apply(action, call, member, asked.to, asked.role)
            if asked.to:
                self.call_list.add(call.account, call[asked.to])
            self._changed()
        elif asked.to and asked.action in DIALLING:
            self.call_list.dial(account, asked.to, self.people.of(asked.to))

    def _exists(self, asked: Asked) -> bool:
        if asked.node_id:
            return (asked.phlo_id, asked.node_id) in self._nodes
        return asked.phlo_id in self._phlos

    def _find(self, asked: Asked, who: str) -> tuple[Call | None, Member | None]:
        call = self._by_member.get((asked.phlo_id, asked.node_id, who))
        member = call.members.get(who) if call else None
        return (call, member) if member and member.present else (None, None)

    def _index(self, call: Call, address: str) -> None:
        self._by_member[call.phlo_id, call.node_id, address] = call

    def habit_of(self, address: str) -> Habit:
        """Return how an address takes calls."""
        return self.people.of(address)

    def entered(self, call: Call, member: Member) -> None:
        """Post the event that a member is on the line."""
        self._index(call, member.address)
        self.call_list.add(call.account, member)
        self._tell(call, member, "ConferenceEnter")

    def exited(self, call: Call, member: Member) -> None:
        """Post the event that a member has left."""
        self._tell(call, member, "ConferenceExit")

    def changed(self, call: Call) -> None:
        """Forget a call that is over, and let waiters look."""
        if call.completed and call in self._calls:
            del self._calls[call]
            for address in call.members:
                where = (call.phlo_id, call.node_id, address)
                if self._by_member.get(where) is call:
                    del self._by_member[where]
        self._changed()
