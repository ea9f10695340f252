"""Options of `aiophlo batch`."""

from pathlib import Path
from typing import Annotated

import typer

from aiophlo.cli.options import positive


def _positive(value: float | None) -> float | None:
    return None if value is None else positive(value)


File = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE|-", help="CSV with a header, or JSON lines; - reads them."
    ),
]
JournalPath = Annotated[
    Path | None,
    typer.Option(help="Its memory: the same one again sends what is left."),
]
ResultsPath = Annotated[
    Path | None,
    typer.Option(help="Say there what came of each row; .csv or .jsonl."),
]
DefaultPhloId = Annotated[str | None, typer.Option(help="PHLO of rows that name none.")]
DefaultNodeId = Annotated[str | None, typer.Option(help="Node of rows that name none.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Transfers in hand at most.")]
CallsPerSecond = Annotated[
    float | None,
    typer.Option(callback=_positive, help="Send no faster than that besides."),
]
SendWithin = Annotated[
    float | None,
    typer.Option(
        callback=_positive,
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
SkipInvalid = Annotated[
    bool,
    typer.Option("--skip-invalid", help="Send the rows that can be sent."),
]
AssumePlus = Annotated[
    bool,
    typer.Option("--assume-plus", help="Put a + before numbers that lack it."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check every row, send nothing.")
]
Report = Annotated[
    bool,
    typer.Option("--report", help="Show what a journal holds, send nothing."),
]
