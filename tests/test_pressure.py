"""A pool under pressure: any order of events, streams, cancelled callers."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar, copy_context
from typing import Any, Final

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from aiophlo import (
    AbortTransfer,
    Accepted,
    Account,
    Action,
    ActionEnded,
    ColdTransfer,
    GetPhlo,
    Hold,
    Lane,
    ObservedEvent,
    Outcome,
    Quota,
    Reason,
    ResumeCall,
    SessionPool,
    Unhold,
    WarmTransfer,
)
from aiophlo.protocol.codec import Answer, NoAnswer, Request
from aiophlo.protocol.http_client import HttpClient
from aiophlo.protocol.tracked_request import TrackedRequest
from aiophlo.simulator import Simulator
from aiophlo.simulator.quota import MovingWindow
from tests.support.doubles import (
    ACCEPTED,
    RINGS,
    ScriptedHttpClient,
    ScriptedPool,
    account_of,
    act,
    address,
    outcome_of,
    pool_of,
)
from tests.support.virtual_time import VirtualTimeLoop, run_virtually

# Any order of events

QUOTA: Final = Quota(6, per=1.0, jitter=0.1)
ACCOUNT: Final = Account("MAPRESSURE0000000001", "token", quota=QUOTA)
CONNECTIONS: Final = 3
CONNECTING: Final = 0.03125
ANSWERING: Final = 0.125
EXCHANGE: Final = CONNECTING + ANSWERING  # what ends with it ends at the same moment
BUSY: Final = Answer(503, {}, b"")
DOWN: Final = NoAnswer(left=False, reason=Reason.UNREACHABLE)
THROTTLED: Final = Answer(429, {}, b"")
THROTTLED_LONG: Final = Answer(429, {"Retry-After": "90"}, b"")
REFUSED: Final = Answer(400, {}, b'{"error": "no"}')
MOODS: Final = [ACCEPTED, ACCEPTED, BUSY, DOWN, THROTTLED, THROTTLED_LONG, REFUSED]
TAKES_EFFECT: Final = (ACCEPTED, BUSY)


CALL: Final[ContextVar[int]] = ContextVar("CALL")  # which call a request is for


class Api(HttpClient):
    """A server of changing moods that takes its time.

    Attributes:
        mood: What it does with those who connect from now on.
        began: Which call each exchange was for, and when it had its slot.
        effects: How often each call took effect.
    """

    def __init__(self) -> None:
        self.mood: Answer | NoAnswer = ACCEPTED
        self.began: list[tuple[int, float]] = []
        self.effects: Counter[int] = Counter()

    async def exchange(
        self, request: Request, departure: TrackedRequest, *, within: float
    ) -> Answer | NoAnswer:
        """Connect, read, do what the mood is, answer."""
        del request, within
        call, mood = CALL.get(), self.mood
        self.began.append((call, asyncio.get_running_loop().time()))
        await asyncio.sleep(CONNECTING)
        if isinstance(mood, NoAnswer):
            return mood
        departure.left = True
        self.effects[call] += mood in TAKES_EFFECT
        await asyncio.sleep(ANSWERING)
        return mood


@attrs.frozen
class Call:
    """One call of `send`.

    Attributes:
        action: What was asked.
        lane: Where it queues.
        task: The caller.
    """

    action: Action
    lane: Lane
    task: "asyncio.Task[Outcome]"


class Day:
    """What happens to one pool, step by step, and whether it kept its promises."""

    def __init__(self) -> None:
        self.api = Api()
        self.calls: list[Call] = []
        self.told: dict[int, list[Outcome]] = {}
        self.closing: asyncio.Task[None] | None = None
        self.pool = ScriptedPool(
            ACCOUNT,
            transports=[self.api],
            connections_per_account=CONNECTIONS,
            observers=[self.observe],
            random=lambda: 0.5,
        )

    def observe(self, event: ObservedEvent) -> None:
        """Keep the outcomes, by call."""
        if isinstance(event, ActionEnded):
            number = int(event.outcome.action.key or "")
            self.told.setdefault(number, []).append(event.outcome)

    async def live(self, steps: Sequence["Step"]) -> None:
        """Take every step, close, and hold what came of it against the promises."""
        await self.pool.open()
        for name, *values in steps:
            await getattr(self, name)(*values)
        await self.close()
        assert self.closing is not None
        await self.closing
        tasks = [call.task for call in self.calls]
        await asyncio.gather(*tasks, return_exceptions=True)
        for number in range(len(self.calls)):
            self.check_outcome(number)
        self.check_quota()
        self.check_order()
        await self.check_leaks()

    # What may happen

    async def send(self, kind: type[Action], number: int, patience: float) -> None:
        """Send as an awaiting caller does."""
        action = self.keyed(kind, number)
        self.begin(
            action,
            min(Lane.AWAITED, action.lane),
            lambda: outcome_of(self.pool.send(action, send_within=patience)),
        )

    async def stream(self, kind: type[Action], number: int) -> None:
        """Send as a stream does."""
        action = self.keyed(kind, number)
        sender = self.pool.sender(ACCOUNT)
        self.begin(
            action,
            Lane.STREAMED,
            lambda: sender.send(action, lane=Lane.STREAMED, send_within=None),
        )

    async def cancel(self, back: int) -> None:
        """Let one of the latest callers go away."""
        if 0 <= back < len(self.calls):
            self.calls[-1 - back].task.cancel()

    async def rush(self, callers: int, patience: float) -> None:
        """Let several callers come at once."""
        for number in range(callers):
            await self.send(Hold, number, patience)

    async def click_twice(self, kind: type[Action], number: int) -> None:
        """Send the same thing twice."""
        await self.send(kind, number, 10.0)
        await self.send(kind, number, 10.0)

    async def leave_together(self, back: int) -> None:
        """Let one caller go away, and the next one a step of the loop later."""
        await self.cancel(back)
        await asyncio.sleep(0)
        await self.cancel(back - 1)

    async def turn(self, mood: Answer | NoAnswer) -> None:
        """Change the server's mood."""
        self.api.mood = mood

    async def wait(self, seconds: float) -> None:
        """Let time pass; 0 is one step of the loop."""
        await asyncio.sleep(seconds)

    async def stall(self, seconds: float) -> None:
        """Keep the loop busy, so that timers fire late."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.now += seconds

    async def close(self) -> None:
        """Begin to close the pool."""
        if self.closing is None:
            self.closing = asyncio.create_task(self.pool.close())

    def keyed(self, kind: type[Action], number: int) -> Action:
        """Make an action under the number of its call."""
        return attrs.evolve(act(kind, number), key=str(len(self.calls)))

    def begin(
        self, action: Action, lane: Lane, send: Callable[[], Awaitable[Outcome]]
    ) -> None:
        """Start the task of a caller."""

        async def call() -> Outcome:
            return await send()

        context = copy_context()
        context.run(CALL.set, len(self.calls))
        task = asyncio.get_running_loop().create_task(call(), context=context)
        self.calls.append(Call(action, lane, task))

    # What was promised

    def check_outcome(self, number: int) -> None:
        """A call ends in one outcome, told once, and true."""
        call, told = self.calls[number], self.told.get(number, [])
        effects = self.api.effects[number]
        if call.task.cancelled():
            verdicts = [outcome.verdict for outcome in told]
            assert verdicts in ([], ["not_sent"], ["in_doubt"])
            assert effects == 0 or verdicts == ["in_doubt"]
            return
        outcome = call.task.result()
        assert told == ([] if outcome.joined else [outcome])
        if outcome.joined or outcome.verdict in {"not_sent", "rejected"}:
            assert effects == 0
        elif outcome.verdict == "accepted":
            assert effects >= 1
        if not call.action.idempotent:
            assert effects <= 1

    def check_quota(self) -> None:
        """No window of the quota's length holds more than the quota."""
        slots = [moment for _, moment in self.api.began]
        for first, moment in enumerate(slots):
            window = [it for it in slots[first:] if it - moment < QUOTA.per]
            assert len(window) <= QUOTA.limit

    def check_order(self) -> None:
        """In each lane who asked first leaves first; a joiner may lead later."""
        first = list(dict.fromkeys(call for call, _ in self.api.began))
        for lane in Lane:
            order = [
                call
                for call in first
                if self.calls[call].lane is lane
                and not isinstance(self.calls[call].action, RINGS)
            ]
            assert order == sorted(order)

    async def check_leaks(self) -> None:
        """Nothing is left: no permit, ticket, task, claim or dial."""
        sender = self.pool.sender(ACCOUNT)
        state = self.pool.state()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert set(state.waiting.values()) == {0}
        assert state.in_flight == sender.under_way.number == 0
        assert sender.context.connections.free == CONNECTIONS
        assert sender.context.connections.waiting(Lane.STREAMED) == 0
        assert len(sender.context.claims) == 0
        await asyncio.sleep(6.0)  # an ended dial is kept for two periods at most
        newcomer = act(WarmTransfer, 9)
        assert isinstance(newcomer, WarmTransfer)
        assert not sender.dials.has_equal(sender.dials.key(newcomer))
        assert len(sender.dials) == 0


Step = tuple[Any, ...]
KINDS: Final = st.sampled_from(
    [WarmTransfer, ColdTransfer, ResumeCall, Hold, Unhold, AbortTransfer, GetPhlo]
)
WHOM: Final = st.integers(0, 2)
STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("send"), KINDS, WHOM, st.sampled_from([0.25, 2.0, 10.0])),
        st.tuples(st.just("send"), KINDS, WHOM, st.just(10.0)),
        st.tuples(st.just("stream"), KINDS, WHOM),
        st.tuples(
            st.just("rush"), st.integers(3, 6), st.sampled_from([EXCHANGE, 10.0])
        ),
        st.tuples(st.just("click_twice"), st.sampled_from(RINGS), WHOM),
        st.tuples(st.just("cancel"), st.integers(0, 8)),
        st.tuples(st.just("leave_together"), st.integers(0, 8)),
        st.tuples(st.just("turn"), st.sampled_from(MOODS)),
        st.tuples(st.just("wait"), st.sampled_from([0, 0, EXCHANGE, 0.125, 0.5, 3.0])),
        st.tuples(st.just("stall"), st.sampled_from([0.01, 0.1, 1.0])),
        st.tuples(st.just("close")),
    ),
    max_size=50,
)


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_promises_hold_whatever_happens(steps: list[Step]) -> None:
    """In a bad minute nobody may be forgotten, rung twice, or told wrongly."""
    run_virtually(Day().live(steps))


# Cancelled callers, against the ledger


async def cancel_at_every_step(
    simulator: Simulator,
    begin: Callable[[SessionPool, int], Awaitable[list["asyncio.Task[Accepted]"]]],
) -> list[Outcome]:
    """Cancel the first caller at loop step 1, 2, … until it comes too late.

    Returns:
        The outcomes that observers were told of, over all steps.
    """
    outcomes: list[Outcome] = []

    def observe(event: ObservedEvent) -> None:
        if isinstance(event, ActionEnded):
            outcomes.append(event.outcome)

    for step in itertools.count(1):
        async with pool_of(simulator, observers=[observe]) as pool:
            tasks = await begin(pool, step)
            for _ in range(step):
                await asyncio.sleep(0)
            too_late = not tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # Whatever had left has arrived once its connection is closed there too.
        await simulator.wait_for(lambda _: simulator.connections == 0)
        assert simulator.ledger.disagreements(outcomes) == []
        if too_late:
            break
    return outcomes


def seen(outcomes: list[Outcome]) -> set[tuple[str, str]]:
    """Return the verdicts and reasons that occurred."""
    return {(it.verdict, str(getattr(it, "reason", ""))) for it in outcomes}


AT_EVERY_STEP: Final = {
    ("not_sent", "cancelled"),
    ("in_doubt", "cancelled"),
    ("accepted", ""),
}


async def test_cancelled_transfer_is_told_as_the_ledger_has_it(
    simulator: Simulator,
) -> None:
    """Called not sent while it rings, the agent's next try rings a second phone."""

    async def begin(pool: SessionPool, step: int) -> list["asyncio.Task[Accepted]"]:
        return [asyncio.create_task(pool.send(act(WarmTransfer, step)))]

    outcomes = await cancel_at_every_step(simulator, begin)
    assert seen(outcomes) == AT_EVERY_STEP
    assert len(outcomes) == len({it.action for it in outcomes})


async def test_cancelled_transfer_on_a_kept_connection_is_told_right(
    simulator: Simulator,
) -> None:
    """Most transfers leave on a connection that is open already."""

    async def begin(pool: SessionPool, step: int) -> list["asyncio.Task[Accepted]"]:
        await pool.send(act(GetPhlo))
        return [asyncio.create_task(pool.send(act(WarmTransfer, step)))]

    outcomes = await cancel_at_every_step(simulator, begin)
    # It leaves in the caller's first step: there is no earlier one to cancel it at.
    assert seen(outcomes) == {("in_doubt", "cancelled"), ("accepted", "")}


async def test_cancelled_repeat_is_told_right(simulator: Simulator) -> None:
    """The first request left: no later step may call it not sent."""

    async def begin(pool: SessionPool, step: int) -> list["asyncio.Task[Accepted]"]:
        simulator.clear_script()
        simulator.answer_next(503)
        return [asyncio.create_task(pool.send(act(Hold, step)))]

    outcomes = await cancel_at_every_step(simulator, begin)
    assert seen(outcomes) == {*AT_EVERY_STEP, ("in_doubt", "server_error")}
    left = [it for it in outcomes if it.attempts == 2]
    assert left
    assert {it.verdict for it in left} == {"in_doubt", "accepted"}


async def test_second_click_survives_the_first_ones_cancellation(
    simulator: Simulator,
) -> None:
    """Whenever the first caller goes, the phone rings once or somebody is told."""
    ends: list[tuple[int, asyncio.Task[Accepted]]] = []

    async def begin(pool: SessionPool, step: int) -> list["asyncio.Task[Accepted]"]:
        action = act(WarmTransfer, step)
        tasks = [asyncio.create_task(pool.send(action)) for _ in "12"]
        ends.append((step, tasks[1]))
        return tasks

    await cancel_at_every_step(simulator, begin)
    for step, joiner in ends:
        outcome = await outcome_of(_result(joiner))
        if isinstance(outcome, Accepted):
            assert simulator.ledger.dials(address(step)) == 1
        else:
            assert (outcome.verdict, outcome.joined) == ("in_doubt", True)
            assert simulator.ledger.dials(address(step)) <= 1


async def _result(task: "asyncio.Task[Accepted]") -> Accepted:
    return await task


# A stream in hand


class Strict:
    """An API on the virtual clock that keeps to the quota as strictly as it can.

    Args:
        latency: Seconds to an answer.

    Attributes:
        arrived: Action's key and time of each request within the quota.
        refused: When each was refused with 429.
    """

    def __init__(self, latency: float = 0.1) -> None:
        self.window = MovingWindow(300, 5.0)
        self.arrived: list[tuple[str, float]] = []
        self.refused: list[float] = []
        self.transport = ScriptedHttpClient(self._answer)
        self._latency = latency

    async def _answer(self, request: Request) -> Answer | NoAnswer:
        now = asyncio.get_running_loop().time()
        if self.window.admit(now):
            self.refused.append(now)
            return THROTTLED
        self.arrived.append((request.path, now))
        await asyncio.sleep(self._latency)
        return ACCEPTED

    def rate(self, since: float, until: float) -> float:
        """Return the requests per second within the quota, in a span of time."""
        count = sum(since <= at < until for _, at in self.arrived)
        return count / (until - since)


STREAMED: Final = 5_000
BEHIND: Final = 3  # slots that an awaited send waits beside others of its kind at most
PACED: Final = Account("MAPRESSURE0000000002", "token")


def test_stream_leaves_room_for_people_and_uses_the_rest() -> None:
    """A batch must not keep an agent waiting, nor waste the account's quota."""

    async def main() -> tuple[list[int], float, int]:
        api = Strict()
        late: list[int] = []
        async with ScriptedPool(PACED, transports=[api.transport]) as pool:
            sender, loop = pool.sender(PACED), asyncio.get_running_loop()
            began = loop.time()
            stream = [
                asyncio.create_task(
                    sender.send(
                        act(ResumeCall, number), lane=Lane.STREAMED, send_within=None
                    )
                )
                for number in range(STREAMED)
            ]
            for round_ in range(60):
                await asyncio.sleep(1.0 + round_ / 100)
                before = len(api.transport.requests)
                people = [act(WarmTransfer, round_), act(Hold, round_)]
                urgent = act(AbortTransfer, round_)
                await asyncio.gather(*(pool.send(it) for it in [*people, urgent]))
                bodies = [it.body for it in api.transport.requests[before:]]
                verbs = [(body or b"").decode().split('"')[3] for body in bodies]
                late.append(verbs.index("abort_transfer"))
                late.append(verbs.index("hold") - 1)  # one more was before it
            await asyncio.gather(*stream)
            rate = (len(api.arrived) - 1) / (api.arrived[-1][1] - began)
        return late, rate, len(api.refused)

    late, rate, refused = run_virtually(main())
    assert max(late) < BEHIND
    assert rate >= 0.98 * 60
    assert refused == 0


async def test_stream_leaves_room_for_people_against_a_real_server() -> None:
    """The same on a real clock: the server's window decides."""
    async with Simulator(quota=(60, 1.0)) as simulator:
        account = account_of(simulator, quota=Quota(60, per=1.0, jitter=0.2))
        async with pool_of(simulator, account) as pool:
            sender = pool._senders[account.auth_id]  # noqa: SLF001 -- the lane of streams
            stream = [
                asyncio.create_task(
                    sender.send(
                        act(ResumeCall, number), lane=Lane.STREAMED, send_within=None
                    )
                )
                for number in range(100)
            ]
            for number in range(5):
                await simulator.wait_for(requests=15 * (number + 1))
                before = simulator.ledger.received
                await asyncio.gather(
                    pool.send(act(WarmTransfer, number)),
                    pool.send(act(AbortTransfer, number)),
                )
                words = [it.action for it in simulator.ledger.requests[before:]]
                assert words.index("abort_transfer") < BEHIND
                assert words.index("warm_transfer") <= BEHIND
            outcomes = await asyncio.gather(*stream)
    assert {it.verdict for it in outcomes} == {"accepted"}
    assert simulator.ledger.refused_429 == 0


# Somebody else's script on the same account


def test_pool_shares_the_account_with_foreign_traffic_and_recovers() -> None:
    """Another department's script must cost us pace, not a storm of 429s."""
    foreign = 100  # requests in 5 seconds
    share = (300 - foreign) / 5.0

    async def main() -> tuple[float, float, float, float]:
        api = Strict(latency=0.05)
        loop = asyncio.get_running_loop()

        async def others(seconds: float) -> None:
            for _ in range(int(seconds * foreign / 5)):
                api.window.admit(loop.time())
                await asyncio.sleep(5 / foreign)

        async def keep_sending(pool: ScriptedPool) -> None:
            sender = pool.sender(PACED)
            for number in itertools.count():
                action = act(ResumeCall, number)
                task = asyncio.create_task(
                    sender.send(action, lane=Lane.STREAMED, send_within=None)
                )
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                while len(tasks) >= 50:
                    await asyncio.wait(tasks, return_when="FIRST_COMPLETED")

        tasks: set[asyncio.Task[Outcome]] = set()
        began = loop.time()
        async with ScriptedPool(PACED, transports=[api.transport]) as pool:
            sending = asyncio.create_task(keep_sending(pool))
            await others(90.0)
            alone = loop.time()
            beside = api.rate(began + 30.0, alone)
            refused = sum(at >= began + 30.0 for at in api.refused)
            ratio = refused / (beside * 60.0)
            await asyncio.sleep(90.0)
            full = api.rate(loop.time() - 10.0, loop.time())
            pace = pool.state().pace
            sending.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.wait({sending, *tasks})
        return beside, ratio, full, pace

    beside, ratio, full, pace = run_virtually(main())
    assert beside >= 0.9 * share
    assert ratio < 0.02
    assert full >= 0.98 * 60
    assert pace == 1.0
