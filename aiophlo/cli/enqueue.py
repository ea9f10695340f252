"""`aiophlo enqueue`: a file of transfers, for workers to send."""

import asyncio
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import attrs

from aiophlo.cli.batch_check import Found, check_file
from aiophlo.cli.batch_options import (
    AllowEmpty,
    AllowRepeats,
    AssumePlus,
    BatchOptions,
    DefaultNodeId,
    DefaultPhloId,
    DryRun,
    File,
    IgnoreColumns,
    Namespace,
    SkipInvalid,
)
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.options import AsJson
from aiophlo.cli.output import say, say_error, say_json
from aiophlo.cli.queue_options import (
    By,
    CallbackUrl,
    Priority,
    QueueUrl,
    coordinator_at,
    time_of,
)
from aiophlo.cli.row_source import Source, opened
from aiophlo.cli.rows import Defaults, Unusable, action_of, own_key, rows_of
from aiophlo.cli.terminal_text import number_of
from aiophlo.errors import InvalidInputError, PhloError
from aiophlo.model.accounts import ID_VARIABLE, parse_auth_id
from aiophlo.model.actions import WarmTransfer
from aiophlo.model.redaction import mask_id

_SHOWN = 10  # keys that are refused


def enqueue(
    file: File = None,
    *,
    by: By = None,
    priority: Priority = 0,
    callback_url: CallbackUrl = None,
    phlo_id: DefaultPhloId = None,
    node_id: DefaultNodeId = None,
    postgres_url: QueueUrl = None,
    namespace: Namespace = "aiophlo",
    skip_invalid: SkipInvalid = False,
    allow_repeats: AllowRepeats = False,
    allow_empty: AllowEmpty = False,
    ignore_columns: IgnoreColumns = False,
    assume_plus: AssumePlus = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Put the warm transfers in a file into the queue, for `aiophlo worker` to send.

    Columns are those of `aiophlo batch`. Every row is checked before any is enqueued.
    A key is enqueued once; a row without one goes by its file and line.
    """
    if file is None:
        raise UnusableError("FILE: expected a file's name, or - for standard input")
    options = BatchOptions(
        file=file,
        defaults=Defaults(phlo_id, node_id, assume_plus, ignore_columns),
        skip_invalid=skip_invalid,
        allow_repeats=allow_repeats,
        allow_empty=allow_empty,
    )
    send_by = time_of(by)
    account = parse_auth_id(os.environ.get(ID_VARIABLE, ""), field=ID_VARIABLE)
    coordinator = coordinator_at(postgres_url, namespace)
    with opened(file) as source:
        found = check_file(options, source)
        if dry_run:
            rows = number_of(found.fingerprint.survey.rows, "row")
            say(f"{rows} can be enqueued; none was: this is a dry run.")
            return Exit.ACCEPTED
        try:
            report = asyncio.run(
                coordinator.enqueue_many(
                    _actions(source, options, found),
                    by=send_by,
                    priority=priority,
                    callback_url=callback_url,
                    account=account,
                )
            )
        except InvalidInputError as error:
            raise UnusableError(str(error)) from error
        except PhloError as error:
            say_error(
                f"aiophlo: {error}. Rows may be in the queue: the same command again"
                " enqueues the others"
            )
            return Exit.REFUSED
    for key in report.refused[:_SHOWN]:
        say_error(f"key {mask_id(key)!r} stands for another transfer: not enqueued")
    refused = len(report.refused)
    if as_json:
        say_json({"enqueued": report.new, "known": report.known, "refused": refused})
    else:
        say(
            f"{report.new} enqueued, {report.known} known already,"
            f" {refused} not enqueued."
        )
    return Exit.REFUSED if refused else Exit.ACCEPTED


def _actions(
    source: Source, options: BatchOptions, found: Found
) -> Iterator[WarmTransfer]:
    """Yield an action for each row that is to be enqueued."""
    defaults = options.defaults
    content = source.digest(b"", source.size)[:16]
    for row in rows_of(source, ignore_columns=defaults.ignore_columns):
        if isinstance(row, Unusable):
            continue
        line, fields = row
        if _has(found.repeats, line):
            continue
        try:
            action = action_of(fields, defaults, own_key(fields) or None)
        except InvalidInputError:
            continue  # it was told, and is to be left out
        if action.key is None:
            action = attrs.evolve(action, key=f"{content}:{line}")
        yield action


def _has(lines: Sequence[int], line: int) -> bool:
    at = bisect_left(lines, line)
    return at < len(lines) and lines[at] == line
