"""Exit codes, the same for every command."""

import contextlib
from collections.abc import Iterable, Iterator
from enum import IntEnum

from aiophlo.errors import PhloError
from aiophlo.model.redaction import mask_text


class Exit(IntEnum):
    """What a command's end says to the shell."""

    ACCEPTED = 0  # all of it
    REFUSED = 1  # something was rejected or not sent: nothing rings for it
    UNUSABLE = 2  # input or configuration; nothing was sent
    IN_DOUBT = 3  # a phone may be ringing
    INTERRUPTED = 130


class UnusableError(PhloError):
    """The command can't be carried out as it was given; nothing was sent.

    Args:
        message: What is wrong; numbers in it are masked when it is told.
        plain: A part of it that is told as it is, such as a journal's name, which
            often has a date in it.
    """

    def __init__(self, message: str, *, plain: str | None = None) -> None:
        super().__init__(message)
        self._plain = plain

    @property
    def masked(self) -> str:
        """The message with its numbers masked."""
        if not self._plain:
            return mask_text(str(self))
        before, plain, after = str(self).rpartition(self._plain)
        return f"{mask_text(before)}{plain}{mask_text(after)}"


@contextlib.contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Name the extra that an import within the block needs.

    Args:
        what: Is in it, as it is told.
        extra: Its name.

    Raises:
        UnusableError: It isn't installed.
    """
    try:
        yield
    except ImportError as error:
        message = f"{what} is an extra: pip install 'aiophlo[{extra}]'"
        raise UnusableError(message) from error


_OF_VERDICT = {
    "accepted": Exit.ACCEPTED,
    "rejected": Exit.REFUSED,
    "not_sent": Exit.REFUSED,
    "in_doubt": Exit.IN_DOUBT,
}


def exit_of(verdicts: Iterable[str]) -> Exit:
    """Return the exit code for these verdicts: the highest of theirs."""
    return max((_OF_VERDICT[verdict] for verdict in verdicts), default=Exit.ACCEPTED)
