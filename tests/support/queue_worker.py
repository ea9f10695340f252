"""`aiophlo worker` with a lease as short as a test wants it."""

import sys

from aiophlo.cli import main
from aiophlo.postgres import PostgresCoordinator


def short(seconds: float) -> None:
    """Let every coordinator of this process have a lease of that length."""
    whole = PostgresCoordinator.__init__

    def init(self: PostgresCoordinator, url: str, **options: object) -> None:
        whole(self, url, **{**options, "lease": seconds})  # type: ignore[arg-type]

    PostgresCoordinator.__init__ = init  # type: ignore[method-assign]


if __name__ == "__main__":
    short(float(sys.argv[1]))
    raise SystemExit(main(["worker", *sys.argv[2:]]))
