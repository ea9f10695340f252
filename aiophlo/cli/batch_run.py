"""Sending a batch: journal, pool and stream put together, until it ends or is ended."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from aiophlo.accounts import Account
from aiophlo.cli.books import Books
from aiophlo.cli.exits import Exit, UnusableError, exit_of
from aiophlo.cli.feed import Feed
from aiophlo.cli.finished import Finished
from aiophlo.cli.interrupts import interrupts
from aiophlo.cli.memo import Memo, write_memo
from aiophlo.cli.results import Results
from aiophlo.cli.rows import Defaults
from aiophlo.cli.source import Source
from aiophlo.errors import JournalError
from aiophlo.journal import Journal
from aiophlo.outcomes import Outcome
from aiophlo.pool import SessionPool

if TYPE_CHECKING:
    from rich.console import Console

_CONNECTIONS = 1_000  # the pool's own default


@attrs.frozen(kw_only=True)
class Order:
    """What a batch is to do.

    Attributes:
        source: Its rows.
        memo: What they are, as the journal is to remember.
        unchanged: The journal's runs so far had the very same rows.
        defaults: What options say about every row.
        account: Whose transfers.
        base_url: Where the API is.
        journal: Where its memory is.
        results: Where each row's outcome goes, if anywhere.
        concurrency: Transfers in hand at most.
        send_within: Seconds until sending a row is worthless; None never.
        include_in_doubt: Send again what an earlier run left in doubt.
        as_json: Put a line for each row on standard output.
    """

    source: Source
    memo: Memo
    unchanged: bool
    defaults: Defaults
    account: Account
    base_url: str
    journal: Path
    results: Path | None
    concurrency: int
    send_within: float | None
    include_in_doubt: bool
    as_json: bool

    @property
    def rows(self) -> int:
        """Rows in all."""
        return self.memo.survey.rows + self.memo.survey.unusable


@attrs.define
class Ending:
    """How a batch ended.

    Attributes:
        books: What came of its rows.
        interrupted: Somebody ended it.
        failure: What ended it; None if nothing did.
        open: Transfers whose outcome could not be noted.
    """

    books: Books
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
        code = exit_of(self.books.verdicts)
        return code if self.failure is None else max(code, Exit.REFUSED)

    @property
    def unfinished(self) -> bool:
        """Whether there is something that the journal is still needed for."""
        verdicts = self.books.verdicts
        sent_later = any(
            verdict == "not_sent" and reason not in {"duplicate", "invalid"}
            for verdict, reason in self.books.reasons
        )
        return bool(
            self.interrupted
            or self.failure is not None
            or verdicts["in_doubt"]
            or sent_later
        )


async def send_batch(order: Order, console: "Console") -> Ending:
    """Send what an order asks for.

    Raises:
        UnusableError: The journal or the results can't be had; nothing was sent.
    """
    resumed = order.journal.exists()
    async with contextlib.AsyncExitStack() as stack:
        try:
            journal = await stack.enter_async_context(Journal(order.journal))
            write_memo(order.journal, order.memo)
        except JournalError as error:
            raise UnusableError(f"--journal: {error}") from error
        with _books(order, resumed=resumed) as ending:
            await _send(order, journal, ending, console)
            # Leaving would raise for a failing disk; that is known by now.
        with contextlib.suppress(JournalError):
            await stack.aclose()
    if ending.failure is not None:
        ending.open = _open_in(order.journal)
    return ending


@contextlib.contextmanager
def _books(order: Order, *, resumed: bool) -> Iterator[Ending]:
    results = None
    if order.results is not None:
        results = Results(order.results, resumed=resumed)
    ending = Ending(Books(results, as_json=order.as_json))
    try:
        yield ending
    finally:
        if results is not None:
            with _failures(ending):
                results.close()


@contextlib.contextmanager
def _failures(ending: Ending) -> Iterator[None]:
    try:
        yield
    except (JournalError, UnusableError, OSError) as error:
        ending.failure = ending.failure or str(error)


async def _send(
    order: Order, journal: Journal, ending: Ending, console: "Console"
) -> None:
    from aiophlo.cli.progress import Sight, shown  # noqa: PLC0415 -- needs rich

    books = ending.books
    pool = SessionPool(
        order.account,
        base_url=order.base_url,
        observers=[books],
        connections_per_account=max(_CONNECTIONS, order.concurrency),
    )

    def look() -> Sight:
        return Sight(books.rows, pool.state().in_flight, books.refused_429)

    async with (
        pool,
        shown(look, total=order.rows, quota=order.account.quota, console=console),
    ):
        with _failures(ending), _finished(order) as finished:
            feed = Feed(
                order.source,
                order.defaults,
                books,
                digest=journal.digest,
                finished=finished,
            )
            task = asyncio.create_task(_stream(order, journal, pool, feed, books))
            await _until_ended(task, ending, console)


@contextlib.contextmanager
def _finished(order: Order) -> Iterator[Finished | None]:
    survey = order.memo.survey
    keyless = survey.keyless == survey.rows
    if not order.unchanged or survey.repeated or (survey.keyless and not keyless):
        yield None
        return
    found = Finished(
        order.journal, keyless=keyless, include_in_doubt=order.include_in_doubt
    )
    with contextlib.closing(found) as finished:
        yield finished


async def _stream(
    order: Order, journal: Journal, pool: SessionPool, feed: Feed, books: Books
) -> None:
    async with contextlib.aclosing(feed.actions()) as actions:
        stream = pool.stream(
            actions,
            concurrency=order.concurrency,
            send_within=order.send_within,
            journal=journal,
            include_in_doubt=order.include_in_doubt,
        )
        try:
            async with stream as outcomes:
                async for outcome in outcomes:
                    books.note(outcome)
        finally:
            _note_all(books, stream.unread)


def _note_all(books: Books, outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        books.note(outcome)


async def _until_ended(
    task: asyncio.Task[None], ending: Ending, console: "Console"
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
    ending.interrupted = bool(seen.number)
    if not task.cancelled():
        task.result()


def _open_in(journal: Path) -> int:
    """Return how many transfers a journal began and can't account for."""
    try:
        with Journal.read(journal) as reader:
            return reader.report().open
    except JournalError:
        return 1  # nobody knows; it is no time to hope
