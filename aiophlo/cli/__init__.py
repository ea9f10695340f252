"""The command line: `aiophlo demo | transfer | batch | check | simulate`."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows the command's name; the process's own by default.

    Returns:
        The exit code: 0 all accepted, 1 something was rejected or not sent, 3
        something is in doubt, 2 unusable input and nothing sent, 130 interrupted.
    """
    try:
        from aiophlo.cli.app import run  # noqa: PLC0415 -- needs the extra
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        print(  # noqa: T201 -- what prints prettier is missing
            "aiophlo: the command line is an extra: pip install 'aiophlo[cli]'",
            file=sys.stderr,
        )
        return 2
    return run(sys.argv[1:] if arguments is None else arguments)
