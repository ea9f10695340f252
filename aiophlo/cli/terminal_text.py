"""Text for a terminal: masked, and without control characters."""

from aiophlo.model.redaction import mask_id, mask_text

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400  # seconds


def harmless(text: str | None) -> str | None:
    """Return another program's `text` with addresses and control characters hidden."""
    return None if text is None else _printable(mask_text(text))


def harmless_id(text: str | None) -> str | None:
    """Return an id as it is, but `harmless` where it could hold a number."""
    return None if text is None else _printable(mask_id(text))


def _printable(text: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(shown.split())


def number_of(number: int, thing: str) -> str:
    """Return how many of a thing, as in 1 row and 2 rows."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return about how long that is, in words."""
    if seconds < _MINUTE:
        return f"{max(round(seconds), 1)} s"
    if seconds < _HOUR:
        return f"{round(seconds / _MINUTE)} min"
    if seconds < _DAY:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _DAY:.1f} days"
