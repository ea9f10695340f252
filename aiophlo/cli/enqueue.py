"""`aiophlo enqueue`: a file of transfers, for workers to send."""

import asyncio
import contextlib
import os
from collections.abc import Generator
from datetime import datetime
from typing import TYPE_CHECKING

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
from aiophlo.cli.batch_text import repeats_left_out
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.options import AsJson
from aiophlo.cli.output import say, say_error, say_json
from aiophlo.cli.queue_options import (
    By,
    CallbackUrl,
    Priority,
    QueueReport,
    QueueUrl,
    coordinator_at,
    time_of,
)
from aiophlo.cli.queue_report import show_queue
from aiophlo.cli.row_source import Source, opened
from aiophlo.cli.rows import Defaults, actions_of
from aiophlo.cli.terminal_text import number_of
from aiophlo.errors import InvalidInputError, PhloError
from aiophlo.model.accounts import ID_VARIABLE, parse_auth_id
from aiophlo.model.actions import WarmTransfer
from aiophlo.model.invalid_input import refuse
from aiophlo.model.redaction import mask_id

if TYPE_CHECKING:
    from aiophlo.postgres import EnqueueReport, PostgresCoordinator

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
    report: QueueReport = False,
    as_json: AsJson = False,
) -> int:
    """Put the warm transfers in a file into the queue, for `aiophlo worker` to send.

    Columns are those of `aiophlo batch`. Every row is checked before any is enqueued.
    A key is enqueued once; a row without one goes by its file and line.
    """
    if report:
        if file is not None:
            raise UnusableError("--report: expected no FILE with it")
        show_queue(coordinator_at(postgres_url, namespace), as_json=as_json)
        return Exit.ACCEPTED
    if file is None:
        raise UnusableError("FILE: expected a file's name, or - for standard input")
    options = BatchOptions(
        file=file,
        defaults=Defaults(phlo_id, node_id, assume_plus, ignore_columns),
        skip_invalid=skip_invalid,
        allow_repeats=allow_repeats,
        allow_empty=allow_empty,
    )
    terms = _Terms(
        by=time_of(by), priority=priority, callback_url=callback_url, account=_account()
    )
    coordinator = coordinator_at(postgres_url, namespace)
    from aiophlo.postgres import MigrationError  # noqa: PLC0415 -- needs the extra

    with opened(file) as source:
        found = check_file(options, source)
        if dry_run:
            return _tell_dry_run(found, as_json=as_json)
        try:
            done = asyncio.run(_enqueue(coordinator, source, options, found, terms))
        except (InvalidInputError, MigrationError) as error:
            raise UnusableError(str(error)) from error
        except PhloError as error:
            say_error(
                f"aiophlo: {error}. Rows may be in the queue: the same command again"
                " enqueues the others"
            )
            return Exit.REFUSED
    return _tell_end(found, done, as_json=as_json)


@attrs.frozen(kw_only=True)
class _Terms:
    """What `enqueue_many` is told besides the actions."""

    by: datetime | float | None
    priority: int
    callback_url: str | None
    account: str


def _account() -> str:
    auth_id = os.environ.get(ID_VARIABLE, "")
    if not auth_id.strip():
        refuse(ID_VARIABLE, "in the environment, is not set")
    return parse_auth_id(auth_id, field=ID_VARIABLE)


async def _enqueue(
    coordinator: "PostgresCoordinator",
    source: Source,
    options: BatchOptions,
    found: Found,
    terms: _Terms,
) -> "EnqueueReport":
    # Closed while the file is open, which a failure else closes first.
    with contextlib.closing(_actions(source, options, found)) as actions:
        return await coordinator.enqueue_many(
            actions, **attrs.asdict(terms, recurse=False)
        )


def _tell_dry_run(found: Found, *, as_json: bool) -> Exit:
    survey, sendable = found.fingerprint.survey, found.fingerprint.sendable
    if as_json:
        say_json(
            {"rows": survey.rows, "unusable": survey.unusable, "equal": survey.equal}
        )
    else:
        rows = number_of(sendable, "row")
        line = f"{rows} can be enqueued; none was: this is a dry run."
        say(line, *repeats_left_out(survey.rows - sendable))
    return Exit.ACCEPTED


def _tell_end(found: Found, report: "EnqueueReport", *, as_json: bool) -> Exit:
    survey, refused = found.fingerprint.survey, len(report.refused)
    equal = survey.rows - found.fingerprint.sendable
    left_out = equal + survey.unusable + refused
    for key in report.refused[:_SHOWN]:
        say_error(f"key {mask_id(key)!r} stands for another transfer: not enqueued")
    if refused > _SHOWN:
        say_error(f"… and {refused - _SHOWN} more")
    if as_json:
        say_json(
            {
                "enqueued": report.new,
                "known": report.known,
                "refused": refused,
                "unusable": survey.unusable,
                "equal": equal,
            }
        )
    else:
        say(
            f"{report.new} enqueued, {report.known} known already,"
            f" {left_out} not enqueued.",
            *repeats_left_out(equal),
        )
    return Exit.REFUSED if left_out else Exit.ACCEPTED


def _actions(
    source: Source, options: BatchOptions, found: Found
) -> Generator[WarmTransfer, None, None]:
    """Yield an action for each row that is to be enqueued."""
    content = source.digest(b"", source.size)[:16]
    for line, action in actions_of(source, options.defaults):
        if found.leaves_out(line):
            continue
        named = action.key is not None
        yield action if named else attrs.evolve(action, key=f"{content}:{line}")
