"""What spans and metrics say of an event, without any digit of an address."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from aiophlo.model.actions import Action, Lane
from aiophlo.model.outcomes import Accepted, Outcome, reason_of
from aiophlo.model.redaction import could_hold_number

REDACTED: Final = "REDACTED"  # OpenTelemetry's word for it
LANES: Final = {lane: lane.name.lower() for lane in Lane}
_WORDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def name_of(action: Action) -> str:
    """Return the name of an action's class in lower case, such as `warm_transfer`."""
    return _lower(type(action).__name__)


@lru_cache(maxsize=64)
def _lower(name: str) -> str:
    return _WORDS.sub("_", name).lower()


@lru_cache(maxsize=64)
def place_of(base: str) -> tuple[str, int]:
    """Return host and port of a URL's beginning, its scheme and authority."""
    parts = urlsplit(base)
    return parts.hostname or "", _port(parts)


def base_of(url: str) -> str:
    """Return a URL's scheme and authority, of which there are few."""
    end = url.find("/", url.find("://") + 3)
    return url if end < 0 else url[:end]


def redacted(url: str) -> str:
    """Return a URL without what may be an address: a member's, or in an id's place."""
    base = base_of(url)
    segments = url[len(base) :].split("/")
    for number, segment in enumerate(segments):
        after_members = number and segments[number - 1] == "members"
        if after_members or could_hold_number(unquote(segment)):
            segments[number] = REDACTED
    scheme, _, authority = base.partition("://")
    place = f"{scheme}://{authority.rpartition('@')[2]}"
    return "/".join([place, *segments[1:]])


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def redacted_id(text: str) -> str:
    """Return an id as it is, unless it could hold a number."""
    return REDACTED if could_hold_number(text) else text


def error_type(outcome: Outcome) -> str | None:
    """Return what went wrong in one word out of few; None for what went well."""
    if isinstance(outcome, Accepted):
        return None
    reason = reason_of(outcome)
    if outcome.status is not None and outcome.status >= 400:  # noqa: PLR2004 -- HTTP's refusals and failures
        return str(outcome.status)
    return str(reason) if reason is not None else "rejected"
