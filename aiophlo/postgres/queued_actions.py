"""Actions as a queue keeps them: whole, until they have ended."""

import json
import re
import secrets
import string
from collections.abc import Mapping
from typing import Any, Final

import attrs

from aiophlo.model.actions import (
    Action,
    AddUser,
    ColdTransfer,
    RunPhlo,
    WarmTransfer,
)
from aiophlo.model.invalid_input import refuse
from aiophlo.model.parameters import Parameters

QUEUE: Final = "queue"  # name of the batch that a queue's keys and outcomes are in
KEEP: Final = 1e11  # seconds for which that batch is kept: its rows go one by one
HIGHEST: Final = 32_767  # priority, and the lowest is as far below 0
_KINDS: Final = {
    kind.__name__: kind for kind in (WarmTransfer, ColdTransfer, AddUser, RunPhlo)
}
# An escape, and no backslash that is followed by these letters.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_HALF: Final = re.compile(r"[\ud800-\udfff]")


def check_queueable(action: Action) -> None:
    """Refuse what is about a call that goes on now.

    Raises:
        InvalidInputError: It rings no phone.
    """
    if _KINDS.get(type(action).__name__) is not type(action):
        refuse("action", "a WarmTransfer, ColdTransfer, AddUser or RunPhlo", action)


def new_key() -> str:
    """Return a key that nobody else has: letters alone, which are never masked."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(24))


def packed(action: Action) -> dict[str, Any]:
    """Return an action as the database's JSON can hold it.

    Raises:
        InvalidInputError: Its text has a NUL, or half of a character.
    """
    values: dict[str, Any] = {"kind": type(action).__name__}
    for field in attrs.fields(type(action)):
        value = getattr(action, field.name)
        if isinstance(value, Parameters):
            value = json.loads(value.text)
        values[field.name] = value
    text = json.dumps(values, ensure_ascii=False)
    if _NUL.search(text) or _HALF.search(text):
        refuse("action", "text without NUL and halves of characters")
    return values


def unpacked(values: Mapping[str, Any]) -> Action:
    """Return the action that was packed."""
    fields = {name: value for name, value in values.items() if name != "kind"}
    kind: type[Action] = _KINDS[values["kind"]]
    return kind(**fields)


def queue_of(auth_id: str, priority: int) -> str:
    """Return the name of the queue that an account's actions are in.

    What has a priority above 0 is in one of its own, which others never hold up.
    """
    return f"{auth_id}:first" if priority > 0 else auth_id
