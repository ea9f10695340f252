"""Options that several commands have, and how an error names them."""

import math
import re
from typing import Annotated

import typer

from aiophlo.model.accounts import ID_VARIABLE, TOKEN_VARIABLE
from aiophlo.protocol.environment import BASE_URL_VARIABLE

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
    str | None,
    typer.Option(
        help=f"Where the API is; else {BASE_URL_VARIABLE} says so, else it is Plivo's."
    ),
]
Proxy = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Proxy to go through; by default as HTTPS_PROXY, ALL_PROXY and NO_PROXY"
        " say, where a list of processes doesn't show its password.",
    ),
]
AllowPlaintext = Annotated[
    bool,
    typer.Option(
        "--allow-plaintext",
        help="Let the credentials go to http:// on another machine, for all to read.",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Put one JSON object on standard output."),
]
AsJsonLines = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Put a JSON object on standard output for each row, in a line of its own,"
        " and last a summary.",
    ),
]

# Credentials are no options: whoever lists processes would see them.
_VARIABLES = {"auth_id": ID_VARIABLE, "auth_token": TOKEN_VARIABLE}

_SETTING = re.compile(r"\b([a-z]+(?:_[a-z]+)+)=True\b")


def option_named(field: str) -> str:
    """Return what a person typed for `field`: an option, or a variable's name."""
    if field.isupper():
        return field
    return _VARIABLES.get(field) or f"--{field.replace('_', '-')}"


def with_options_named(message: str) -> str:
    """Return an error's message with an option for each setting that it names."""
    return _SETTING.sub(lambda match: option_named(match[1]), message)


def positive(value: float | None) -> float | None:
    """Return `value`, a number of seconds above 0, or None where it may be.

    Raises:
        typer.BadParameter: It is not.
    """
    if value is not None and not (math.isfinite(value) and value > 0):
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
