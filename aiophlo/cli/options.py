"""Options that several commands have, and how an error names them."""

import math
from typing import Annotated

import typer

from aiophlo.pool import BASE_URL

PhloId = Annotated[str, typer.Option(help="PHLO the call runs in.")]
NodeId = Annotated[str, typer.Option(help="Its multi-party-call node.")]
QuotaText = Annotated[
    str,
    typer.Option(
        "--quota",
        metavar="REQUESTS/SECONDS",
        help="Requests that the account may make in so many seconds, or none.",
    ),
]
BaseUrl = Annotated[
    str,
    typer.Option(envvar="AIOPHLO_BASE_URL", help="Where the API is."),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Put one JSON object on standard output."),
]

DEFAULT_BASE_URL = BASE_URL


def option_named(field: str) -> str:
    """Return what a person typed for `field`: an option, or a variable's name."""
    return field if field.isupper() else f"--{field.replace('_', '-')}"


def positive(value: float) -> float:
    """Return `value`, a number of seconds above 0.

    Raises:
        typer.BadParameter: It is not.
    """
    if not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"expected seconds, above 0, got {value:g}")
    return value


def not_negative(value: float) -> float:
    """Return `value`, a number of seconds, 0 or more.

    Raises:
        typer.BadParameter: It is not.
    """
    if not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"expected seconds, 0 or more, got {value:g}")
    return value
