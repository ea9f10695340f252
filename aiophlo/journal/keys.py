"""Keys and digests: how the journal stores a key and an action, without numbers."""

import hashlib
import json
import operator
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import attrs

from aiophlo.errors import InvalidInputError
from aiophlo.model.actions import Action
from aiophlo.model.parameters import Parameters
from aiophlo.model.redaction import could_hold_number, mask_id, mask_text

_DIGEST_DIGITS = 32
_KEY_DIGITS = 16
_KEY_DIGEST = f"[0-9a-f]{{{_KEY_DIGITS}}}"
_MASKED = re.compile(f".*#{_KEY_DIGEST}", re.DOTALL)
_OF_A_ROW = re.compile(f"([0-9]+):{_KEY_DIGEST}")


def default_key(row: int, digest: str) -> str:
    """Return the key of an action whose user gave none.

    Args:
        row: Where it stands in its list or file.
        digest: The journal's digest of it, so that a row which was edited
            between two runs counts as another action.
    """
    return f"{row}:{digest[:_KEY_DIGITS]}"


def row_of(key: str) -> int | None:
    """Return the row whose `default_key` this is; None if it is another key."""
    match = _OF_A_ROW.fullmatch(key)
    return int(match[1]) if match else None


class Digests:
    """Digests that only this journal gives: numbers are few enough to guess.

    Args:
        salt: The journal's own.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._digested: Action | None = None
        self._digest = ""

    def action(self, action: Action) -> str:
        """Return an action's digest: equal for equal actions alone."""
        if action is not self._digested:  # asked for twice: for a key and by recall
            kind = type(action)  # which mypy takes to be unhashable
            values = _values_of(kind)(action)  # type: ignore[arg-type]
            try:
                text = "\0".join(values)
            except TypeError:
                text = "\0".join(map(_canonical, values))
            self._digest = self._hash(text)[:_DIGEST_DIGITS]
            self._digested = action
        return self._digest

    def key(self, key: str) -> str:
        """Return a key as it is kept: itself, unless it could hold a number.

        Raises:
            InvalidInputError: UTF-8 can't hold it.
        """
        if not key.isascii():
            _check_text(key)
        if not could_hold_number(key):
            return key
        return f"{mask_text(key)}#{self._hash(key)[:_KEY_DIGITS]}"

    def number(self, key: str) -> int:
        """Return what names a key in 64 bits, signed, in every release.

        It is the same number that ends a key which is kept masked.
        """
        return _signed(self._hash(key)[:_KEY_DIGITS])

    def _hash(self, text: str) -> str:
        return hashlib.sha256(self._salt + text.encode()).hexdigest()


def number_at_end(stored: str) -> int:
    """Return the `Digests.number` of a key that is kept masked."""
    return _signed(stored[-_KEY_DIGITS:])


def _signed(digits: str) -> int:
    return int.from_bytes(bytes.fromhex(digits), signed=True)


def has_digest(stored: str) -> bool:
    """Say whether a key is kept as its masked text, `#` and its digest.

    Where rules of masking change, the digest alone is what finds the key.
    """
    return _MASKED.fullmatch(stored) is not None


class NewKeys:
    """A Bloom filter of keys: proves most of them new in a journal that began empty.

    Looking costs 5 to 15 µs beside the writing thread. At a million keys, one
    in sixteen is looked up in vain.
    """

    def __init__(self) -> None:
        self._bits = bytearray(1 << 21)

    def add(self, key: str) -> bool:
        """Note a key; True if it can't have been noted before."""
        mixed = hash(key)
        byte, bit = (mixed >> 3) & (len(self._bits) - 1), 1 << (mixed & 7)
        new = not self._bits[byte] & bit
        self._bits[byte] |= bit
        return new


@cache
def _values_of(kind: type[Any]) -> Callable[[Action], tuple[Any, ...]]:
    # What takes part in equality: everything but the key.
    names = [field.name for field in attrs.fields(kind) if field.eq]
    return operator.attrgetter("__class__.__name__", *names)


def _canonical(value: str | Parameters) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(json.loads(value.text), sort_keys=True)


def _check_text(key: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise misused(key, "isn't text that UTF-8 can hold") from error


def misused(key: str, what: str) -> InvalidInputError:
    """Return the error for a key, which it names masked."""
    shown = mask_id(key).encode(errors="replace").decode()
    return InvalidInputError(f"key {shown!r} {what}", field="key")


def compare(key: str, digest: str, known: str) -> None:
    """Refuse a key that stands for another action than the one that is known.

    Raises:
        InvalidInputError: It does.
    """
    if digest != known:
        raise misused(key, "stands for two different actions")
