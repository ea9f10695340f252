"""Lose answers, look for their calls, and hold every sighting against what rang.

``python -m benchmarks.soak.looking`` sends 100,000 transfers, loses 5 % of the answers
and some of the requests, and looks for each doubt in a list of calls that tells of them
up to 4 s late and of a tenth never, while others call the same phones, and the pool
itself calls some of them twice. A sighting of any call but the dial's own is wrong.
"""

import argparse
import asyncio
import json
import logging
import random
import sys
import time
from collections import Counter
from typing import Final

import attrs

from aiophlo import (
    Account,
    InDoubt,
    InDoubtError,
    NotSentError,
    Quota,
    SessionPool,
    Sighting,
    WarmTransfer,
)
from aiophlo.simulator import Fault, Habit, Listing, Reaction, Simulator
from aiophlo.simulator.call_list import Leg

OURS: Final = "+14155550100"  # what the simulator's PHLOs call from
OTHERS: Final = "+14155550199"
LAG: Final = 4.0  # seconds
UNLISTED: Final = 0.1
_LOST: Final = (Fault.DROP_AFTER_READ, Fault.RESET, Fault.STATUS_503, Fault.CUT_BODY)
_HABITS: Final = (
    Habit(after=4.0, stays=30.0),
    Habit(after=12.0, stays=5.0),
    Habit(Reaction.MACHINE, after=2.0, stays=4.0),
    Habit(Reaction.BUSY, after=1.0),
    Habit(Reaction.DECLINES, after=6.0),
    Habit(Reaction.IGNORES, after=20.0),
)


@attrs.frozen(kw_only=True)
class Course:
    """What is sent, and what goes wrong.

    Attributes:
        transfers: How many.
        per_second: How many of them in a second.
        quota: Requests in 5 seconds, by a strict moving window.
        lost: Chance of an answer that is lost.
        never: Chance of a request that is lost before it takes effect.
        others: Chance of another call to the same phone, within 6 s before or after.
        twice: Chance of a second dial of the pool's own to the same phone.
        knows_caller_ids: The pool knows what its dials call from.
        seed: Of all chance.
    """

    transfers: int = 100_000
    per_second: float = 200.0
    quota: int = 3_000
    lost: float = 0.05
    never: float = 0.005
    others: float = 0.2
    twice: float = 0.02
    knows_caller_ids: bool = True
    seed: int = 1


@attrs.define
class Findings:
    """What came of it.

    Attributes:
        transfers: How many were asked for.
        not_sent: Of these, how many weren't sent in time.
        doubts: How many were in doubt.
        rung: Of these, how many phones had rung.
        settled: How many of those were seen.
        wrong: Sightings of a call that wasn't the dial's.
        unsettled: Why those that had rung were not seen.
        questions: GETs that looking took.
        refused_429: Requests that the quota refused.
        looked_for: Seconds from a doubt to its sighting, in all.
    """

    transfers: int = 0
    not_sent: int = 0
    doubts: int = 0
    rung: int = 0
    settled: int = 0
    wrong: int = 0
    unsettled: Counter[str] = attrs.field(factory=Counter)
    questions: int = 0
    refused_429: int = 0
    looked_for: float = 0.0

    @property
    def share_settled(self) -> float:
        """Share of the doubts whose phone had rung that were seen."""
        return self.settled / max(self.rung, 1)

    @property
    def passes(self) -> bool:
        """Whether nothing was wrong, enough settled, and the quota kept."""
        return not (self.wrong or self.refused_429) and self.share_settled >= 0.85  # noqa: PLR2004 -- what was promised

    def as_json(self) -> dict[str, object]:
        """Return all of it."""
        return {
            **attrs.asdict(self),
            "share_settled": round(self.share_settled, 4),
            "seconds_to_a_sighting": round(self.looked_for / max(self.settled, 1), 2),
        }


async def run(course: Course) -> Findings:
    """Run a course."""
    quota = (course.quota, 5.0)
    async with Simulator(
        quota=quota, keep_requests=False, seed=course.seed
    ) as simulator:
        simulator.list_calls(Listing(lag=LAG, unlisted=UNLISTED))
        account = Account(
            simulator.auth_id, simulator.auth_token, quota=Quota(quota[0], per=5.0)
        )
        async with SessionPool(
            account,
            base_url=simulator.base_url,
            caller_ids=[OURS] if course.knows_caller_ids else [],
        ) as pool:
            soak = _Soak(course, simulator, pool)
            await soak.run()
            sent = soak.findings.transfers - soak.findings.not_sent
            soak.findings.questions = simulator.ledger.received - sent
            soak.findings.refused_429 = simulator.ledger.refused_429
            return soak.findings


class _Soak:
    def __init__(self, course: Course, simulator: Simulator, pool: SessionPool) -> None:
        self.findings = Findings()
        self._course = course
        self._simulator = simulator
        self._pool = pool
        self._chance = random.Random(course.seed)  # noqa: S311 -- a course, no secret
        self._loop = asyncio.get_running_loop()
        self._others: set[str] = set()  # ids of calls that aren't the pool's
        pool._looks()  # noqa: SLF001 -- as `look=True` would: dials are remembered

    async def run(self) -> None:
        course, began = self._course, self._loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(course.transfers):
                wait = began + number / course.per_second - self._loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                group.create_task(self._one(number))

    async def _one(self, number: int) -> None:
        to = f"+1{4_150_000_000 + number}"
        self._simulator.set_habit(self._chance.choice(_HABITS), address=to)
        self._let_others_call(to)
        agents = [number]
        if self._chance.random() < self._course.twice:
            agents.append(number + 1)
        async with asyncio.TaskGroup() as group:
            for delay, agent in enumerate(agents):
                group.create_task(self._send(to, agent, delay * self._chance.random()))

    def _let_others_call(self, to: str) -> None:
        if self._chance.random() >= self._course.others:
            return
        inbound = self._chance.random() < 0.2  # noqa: PLR2004 -- a fifth calls in
        habit = self._chance.choice(_HABITS)

        def call() -> None:
            leg = self._simulator.place_other_call(
                to,
                habit=habit,
                ours=OURS if inbound else OTHERS,
                dialled=not inbound,
            )
            self._others.add(leg.call_uuid)

        self._loop.call_later(self._chance.uniform(0.0, 12.0), call)

    async def _send(self, to: str, agent: int, delay: float) -> None:
        # Others call from 6 s before it to 6 s after.
        await asyncio.sleep(6.0 + delay)
        transfer = WarmTransfer(
            phlo_id="p",
            node_id="n",
            to=to,
            trigger_source=f"+1{2_120_000_000 + agent}",
        )
        drawn, never = self._chance.random(), False
        if drawn < self._course.lost:
            self._simulator.fault_next(self._chance.choice(_LOST), to=to)
        elif drawn < self._course.lost + self._course.never:
            never = True
            fault = Fault.DROP_BEFORE_READ
            self._simulator.fault_next(fault, dialled=False, to=to)
        self.findings.transfers += 1
        try:
            await self._pool.send(transfer)
        except NotSentError:
            self.findings.not_sent += 1  # this machine was too busy
        except InDoubtError as error:
            if isinstance(error.outcome, InDoubt):  # it always is
                own = None if never else self._own_leg(error.outcome, to)
                await self._look(error.outcome, own)

    async def _look(self, doubt: InDoubt, own: Leg | None) -> None:
        began = time.monotonic()
        sighting = await self._pool.look(doubt)
        findings = self.findings
        findings.doubts += 1
        findings.rung += own is not None
        if not sighting.seen:
            if own is not None:
                findings.unsettled[self._why(sighting, own)] += 1
        elif own is None or sighting.call_uuid != own.call_uuid:
            findings.wrong += 1
        else:
            findings.settled += 1
            findings.looked_for += time.monotonic() - began

    def _own_leg(self, doubt: InDoubt, to: str) -> Leg | None:
        """Return the leg that a dial has made: of two to one phone, the nearest."""
        assert doubt.left_at is not None  # noqa: S101 -- for mypy
        left_at = doubt.left_at
        own = [
            leg
            for leg in self._simulator.call_list.legs(to)
            if leg.call_uuid not in self._others
        ]
        return min(own, key=lambda leg: abs(leg.began_at - left_at), default=None)

    def _why(self, sighting: Sighting, own: Leg) -> str:
        if not self._simulator.call_list.is_listed(own.call_uuid):
            return "never listed"
        if sighting.candidates > 1:
            return "more than one candidate"
        own_legs = [
            leg
            for leg in self._simulator.call_list.legs(own.address)
            if leg.call_uuid not in self._others
        ]
        return "dialled twice" if len(own_legs) > 1 else "not seen in time"


def main(arguments: list[str] | None = None) -> int:
    """Run a course as told, print what came of it, and return the exit status."""
    parser = argparse.ArgumentParser("benchmarks.soak.looking", description=__doc__)
    parser.add_argument("--transfers", type=int, default=100_000)
    parser.add_argument("--per-second", type=float, default=200.0)
    parser.add_argument("--quota", type=int, default=3_000, help="in 5 seconds")
    parser.add_argument("--lost", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--without-caller-ids",
        action="store_true",
        help="let the pool not know what its dials call from",
    )
    given = parser.parse_args(arguments)
    logging.getLogger("aiophlo").setLevel(logging.CRITICAL)  # thousands of warnings
    findings = asyncio.run(
        run(
            Course(
                transfers=given.transfers,
                per_second=given.per_second,
                quota=given.quota,
                lost=given.lost,
                seed=given.seed,
                knows_caller_ids=not given.without_caller_ids,
            )
        )
    )
    print(json.dumps(findings.as_json()))
    return 0 if findings.passes else 1


if __name__ == "__main__":
    sys.exit(main())
