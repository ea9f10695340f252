"""Enumerations whose errors don't quote the value that they refuse."""

from enum import Enum, StrEnum
from typing import NoReturn

from aiophlo.model.invalid_input import refuse


def refuse_value(kind: type[Enum]) -> NoReturn:
    """Raise for a value that is none of `kind`; the stock error would quote it.

    Raises:
        InvalidInputError: Always.
    """
    field = kind.__name__.lower()
    known = ", ".join(repr(member.value) for member in kind)
    refuse(field, f"one of {known}")


class MaskedStrEnum(StrEnum):
    """A word out of a few: its members are strings."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:  # noqa: ARG003 -- that is the point
        refuse_value(cls)
