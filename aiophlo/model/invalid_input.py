"""The base of all exceptions, and the two that refuse a value before it is used.

They are apart from `aiophlo.errors`, whose other exceptions carry outcomes and
handover records: those check their own values with the ones here.
"""

from typing import Final, NoReturn

_NOTHING: Final = object()


class PhloError(Exception):
    """Base of everything aiophlo raises on purpose."""


class InvalidInputError(PhloError, ValueError):
    """A value can't be used; nothing was sent.

    The message names the field and what would be right, and masks the value.

    Attributes:
        field: Name of the field at fault.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)  # args stay (message,), so it pickles and copies
        self.field = field


class InvalidAddressError(InvalidInputError):
    """An address is neither an E.164 number nor a SIP endpoint."""


def refuse(field: str, right: str, value: object = _NOTHING) -> NoReturn:
    """Raise the error that says what `field` should be, and the type of `value`."""
    got = "" if value is _NOTHING else f", got {type(value).__name__}"
    raise InvalidInputError(f"{field}: expected {right}{got}", field=field)
