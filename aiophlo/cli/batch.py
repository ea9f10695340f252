"""`aiophlo batch`: a file of transfers, one outcome for each, whatever happens."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import typer

from aiophlo.accounts import Account, Quota
from aiophlo.actions import parse_id
from aiophlo.cli.batch_options import (
    AssumePlus,
    CallsPerSecond,
    Concurrency,
    DefaultNodeId,
    DefaultPhloId,
    DryRun,
    File,
    IncludeInDoubt,
    JournalPath,
    Report,
    ResultsPath,
    SendWithin,
    SkipInvalid,
)
from aiophlo.cli.batch_report import show_report
from aiophlo.cli.batch_run import Ending, Order, send_batch
from aiophlo.cli.batch_words import advice, counted, forecast, plan
from aiophlo.cli.exits import Exit, UnusableError
from aiophlo.cli.memo import Memo, memo_of, read_memo, settled_in
from aiophlo.cli.options import (
    DEFAULT_BASE_URL,
    AsJson,
    BaseUrl,
    QuotaText,
)
from aiophlo.cli.results import format_of
from aiophlo.cli.rows import Defaults, Unusable
from aiophlo.cli.source import Source, opened
from aiophlo.cli.survey import survey
from aiophlo.cli.words import say, say_json
from aiophlo.errors import JournalError

if TYPE_CHECKING:
    from rich.console import Console


@attrs.frozen(kw_only=True)
class _Asked:
    """What was typed, checked."""

    file: str
    defaults: Defaults
    quota: Quota | None
    calls_per_second: float | None
    journal: Path | None
    results: Path | None
    concurrency: int
    send_within: float | None
    include_in_doubt: bool
    skip_invalid: bool
    as_json: bool
    base_url: str


def batch(
    file: File = None,
    *,
    journal: JournalPath = None,
    results: ResultsPath = None,
    phlo_id: DefaultPhloId = None,
    node_id: DefaultNodeId = None,
    concurrency: Concurrency = 200,
    quota: QuotaText = "300/5",
    calls_per_second: CallsPerSecond = None,
    send_within: SendWithin = None,
    include_in_doubt: IncludeInDoubt = False,
    skip_invalid: SkipInvalid = False,
    assume_plus: AssumePlus = False,
    dry_run: DryRun = False,
    report: Report = False,
    as_json: AsJson = False,
    base_url: BaseUrl = DEFAULT_BASE_URL,
) -> int:
    """Issue the warm transfers in a file, each exactly once, at the account's rate.

    Its columns are to, trigger_source, role, phlo_id, node_id and key, in any order;
    options stand in for the ids. Every row is checked before anything is sent.
    """
    if report:
        return show_report(journal, file, as_json=as_json)
    if file is None:
        raise UnusableError("FILE: expected a file's name, or - for standard input")
    for name, value in (("phlo_id", phlo_id), ("node_id", node_id)):
        if value is not None:
            parse_id(value, field=name)
    if results is not None:
        format_of(results)
    asked = _Asked(
        file=file,
        defaults=Defaults(phlo_id, node_id, assume_plus),
        quota=Quota.parse(quota),
        calls_per_second=calls_per_second,
        journal=journal,
        results=results,
        concurrency=concurrency,
        send_within=send_within,
        include_in_doubt=include_in_doubt,
        skip_invalid=skip_invalid,
        as_json=as_json,
        base_url=base_url,
    )
    return _dry_run(asked) if dry_run else _run(asked)


def _dry_run(asked: _Asked) -> Exit:
    with opened(asked.file) as source:
        memo, _ = _surveyed(asked, source)
    rows = memo.survey.rows
    done = _settled(asked.journal)
    if asked.as_json:
        sending, queue = forecast(
            max(rows - done, 0), asked.quota, asked.calls_per_second
        )
        say_json(
            {
                "rows": rows,
                "unusable": memo.survey.unusable,
                "settled": done,
                "seconds": round(sending, 1),
                "queue_seconds": round(queue, 1),
            }
        )
    else:
        say(*plan(rows, done, asked.quota, asked.calls_per_second))
        say("Nothing was sent: this is a dry run.")
    return Exit.ACCEPTED


def _run(asked: _Asked) -> Exit:
    from rich.console import Console  # noqa: PLC0415 -- the other commands need none

    account = Account.from_env(
        quota=asked.quota, calls_per_second=asked.calls_per_second
    )
    console = Console(stderr=True)
    with opened(asked.file) as source:
        _check_paths(asked, source)
        memo, unchanged = _surveyed(asked, source)
        for line in plan(
            memo.survey.rows,
            _settled(asked.journal),
            asked.quota,
            asked.calls_per_second,
        ):
            _print(console, line)
        with _journal(asked.journal) as (journal, discard):
            if asked.journal is None:  # whoever is killed can't name it any more
                _print(console, f"Its journal, until it ends: {journal}")
            order = Order(
                source=source,
                memo=memo,
                unchanged=unchanged,
                defaults=asked.defaults,
                account=account,
                base_url=asked.base_url,
                journal=journal,
                results=asked.results,
                concurrency=asked.concurrency,
                send_within=asked.send_within,
                include_in_doubt=asked.include_in_doubt,
                as_json=asked.as_json,
            )
            ending = asyncio.run(send_batch(order, console))
            if ending.unfinished:
                discard.pop_all()
    _tell(order, ending, console)
    return ending.exit


def _check_paths(asked: _Asked, source: Source) -> None:
    """Refuse to overwrite what is read."""
    for option, path in (("--results", asked.results), ("--journal", asked.journal)):
        if path is not None and source.is_same_file(path):
            raise UnusableError(f"{option}: is the file that the rows are read from")
    if asked.results is not None and asked.results == asked.journal:
        raise UnusableError("--results: is the journal")


def _surveyed(asked: _Asked, source: Source) -> tuple[Memo, bool]:
    """Return what is to be sent, and whether earlier runs had the very same."""
    try:
        memo = None if asked.journal is None else read_memo(asked.journal)
    except JournalError as error:
        raise UnusableError(f"--journal: {error}") from error
    unchanged = memo is not None and memo.is_of(source, asked.defaults)
    if memo is not None and unchanged and not memo.survey.unusable:
        return memo, True
    _check_lines_stand(memo, source, asked.defaults)
    found = survey(source, asked.defaults, _list_unusable)
    if found.unusable and not asked.skip_invalid:
        rows = found.rows + found.unusable
        raise UnusableError(
            f"{source.name}: {found.unusable} of {rows} rows can't be used, nothing was"
            " sent; --skip-invalid sends the others"
        )
    return memo_of(source, asked.defaults, found), unchanged


def _check_lines_stand(memo: Memo | None, source: Source, defaults: Defaults) -> None:
    """Refuse a file whose rows may have moved, if they are known by their lines."""
    if memo is None or not memo.survey.keyless or memo.begins(source, defaults):
        return
    raise UnusableError(
        f"{source.name}: the journal was begun with other rows or options; rows without"
        " a key go by line and content, so that some could be dialled again."
        " Restore it, or send what is new in a file and a journal of its own"
    )


def _list_unusable(row: Unusable) -> None:
    typer.echo(f"line {row.line}: {row.reason}", err=True)


def _settled(journal: Path | None) -> int:
    try:
        return 0 if journal is None else settled_in(journal)
    except JournalError as error:
        raise UnusableError(f"--journal: {error}") from error


@contextlib.contextmanager
def _journal(path: Path | None) -> Iterator[tuple[Path, contextlib.ExitStack]]:
    """Give a journal's path, and what removes it in the end if it is temporary."""
    with contextlib.ExitStack() as discard:
        if path is None:
            folder = tempfile.mkdtemp(prefix="aiophlo-")  # for this user alone
            discard.callback(shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder, "journal.db")
        yield path, discard


def _tell(order: Order, ending: Ending, console: "Console") -> None:
    """Say what came of it, and what to do next."""
    books = ending.books
    lines = []
    if ending.failure is not None:
        lines.append(f"aiophlo: stopped: {ending.failure}")
    if ending.open:
        lines.append(
            f"{ending.open} requests may have left without their outcome being noted:"
            " the journal has them in doubt."
        )
    further = []
    if ending.unfinished:
        further.append(f"Go on, or look, with --journal {order.journal}")
    if not order.as_json:
        say(f"{books.rows} of {order.rows} rows: {counted(books.verdicts)}.")
        reasons = {reason: count for (_, reason), count in books.reasons.items()}
        lines += advice(books.verdicts, reasons)
    for line in [*lines, *further]:
        _print(console, line)
    if order.as_json:  # last: who reads it may be gone by now
        say_json(_summary(order, ending))


def _print(console: "Console", line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _summary(order: Order, ending: Ending) -> dict[str, object]:
    verdicts = ending.books.verdicts
    return {
        "rows": order.rows,
        **{v: verdicts[v] for v in ("accepted", "rejected", "not_sent", "in_doubt")},
        "refused_429": ending.books.refused_429,
        "interrupted": ending.interrupted,
        "failure": ending.failure,
        "journal": str(order.journal) if ending.unfinished else None,
    }
