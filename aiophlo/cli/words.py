"""What commands say, fit for a terminal and for other people's eyes."""

import json
import re
from collections.abc import Mapping
from typing import Any

import typer

from aiophlo.addresses import mask_text

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400  # seconds
_ID = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_-]+")


def say(*lines: str) -> None:
    """Put lines on standard output, as they are."""
    typer.echo("\n".join(lines))


def say_json(values: Mapping[str, Any]) -> None:
    """Put one JSON object, in one line, on standard output."""
    typer.echo(json.dumps(values, ensure_ascii=False))


def harmless(text: str | None) -> str | None:
    """Return somebody else's `text` with addresses and control characters hidden."""
    if text is None:
        return None
    shown = "".join(char if char.isprintable() else " " for char in mask_text(text))
    return " ".join(shown.split())


def harmless_id(text: str | None) -> str | None:
    """Return an id, whose digits are no number; else what `harmless` makes of it."""
    return text if text and _ID.fullmatch(text) else harmless(text)


def duration(seconds: float) -> str:
    """Return about how long that is, in words."""
    if seconds < _MINUTE:
        return f"{max(round(seconds), 1)} s"
    if seconds < _HOUR:
        return f"{round(seconds / _MINUTE)} min"
    if seconds < _DAY:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _DAY:.1f} days"
