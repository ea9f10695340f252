"""Handovers that are held in one of their phases, for something to happen there."""

from enum import StrEnum
from typing import Final

import attrs

from aiophlo.simulator import Call, Habit, Simulator, State
from aiophlo.simulator.ledger import Record
from benchmarks.cluster.worker import NODE_ID, PHLO_ID, Order, Worker

_LONG: Final = 1000.0  # seconds: no answer, nobody picks up
_MANY: Final = 60.0  # seconds in which a scene is set


class Phase(StrEnum):
    """Where a handover is held."""

    ASKING = "asking"
    RINGING = "ringing"
    CONSULTING = "consulting"
    COMPLETING = "completing"
    BRINGING_BACK = "bringing_back"


_REQUESTS: Final = {
    Phase.ASKING: "warm_transfer",
    Phase.COMPLETING: "hangup",
    Phase.BRINGING_BACK: "abort_transfer",
}  # whose answer is held back


@attrs.frozen
class Scene:
    """A handover that is held in one phase.

    Attributes:
        number: Makes everybody's address.
        phase: Which.
        applied: Whether the request whose answer is held back has taken effect.
        call: The call.
    """

    number: int
    phase: Phase
    applied: bool
    call: Call

    @classmethod
    def place(
        cls, simulator: Simulator, number: int, phase: Phase, *, applied: bool
    ) -> "Scene":
        """Place the call, and see to it that its handover will be held."""
        agent, customer, first, _ = addresses(number)
        if phase in _REQUESTS:
            simulator.answer_next(
                delay=_LONG,
                to=first if phase is Phase.ASKING else agent,
                action=_REQUESTS[phase],
                dialled=applied,
            )
        if phase in {Phase.ASKING, Phase.RINGING}:
            simulator.set_habit(Habit(after=_LONG), address=first)
        call = simulator.place_call(PHLO_ID, NODE_ID, agent=agent, customer=customer)
        return cls(number, phase, applied, call)

    def order(self, talk: float = _LONG) -> Order:
        """Return the order to begin the handover; `talk` is for what is held there."""
        agent, customer, first, _ = addresses(self.number)
        return Order(
            number=self.number,
            agent=agent,
            customer=customer,
            to=first,
            talk=talk if self.phase is Phase.CONSULTING else 0.0,
            then="return" if self.phase is Phase.BRINGING_BACK else "complete",
        )

    async def until_held(self, simulator: Simulator, worker: Worker) -> None:
        """Wait until the handover of a worker is where it is held.

        Raises:
            TimeoutError: It never is; says what the worker told of it.
        """
        try:
            await worker.until(lambda: self.phase in worker.phases[self.number])
        except TimeoutError as error:
            told = worker.phases[self.number], worker.ended.get(self.number)
            message = f"handover {self.number}: {self.phase} expected, {told} told"
            raise TimeoutError(message) from error
        if self.phase in _REQUESTS:
            await simulator.wait_for(
                lambda ledger: any(map(self._is_held, ledger.requests)), within=_MANY
            )

    def _is_held(self, record: Record) -> bool:
        agent, _, first, _ = addresses(self.number)
        about = record.to == first or record.member == agent
        return record.action == _REQUESTS[self.phase] and about

    @property
    def customer_is_well(self) -> bool:
        """Whether the customer talks to somebody."""
        customer = addresses(self.number)[1]
        talking = {
            one.address
            for one in self.call.members.values()
            if one.state is State.TALKING
        }
        return customer in talking and len(talking) > 1


def addresses(number: int) -> tuple[str, str, str, str]:
    """Return agent, customer, and first and second partner."""
    agent, customer, first, second = (f"+1415{kind}{number:06}" for kind in range(2, 6))
    return agent, customer, first, second
