"""`aiophlo batch`: a file of transfers, one outcome for each, whatever happens."""

import asyncio

from aiophlo.cli.batch_check import check_file, refuse_sent_list, settled_rows
from aiophlo.cli.batch_end import tell_end
from aiophlo.cli.batch_journal import journal_for
from aiophlo.cli.batch_options import (
    AllowEmpty,
    AllowRepeats,
    AssumePlus,
    BatchOptions,
    CallsPerSecond,
    Concurrency,
    DefaultNodeId,
    DefaultPhloId,
    DryRun,
    File,
    IgnoreColumns,
    IncludeInDoubt,
    JournalName,
    Namespace,
    PostgresUrl,
    Report,
    Resolve,
    ResultsPath,
    SendWithin,
    SkipInvalid,
    UnseenAfter,
)
from aiophlo.cli.batch_report import show_report
from aiophlo.cli.batch_resolve import resolve_batch
from aiophlo.cli.batch_run import Order, send_batch
from aiophlo.cli.batch_text import forecast, plan, repeats_left_out
from aiophlo.cli.endpoint import Endpoint
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.fingerprint import Fingerprint
from aiophlo.cli.journal_places import FilePlace, SharedPlace, place_of, usable_journal
from aiophlo.cli.options import (
    AllowPlaintext,
    AsJsonLines,
    BaseUrl,
    Proxy,
    QuotaText,
)
from aiophlo.cli.output import say, say_json
from aiophlo.cli.results import check_place
from aiophlo.cli.row_source import Source, opened
from aiophlo.cli.rows import Defaults
from aiophlo.model.accounts import Account, Quota


def batch(
    file: File = None,
    *,
    journal: JournalName = None,
    postgres_url: PostgresUrl = None,
    namespace: Namespace = "aiophlo",
    results: ResultsPath = None,
    phlo_id: DefaultPhloId = None,
    node_id: DefaultNodeId = None,
    concurrency: Concurrency = 200,
    quota: QuotaText = "300/5",
    calls_per_second: CallsPerSecond = None,
    send_within: SendWithin = None,
    include_in_doubt: IncludeInDoubt = False,
    unseen_after: UnseenAfter = None,
    skip_invalid: SkipInvalid = False,
    allow_repeats: AllowRepeats = False,
    allow_empty: AllowEmpty = False,
    ignore_columns: IgnoreColumns = False,
    assume_plus: AssumePlus = False,
    dry_run: DryRun = False,
    report: Report = False,
    resolve: Resolve = False,
    as_json: AsJsonLines = False,
    base_url: BaseUrl = None,
    proxy: Proxy = None,
    allow_plaintext: AllowPlaintext = False,
) -> int:
    """Issue the warm transfers in a file, each exactly once, at the account's rate.

    Its columns are to, trigger_source, role, phlo_id, node_id and key, in any
    order; options stand in for the ids. Every row is checked before anything is
    sent.
    """
    place = place_of(journal, postgres_url, namespace)
    if report:
        return show_report(place, file, as_json=as_json)
    if file is None:
        raise UnusableError("FILE: expected a file's name, or - for standard input")
    options = BatchOptions(
        file=file,
        defaults=Defaults(phlo_id, node_id, assume_plus, ignore_columns),
        quota=Quota.parse(quota),
        calls_per_second=calls_per_second,
        journal=place,
        results=results,
        concurrency=concurrency,
        send_within=send_within,
        include_in_doubt=include_in_doubt,
        unseen_after=unseen_after,
        skip_invalid=skip_invalid,
        allow_repeats=allow_repeats,
        allow_empty=allow_empty,
        as_json=as_json,
        endpoint=Endpoint(base_url, proxy, allow_plaintext),
    )
    if unseen_after is not None and not include_in_doubt:
        raise UnusableError("--unseen-after: expected --include-in-doubt with it")
    if resolve:
        if dry_run or include_in_doubt or results:
            raise UnusableError(
                "--resolve: expected without --dry-run, --include-in-doubt and"
                " --results: it sends nothing, and the next run writes what it finds"
            )
        return _resolve(options)
    return _dry_run(options) if dry_run else _run(options)


def _dry_run(options: BatchOptions) -> Exit:
    with opened(options.file) as source:
        found = check_file(options, source)
        if isinstance(options.journal, SharedPlace):
            with usable_journal():
                refuse_sent_list(options, source, options.journal, keep=False)
    survey = found.fingerprint.survey
    if options.as_json:
        done = settled_rows(options.journal) - found.fingerprint.others
        left = max(found.fingerprint.sendable - done, 0)
        sending, queue = forecast(left, options.quota, options.calls_per_second)
        say_json(
            {
                "rows": survey.rows,
                "unusable": survey.unusable,
                "equal": survey.equal,
                "settled": done,
                "seconds": round(sending, 1),
                "queue_seconds": round(queue, 1),
            }
        )
    else:
        say(*_plan(options, found.fingerprint), "Nothing was sent: this is a dry run.")
    return Exit.ACCEPTED


def _run(options: BatchOptions) -> Exit:
    from rich.console import Console  # noqa: PLC0415 -- the other commands need none

    account = Account.from_env(
        quota=options.quota, calls_per_second=options.calls_per_second
    )
    options.endpoint.check()
    console = Console(stderr=True)
    with opened(options.file) as source:
        _check_paths(options, source)
        found = check_file(options, source)
        with journal_for(options.journal, console) as journal:
            order = Order(
                options=options,
                source=source,
                found=found,
                plan=_plan(options, found.fingerprint),
                account=account,
                journal=journal.place,
            )
            ending = asyncio.run(send_batch(order, console))
            if tell_end(order, ending, console) and not ending.unfinished:
                journal.needed = False
    return ending.exit


def _resolve(options: BatchOptions) -> Exit:
    from rich.console import Console  # noqa: PLC0415 -- the other commands need none

    account = Account.from_env(quota=options.quota)
    options.endpoint.check()
    with opened(options.file) as source:
        return resolve_batch(options, source, account, Console(stderr=True))


def _check_paths(options: BatchOptions, source: Source) -> None:
    """Refuse to overwrite what is read."""
    journal = options.journal.path if isinstance(options.journal, FilePlace) else None
    for option, path in (("--results", options.results), ("--journal", journal)):
        if path is not None and source.is_same_file(path):
            raise UnusableError(f"{option}: is the file that the rows are read from")
    if options.results is None:
        return
    if options.results == journal:
        raise UnusableError("--results: is the journal")
    with usable_journal():
        resumed = options.journal is not None and options.journal.exists
    check_place(options.results, resumed=resumed)


def _plan(options: BatchOptions, fingerprint: Fingerprint) -> list[str]:
    """Return what is about to happen."""
    settled = settled_rows(options.journal, doubts=not options.include_in_doubt)
    done = max(settled - fingerprint.others, 0)
    lines = plan(fingerprint.sendable, done, options.quota, options.calls_per_second)
    skipped = fingerprint.survey.rows - fingerprint.sendable
    return [*lines, *repeats_left_out(skipped)]
