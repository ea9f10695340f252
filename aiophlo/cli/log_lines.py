"""Lines of the log, for who watches a command: what is wrong with the run itself."""

import contextlib
import logging
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def log_shown(
    say: Callable[[str], object], form: str, *, doubts: bool
) -> Iterator[None]:
    """Show warnings, and what ends them, within the block.

    Args:
        say: Takes a line.
        form: Of the line, as `logging` takes it.
        doubts: Show what is said of single transfers in doubt, too.
    """

    def shows(record: logging.LogRecord) -> bool:
        if hasattr(record, "phlo_action"):
            return doubts and record.levelno >= logging.WARNING
        return record.levelno >= logging.INFO

    log, handler = logging.getLogger("aiophlo"), _Lines(say)
    handler.setFormatter(logging.Formatter(form))
    handler.addFilter(shows)
    level = log.level
    log.addHandler(handler)
    log.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Lines(logging.Handler):
    def __init__(self, say: Callable[[str], object]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))
