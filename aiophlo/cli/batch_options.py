"""Options of `aiophlo batch`, one by one and as they were typed."""

from pathlib import Path
from typing import Annotated

import attrs
import typer

from aiophlo.cli.endpoint import Endpoint
from aiophlo.cli.journal_places import JournalPlace
from aiophlo.cli.options import positive
from aiophlo.cli.postgres import URL_VARIABLE
from aiophlo.cli.results import format_of
from aiophlo.cli.rows import Defaults
from aiophlo.model.accounts import Quota
from aiophlo.model.actions import parse_id

File = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE|-", help="CSV with a header, or JSON lines; - is standard input."
    ),
]
JournalName = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|postgresql:NAME",
        help="File that remembers what was sent: the same command again sends the rest;"
        " or postgresql: and a name, for several machines at once.",
    ),
]
PostgresUrl = Annotated[
    str | None,
    typer.Option(
        envvar=URL_VARIABLE,
        show_envvar=True,
        help="Where the Postgres of such a journal is, as for `aiophlo postgres`.",
    ),
]
Namespace = Annotated[str, typer.Option(help="Name of its schema.")]
ResultsPath = Annotated[
    Path | None,
    typer.Option(help="File that says what came of each row; .csv or .jsonl."),
]
DefaultPhloId = Annotated[str | None, typer.Option(help="PHLO of rows that name none.")]
DefaultNodeId = Annotated[str | None, typer.Option(help="Node of rows that name none.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Transfers in hand at most.")]
CallsPerSecond = Annotated[
    float | None,
    typer.Option(callback=positive, help="Send no faster than that besides."),
]
SendWithin = Annotated[
    float | None,
    typer.Option(
        callback=positive,
        help="Seconds from a row's turn until sending it is worthless.",
    ),
]
IncludeInDoubt = Annotated[
    bool,
    typer.Option(
        "--include-in-doubt",
        help="Send again what is in doubt: a phone may ring twice.",
    ),
]
UnseenAfter = Annotated[
    float | None,
    typer.Option(
        callback=positive,
        help="With --include-in-doubt: send again only what is this many minutes old,"
        " was looked for in Plivo's list of calls, and is unseen.",
    ),
]
Resolve = Annotated[
    bool,
    typer.Option(
        "--resolve",
        help="Look for what is in doubt in Plivo's list of calls, send nothing.",
    ),
]
SkipInvalid = Annotated[
    bool,
    typer.Option("--skip-invalid", help="Send the rows that can be sent."),
]
AllowRepeats = Annotated[
    bool,
    typer.Option(
        "--allow-repeats",
        help="Send rows that ask for the same transfer as an earlier one, too.",
    ),
]
AssumePlus = Annotated[
    bool,
    typer.Option("--assume-plus", help="Put a + before numbers that lack it."),
]
AllowEmpty = Annotated[
    bool,
    typer.Option("--allow-empty", help="Take a file without rows for nothing to do."),
]
IgnoreColumns = Annotated[
    bool,
    typer.Option("--ignore-columns", help="Pass over columns that aren't known."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check every row, send nothing.")
]
Report = Annotated[
    bool,
    typer.Option("--report", help="Show what a journal holds, send nothing."),
]


@attrs.frozen(kw_only=True)
class BatchOptions:
    """What was typed, checked."""

    file: str
    defaults: Defaults
    skip_invalid: bool
    allow_repeats: bool
    allow_empty: bool
    quota: Quota | None = None
    calls_per_second: float | None = None
    journal: JournalPlace | None = None
    results: Path | None = None
    concurrency: int = 1
    send_within: float | None = None
    include_in_doubt: bool = False
    unseen_after: float | None = None
    as_json: bool = False
    endpoint: Endpoint = attrs.field(factory=Endpoint)

    def __attrs_post_init__(self) -> None:
        for name in ("phlo_id", "node_id"):
            value = getattr(self.defaults, name)
            if value is not None:
                parse_id(value, field=name)
        if self.results is not None:
            format_of(self.results)
