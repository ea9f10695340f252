"""The command line: `aiophlo demo | transfer | batch | enqueue | worker | …`.

What each command does and prints is answered here; what is sent, in `sending`. Each
module imports only from those above it:

===================  ===============================================================
`exit_codes`         exit codes, the same for every command
`interrupts`         Ctrl-C: once to end what is in flight, twice to stop at once
`log_lines`          what is wrong with a run, as the log says it
`options`            options that several commands have, and how an error names them
`output`             standard output and error, which may fail
`terminal_text`      text for a terminal: masked, without control characters
`results`            the results file: a row for each outcome
`endpoint`           where the API is and how it is reached
`sending`            one action for its outcome, whatever the verdict
`check_calls`        whether Plivo's list shows a call that a PHLO has made
`check`              `aiophlo check`: credentials, PHLO and node, by GET
`postgres`           `aiophlo postgres migrate`: the schema that pools share
`transfer`           `aiophlo transfer`: one warm transfer
`simulate`           `aiophlo simulate`: a PHLO API on this machine
`simulator_process`  the simulator in a process of its own
`totals`             counting the outcomes, and writing each row's
`stats`              statistics of a run: counts, times, rate, percentiles
`progress`           the progress bar of a run
`ledger_comparison`  the simulator's ledger against the verdicts
`live_demo`          `aiophlo demo --wallboard`: calls, handovers, staged troubles
`demo`               `aiophlo demo`: many transfers at full rate
`row_source`         the rows' source: a file, or a copy of standard input
`csv_header`         a CSV file's delimiter and columns
`rows`               the rows of a file, read one at a time
`journal_places`     where a batch's journal is kept
`list_sketch`        whether most of a list's rows are those of another one
`batch_options`      the options of `aiophlo batch`
`batch_text`         what `aiophlo batch` prints before, during and after
`batch_journal`      opening the batch's journal, or a temporary one
`first_pass`         validating every row before anything is sent
`fingerprint`        recognising a file that was changed between runs
`known_rows`         counting another file's rows that the journal knows
`batch_check`        all that is checked before anything is sent
`earlier_results`    what an earlier run's results file knows
`finished_rows`      the rows that earlier runs have finished
`row_actions`        the second pass: an action of each row, lazily
`batch_run`          running a batch until it ends or is interrupted
`batch_resolve`      `aiophlo batch --resolve`: looking for what is in doubt
`batch_report`       `aiophlo batch --report`: how far a batch came
`batch_end`          what is said when a batch has ended
`batch`              `aiophlo batch`: a file of transfers
`queue_options`      the options of `aiophlo enqueue` and `aiophlo worker`
`queue_report`       `aiophlo enqueue --report`: what waits in the queue
`enqueue`            `aiophlo enqueue`: a file of transfers, for workers
`worker`             `aiophlo worker`: sends what is in the queue
`top_view`           a wallboard's snapshot as text for a terminal
`top`                `aiophlo top`: a wallboard in a terminal
`app`                the application: its commands, how bad input is told
===================  ===============================================================
"""

import sys
from collections.abc import Callable, Sequence

__all__ = ["load_commands", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows the command's name; the process's own by default.

    Returns:
        The exit code: 0 all accepted, 1 something was rejected or not sent, 3
        something is in doubt, 2 unusable input and nothing sent, 130 interrupted.
    """
    return load_commands()(sys.argv[1:] if arguments is None else arguments)


def load_commands() -> Callable[[Sequence[str]], int]:
    """Import all commands; return the function that runs the one it is given."""
    try:
        from aiophlo.cli.app import run  # noqa: PLC0415 -- needs the extra
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        return _say_what_is_missing
    return run


def _say_what_is_missing(_: Sequence[str]) -> int:
    print(  # noqa: T201 -- what prints prettier is missing
        "aiophlo: the command line is an extra: pip install 'aiophlo[cli]'",
        file=sys.stderr,
    )
    return 2
