"""Runs a batch: its journal, pool and stream, until it ends or is interrupted."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import attrs

from aiophlo.cli.batch_check import Found, refuse_sent_list
from aiophlo.cli.batch_journal import print_plain
from aiophlo.cli.batch_options import BatchOptions
from aiophlo.cli.earlier_results import take_over
from aiophlo.cli.exit_codes import Exit, UnusableError, exit_of
from aiophlo.cli.fingerprint import write_fingerprint
from aiophlo.cli.finished_rows import FinishedRows
from aiophlo.cli.interrupts import interrupts
from aiophlo.cli.journal_places import JournalPlace, SharedPlace, usable_journal
from aiophlo.cli.log_lines import log_shown
from aiophlo.cli.results import Results
from aiophlo.cli.row_actions import Repeats, RowActions
from aiophlo.cli.row_source import Source
from aiophlo.cli.totals import Totals
from aiophlo.errors import JournalError
from aiophlo.journal.journal import Journal
from aiophlo.model.accounts import Account
from aiophlo.pool import SessionPool

if TYPE_CHECKING:
    from rich.console import Console

    from aiophlo.postgres import PostgresJournal

_CONNECTIONS = 1_000  # the pool's own default


@attrs.frozen(kw_only=True)
class Order:
    """What a batch is to do.

    Attributes:
        options: What was typed.
        source: The rows.
        found: What they are, after their first reading.
        plan: What is said once it begins.
        account: Whose transfers.
        journal: Where its journal is.
    """

    options: BatchOptions
    source: Source
    found: Found
    plan: Sequence[str]
    account: Account
    journal: JournalPlace

    @property
    def rows(self) -> int:
        """Rows in all."""
        survey = self.found.fingerprint.survey
        return survey.rows + survey.unusable


@attrs.define
class RunEnd:
    """How a batch ended.

    Attributes:
        totals: What came of its rows.
        rows: How many there are in all.
        interrupted: A signal ended it.
        failure: What ended it; None if nothing did.
        open: Transfers whose outcome could not be noted.
    """

    totals: Totals
    rows: int
    interrupted: bool = False
    failure: str | None = None
    open: int = 0

    @property
    def exit(self) -> Exit:
        """The highest exit code that applies."""
        if self.interrupted:
            return Exit.INTERRUPTED
        if self.open:
            return Exit.IN_DOUBT
        code = exit_of(self.totals.verdicts)
        if self.totals.rows < self.rows:  # something ended it before them
            return max(code, Exit.REFUSED)
        return code

    @property
    def unfinished(self) -> bool:
        """Whether there is something that the journal is still needed for."""
        return bool(self.leaves_rows or self.totals.verdicts["in_doubt"])

    @property
    def leaves_rows(self) -> bool:
        """Whether the same command would send more."""
        sent_later = any(
            verdict == "not_sent" and reason not in {"duplicate", "invalid"}
            for verdict, reason in self.totals.reasons
        )
        return self.interrupted or self.failure is not None or sent_later


async def send_batch(order: Order, console: "Console") -> RunEnd:
    """Send what an order asks for.

    Raises:
        UnusableError: The journal or the results can't be had; nothing was sent.
    """
    async with contextlib.AsyncExitStack() as stack:
        with usable_journal():
            journal = await stack.enter_async_context(order.journal.open())
            if isinstance(order.journal, SharedPlace):
                await asyncio.to_thread(
                    refuse_sent_list,
                    order.options,
                    order.source,
                    order.journal,
                    keep=True,
                )
            results = None
            if order.options.results is not None:
                take_over(order.options.results, order.journal)
                results = Results(order.options.results)
            write_fingerprint(order.journal, order.found.fingerprint)
        for line in order.plan:
            print_plain(console, line)
        with _ending(order, results) as ending:
            await _send(order, journal, ending, console)
            # Leaving would raise for a failing disk; that is known by now.
        with contextlib.suppress(JournalError):
            await stack.aclose()
    if ending.failure is not None:
        if isinstance(journal, Journal):
            ending.open = _open_in(order.journal)
        else:
            ending.open = journal.open
    return ending


@contextlib.contextmanager
def _ending(order: Order, results: Results | None) -> Iterator[RunEnd]:
    ending = RunEnd(Totals(results, as_json=order.options.as_json), order.rows)
    try:
        yield ending
    finally:
        if results is not None:
            with _failures(ending):
                results.close(complete=ending.totals.rows >= ending.rows)


@contextlib.contextmanager
def _failures(ending: RunEnd) -> Iterator[None]:
    try:
        yield
    except (JournalError, UnusableError, OSError) as error:
        ending.failure = ending.failure or str(error)


async def _send(
    order: Order,
    journal: "Journal | PostgresJournal",
    ending: RunEnd,
    console: "Console",
) -> None:
    from aiophlo.cli.progress import look_at, shown  # noqa: PLC0415 -- needs rich

    totals = ending.totals
    pool = order.options.endpoint.pool(
        order.account,
        [totals],
        connections_per_account=max(_CONNECTIONS, order.options.concurrency),
        coordinator=order.journal.coordinator(),
    )

    look = look_at(totals, pool)
    say = partial(print_plain, console)
    async with (
        pool,
        shown(look, total=order.rows, quota=order.account.quota, console=console),
    ):
        with (
            log_shown(say, "aiophlo: %(message)s", doubts=False),
            _failures(ending),
            _finished(order) as finished,
            _repeats(order) as repeats,
        ):
            rows = RowActions(
                order.source,
                order.options.defaults,
                totals,
                digest=journal.digest,
                finished=finished,
                repeats=repeats,
            )
            task = asyncio.create_task(_stream(order, journal, pool, rows, totals))
            await _until_ended(task, ending, console)


@contextlib.contextmanager
def _finished(order: Order) -> Iterator[FinishedRows | None]:
    survey = order.found.fingerprint.survey
    keyless = survey.keyless == survey.rows
    if isinstance(order.journal, SharedPlace):  # which tells them by the page
        yield None
        return
    if not order.found.unchanged or survey.repeated or (survey.keyless and not keyless):
        yield None
        return
    include = order.options.include_in_doubt
    with order.journal.read() as reader:
        yield FinishedRows(reader, keyless=keyless, include_in_doubt=include)


@contextlib.contextmanager
def _repeats(order: Order) -> Iterator[Repeats | None]:
    if not order.found.repeats:
        yield None
        return
    # What an earlier run sent of them, when it was asked to, is told as it is.
    with order.journal.read() as reader:
        sent = FinishedRows(reader, keyless=False, include_in_doubt=False)
        yield Repeats(order.found.leaves_out, sent)


async def _stream(
    order: Order,
    journal: "Journal | PostgresJournal",
    pool: SessionPool,
    rows: RowActions,
    totals: Totals,
) -> None:
    include: bool | Literal["unseen"] = order.options.include_in_doubt
    after = order.options.unseen_after
    if after is not None:
        include = "unseen"
    async with contextlib.aclosing(rows.actions()) as actions:
        stream = pool.stream(
            actions,
            concurrency=order.options.concurrency,
            send_within=order.options.send_within,
            journal=journal,
            include_in_doubt=include,
            unseen_after=300.0 if after is None else after * 60.0,
            on_duplicate="send",  # `rows` leaves out those that aren't wanted
        )
        stream.tells_unread = False
        try:
            async with stream as outcomes:
                async for outcome in outcomes:
                    totals.note(outcome)
        finally:
            for outcome in stream.unread:
                totals.note(outcome)


async def _until_ended(
    task: asyncio.Task[None], ending: RunEnd, console: "Console"
) -> None:
    def interrupt(number: int) -> None:
        task.cancel()
        if number == 1:
            console.print(
                "aiophlo: ending what is in flight; Ctrl-C again stops at once",
                highlight=False,
            )

    with interrupts(interrupt) as seen:
        await asyncio.wait([task])
    ending.interrupted = bool(seen)
    if not task.cancelled():
        task.result()


def _open_in(journal: JournalPlace) -> int:
    """Return how many transfers a journal began and can't account for."""
    try:
        with journal.read() as reader:
            return reader.report().open
    except JournalError:
        return 1  # it can't be known: one is enough to be in doubt
