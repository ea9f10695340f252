"""What a pool makes of the database's word on its dials."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import attrs
import pytest

from aiophlo import (
    AbortTransfer,
    Accepted,
    Account,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    VoicemailDrop,
    WarmTransfer,
)
from aiophlo.coordination import AwayError
from aiophlo.model.actions import Action, PartyKey
from aiophlo.postgres.operations import Operations
from aiophlo.postgres.shared_actions import PostgresActions
from tests.support.doubles import act
from tests.support.virtual_time import run_virtually


class Asked:
    """The operations that are asked for; a test answers them."""

    def __init__(self) -> None:
        self.open = True
        self.operations: list[tuple[dict[str, Any], asyncio.Future[Any]]] = []
        self.within: list[float] = []

    def ask(
        self, operation: dict[str, Any], *, within: float = 0.0
    ) -> asyncio.Future[Any]:
        """Keep an operation."""
        self.within.append(within)
        future = asyncio.get_running_loop().create_future()
        self.operations.append((operation, future))
        return future

    def call(
        self,
        operation: dict[str, Any],
        answered: Callable[[Any], object],
        *,
        within: float = 0.0,
    ) -> None:
        """Keep an operation whose answer is heard at once."""
        self.ask(operation, within=within).add_done_callback(
            lambda asked: answered(None if asked.exception() else asked.result())
        )

    def tell(self, operation: dict[str, Any]) -> bool:
        """Keep an operation that nobody waits for."""
        if self.open:
            self.operations.append((operation, asyncio.Future()))
        return self.open

    def done(self) -> list[str]:
        """Return what has been asked for, by name."""
        return [operation["do"] for operation, _ in self.operations]


@attrs.define(eq=False)
class Dial:
    """A dial under way that hasn't left."""

    action: Action
    deadline: float = math.inf
    has_left: bool = False
    left_elsewhere: bool = False
    sought: int = 0

    @contextlib.contextmanager
    def coming(self) -> Iterator[None]:
        """Count whether a slot is sought for it."""
        self.sought += 1
        yield
        self.sought -= 1


def actions_of(asked: Asked, heard: list[str]) -> PostgresActions:
    """Return the actions of an account, which put into `heard` what they hear."""

    def hear(party: PartyKey, action: str, *, ends_dials: bool) -> None:
        assert party
        assert ends_dials
        heard.append(action)

    account = Account("MA" + "X" * 18, "t" * 40)
    return PostgresActions(account, hear, cast("Operations", asked), 1)


async def test_abort_elsewhere_is_heard_while_the_dial_is_being_registered() -> None:
    """The dial would leave after it, and ring."""
    heard: list[str] = []
    asked = Asked()
    actions = actions_of(asked, heard)
    task = asyncio.create_task(actions.begin(Dial(act(WarmTransfer))))
    await asyncio.sleep(0)
    agent = asked.operations[0][0]["agent"]
    actions.hear("begun", [agent, "AbortTransfer", True, 2])
    asked.operations[0][1].set_result({})
    await task
    assert heard == ["AbortTransfer"]


@pytest.mark.parametrize("answer_first", [False, True])
async def test_dial_cancelled_as_its_answer_comes_is_ended(
    *, answer_first: bool
) -> None:
    """Its row would be joined for as long as the pool lives."""
    asked = Asked()
    account = Account("MA" + "X" * 18, "t" * 40)
    actions = PostgresActions(
        account, lambda *_, **__: None, cast("Operations", asked), 1
    )
    dial = Dial(act(WarmTransfer))

    async def send() -> None:
        try:
            await actions.begin(dial)
        finally:
            cancelled = NotSent(action=dial.action, reason=Reason.CANCELLED, attempts=0)
            actions.finish(dial, cancelled)

    task = asyncio.create_task(send())
    await asyncio.sleep(0)
    answer = asked.operations[0][1]
    if not answer_first:
        task.cancel()
        await asyncio.sleep(0)
    if not answer.done():
        answer.set_result({})
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asked.done() == ["dial", "finish"]
    assert asked.operations[0][0]["id"] == asked.operations[1][0]["id"]


async def test_dial_that_was_never_registered_is_not_ended_later() -> None:
    """Each of an outage's would be kept until its end, and told all at once then."""
    asked = Asked()
    actions = actions_of(asked, [])
    asked.open = False
    dial = Dial(act(WarmTransfer))
    actions.register(dial)
    actions.finish(dial, Accepted(action=dial.action, attempts=1))
    asked.open = True
    actions.catch_up()
    assert asked.done() == []


def test_joiner_without_a_deadline_waits_no_longer_once_nothing_can_be_heard() -> None:
    """It would wait for ever for a database that is away, or after its pool closed."""

    async def join() -> Outcome | None:
        asked, began = Asked(), asyncio.get_running_loop().time()
        task = asyncio.create_task(actions_of(asked, []).begin(Dial(act(WarmTransfer))))
        await asyncio.sleep(0)
        asked.operations[0][1].set_result({"join": "5", "outcome": None})
        while not task.done():
            for _, future in asked.operations[1:]:
                if not future.done():
                    future.set_exception(AwayError("away"))
            await asyncio.sleep(0.1)
            assert asyncio.get_running_loop().time() < began + 10.0
        return await task

    outcome = run_virtually(join())
    assert isinstance(outcome, InDoubt)
    assert outcome.reason is Reason.INTERRUPTED


async def test_slot_is_sought_only_until_the_answer_is_there() -> None:
    """A joiner would take slot after slot, and never use one."""
    asked = Asked()
    dial = Dial(act(WarmTransfer))
    task = asyncio.create_task(actions_of(asked, []).begin(dial))
    await asyncio.sleep(0)
    assert dial.sought == 1
    asked.operations[0][1].set_result({"join": "5", "outcome": None})
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked.done() == ["dial", "ask"]
    assert dial.sought == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("is_joined", [False, True])
async def test_end_of_a_dial_is_told_at_once_only_to_who_waits_for_it(
    *, is_joined: bool
) -> None:
    """Each statement costs; and who double-clicked shall see what came of it."""
    asked = Asked()
    actions = actions_of(asked, [])
    dial = Dial(act(WarmTransfer))
    task = asyncio.create_task(actions.begin(dial))
    await asyncio.sleep(0)
    asked.operations[0][1].set_result({})
    await task
    if is_joined:
        actions.hear("asked", [str(asked.operations[0][0]["id"])])
    actions.finish(dial, Accepted(action=dial.action, attempts=1))
    assert asked.done()[-1] == "finish"
    assert (asked.within[-1] > 0) is not is_joined


@pytest.mark.parametrize(
    ("kind", "seconds", "known_for"),
    [
        (AbortTransfer, 10.0, 70.0),
        (AbortTransfer, math.inf, 86_460.0),
        (VoicemailDrop, 10.0, None),
    ],
)
async def test_only_what_may_be_repeated_has_dials_told_of(
    kind: type[Action], seconds: float, known_for: float | None
) -> None:
    """Each dial would wake all pools; and one that isn't told of is aborted."""
    asked = Asked()
    deadline = asyncio.get_running_loop().time() + seconds
    actions_of(asked, []).register(Dial(act(kind), deadline))
    [(told, _)] = asked.operations
    assert told["do"] == "note"
    assert told.get("known_for") == (known_for and pytest.approx(known_for, abs=1.0))


async def test_what_may_be_repeated_hears_of_dials_once_the_database_is_back() -> None:
    """An abort would be repeated, and end a transfer that was begun after it."""
    asked = Asked()
    actions = actions_of(asked, [])
    asked.open = False
    for kind in (AbortTransfer, VoicemailDrop, WarmTransfer):
        actions.register(Dial(act(kind)))
    asked.open = True
    actions.catch_up()
    assert asked.done() == ["know"]


def test_joiner_past_its_deadline_looks_twice_a_second() -> None:
    """A leader that rings for a minute would be asked for twelve hundred times."""

    async def join() -> int:
        asked = Asked()
        loop = asyncio.get_running_loop()
        dial = Dial(act(WarmTransfer), deadline=loop.time() + 1.0)
        task = asyncio.create_task(actions_of(asked, []).begin(dial))
        await asyncio.sleep(0)
        asked.operations[0][1].set_result({"join": "5", "outcome": None})
        rings = {"outcome": None, "ended": False, "has_left": True, "lives": True}
        for _ in range(11_000):
            for _, future in asked.operations[1:]:
                if not future.done():
                    future.set_result(rings)
            await asyncio.sleep(0.001)
        task.cancel()
        return len(asked.operations) - 1

    assert 18 <= run_virtually(join()) < 35
