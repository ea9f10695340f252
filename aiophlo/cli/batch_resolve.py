"""`aiophlo batch --resolve`: looks for what is in doubt in a journal, sends nothing."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from aiophlo.cli.batch_options import BatchOptions
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.interrupts import interrupts
from aiophlo.cli.journal_places import usable_journal
from aiophlo.cli.output import say, say_json
from aiophlo.cli.row_source import Source
from aiophlo.cli.rows import actions_of
from aiophlo.cli.terminal_text import number_of
from aiophlo.errors import InvalidInputError
from aiophlo.journal.journal import Journal
from aiophlo.looking.caller_ids import Node
from aiophlo.looking.matching import LONGEST, Window
from aiophlo.looking.recent_dials import MadeDial
from aiophlo.model.accounts import Account
from aiophlo.model.actions import WarmTransfer
from aiophlo.model.address_matching import party_of
from aiophlo.model.outcomes import Accepted, InDoubt
from aiophlo.pool import SessionPool

if TYPE_CHECKING:
    from rich.console import Console

_AT_ONCE = 50  # rows that are looked for
_SAMPLES = 50  # accepted rows of a node by which its caller id may be learned
_RUNG = ("accepted", "in_doubt")
_NEW = None, 0.0  # no verdict


@attrs.define
class Resolved:
    """What looking came to.

    Attributes:
        in_doubt: Rows of the file that were in doubt.
        accepted: Of these, those whose call was seen.
        unseen: Those of which no call could be seen, in lists that were read whole.
        unclear: The others: more than one call could be theirs, or it couldn't be read.
        elsewhere: Rows in doubt in the journal that the file doesn't have.
        interrupted: A signal ended it.
    """

    in_doubt: int = 0
    accepted: int = 0
    unseen: int = 0
    unclear: int = 0
    elsewhere: int = 0
    interrupted: bool = False

    @property
    def exit(self) -> Exit:
        """The exit code."""
        if self.interrupted:
            return Exit.INTERRUPTED
        left = self.in_doubt - self.accepted + self.elsewhere
        return Exit.IN_DOUBT if left else Exit.ACCEPTED

    @property
    def lines(self) -> Iterator[str]:
        """What is said of it."""
        yield (
            f"{number_of(self.in_doubt, 'row')} in doubt: {self.accepted} seen in"
            f" Plivo's list of calls, so accepted now; {self.unseen} unseen, which"
            f" proves nothing; {self.unclear} unclear. Nothing was sent."
        )
        if self.elsewhere:
            yield f"In doubt in the journal, and not in this file: {self.elsewhere}."


def resolve_batch(
    options: BatchOptions, source: Source, account: Account, console: "Console"
) -> Exit:
    """Look for each row that is in doubt, and say how many that settles.

    Raises:
        UnusableError: There is no journal, or it can't be had.
    """
    with usable_journal():
        exists = options.journal is not None and options.journal.exists
    if not exists:
        raise UnusableError("--resolve: expected the --journal of an earlier run")
    resolved = asyncio.run(_resolve(options, source, account, console))
    if options.as_json:
        say_json(attrs.asdict(resolved))
    else:
        say(*resolved.lines)
    return resolved.exit


async def _resolve(
    options: BatchOptions, source: Source, account: Account, console: "Console"
) -> Resolved:
    assert options.journal is not None  # noqa: S101 -- checked above
    resolved = Resolved()
    with usable_journal():
        async with options.journal.open() as journal:
            if not isinstance(journal, Journal):
                raise UnusableError("--resolve: expected a journal in a file")
            doubts = _Doubts(options, source, journal)
            resolved.in_doubt = len(doubts.rows)
            known = journal.report().verdicts["in_doubt"]
            resolved.elsewhere = known - resolved.in_doubt
            async with options.endpoint.pool(account) as pool:
                task = asyncio.create_task(_look(doubts, pool, account, resolved))
                await _until_ended(task, resolved, console)
    return resolved


async def _until_ended(
    task: "asyncio.Task[None]", resolved: Resolved, console: "Console"
) -> None:
    def interrupt(_number: int) -> None:
        task.cancel()
        console.print("aiophlo: ending; nothing was sent", highlight=False)

    with interrupts(interrupt) as seen:
        await asyncio.wait([task])
    resolved.interrupted = bool(seen)
    if not task.cancelled():
        task.result()


async def _look(
    doubts: "_Doubts", pool: SessionPool, account: Account, resolved: Resolved
) -> None:
    await doubts.learn(pool, account)
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def settle(row: _Row) -> None:
        async with at_once:
            await doubts.settle(row, pool, account, resolved)

    async with asyncio.TaskGroup() as group:
        for row in doubts.rows:
            group.create_task(settle(row))


@attrs.frozen
class _Row:
    """A row in doubt.

    Attributes:
        line: Where it begins.
        action: What it asks for.
        left_at: Unix time of its intent.
    """

    line: int
    action: WarmTransfer
    left_at: float


class _Doubts:
    """The rows of a file that are in doubt, and when others to their phones left."""

    def __init__(self, options: BatchOptions, source: Source, journal: Journal) -> None:
        self._options = options
        self._source = source
        self._journal = journal
        self.rows = [
            _Row(line, action, left_at)
            for line, action, left_at, in_doubt in self._rung()
            if in_doubt
        ]
        parties = {party_of(row.action.to) for row in self.rows}
        self._left: defaultdict[str, list[float]] = defaultdict(list)
        self._made: defaultdict[Node, list[MadeDial]] = defaultdict(list)
        for _, action, left_at, in_doubt in self._rung() if parties else ():
            if (party := party_of(action.to)) in parties:
                self._left[party].append(left_at)
            made = self._made[action.phlo_id, action.node_id]
            if not in_doubt and len(made) < _SAMPLES:
                made.append(MadeDial(action.to, left_at))

    def _rung(self) -> Iterator[tuple[int, WarmTransfer, float, bool]]:
        """Yield the rows whose phones may have rung, and whether that is in doubt."""
        for line, action in actions_of(self._source, self._options.defaults):
            with contextlib.suppress(InvalidInputError):  # another transfer's key
                verdict, left_at = self._journal.find_row(line, action) or _NEW
                if verdict in _RUNG:
                    yield line, action, left_at, verdict == "in_doubt"

    async def learn(self, pool: SessionPool, account: Account) -> None:
        """Learn from what was accepted which numbers the rows are called from."""
        looking = pool._looks()  # noqa: SLF001 -- its command
        for node, made in self._made.items():
            await looking.learn(account, node, made)

    async def settle(
        self, row: _Row, pool: SessionPool, account: Account, resolved: Resolved
    ) -> None:
        """Look for one row, and note what that settles."""
        journal = self._journal
        key, known = journal.recall_row(row.line, row.action, include_in_doubt=True)
        doubt = journal.earlier(key)
        if known is not None or not isinstance(doubt, InDoubt):
            return  # it stands in the file twice
        try:
            looking = pool._looks()  # noqa: SLF001 -- its command
            alone = self._is_alone(row, doubt)
            sighting = await looking.look_once(doubt, account, is_alone=alone)
        except BaseException:
            journal.release(key)
            raise
        if isinstance(sighting.outcome, Accepted):
            await journal.resolve(key, sighting.outcome)
            resolved.accepted += 1
            return
        journal.release(key)
        if sighting.nothing_listed:
            resolved.unseen += 1
        else:
            resolved.unclear += 1

    def _is_alone(self, row: _Row, doubt: InDoubt) -> bool:
        """Say whether no other row to the same phone left at about the same time."""
        window = Window.of(doubt)
        begin = window.begin - LONGEST
        times = self._left[party_of(row.action.to)]
        return sum(begin <= at <= window.end for at in times) <= 1
