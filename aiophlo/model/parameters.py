"""What a PHLO's Start node is given: JSON that can't change."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import attrs

from aiophlo.model.invalid_input import InvalidInputError, refuse


class Parameters(Mapping[str, Any]):
    """A JSON object that can't change: what a PHLO's Start node is given.

    Attributes:
        text: The object as JSON, the form in which it is kept and sent.

    Raises:
        InvalidInputError: JSON can't hold it, or a name is not a string.
    """

    __slots__ = ("text",)
    text: str

    def __init__(self, values: Mapping[str, Any], *, field: str = "values") -> None:
        if not isinstance(values, Mapping):
            refuse(field, "a mapping from names to JSON values", values)
        if not all(isinstance(name, str) for name in values):
            refuse(field, "names that are strings", values)
        try:
            text = json.dumps(dict(values), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            message = f"{field}: expected values that JSON can hold"
            raise InvalidInputError(message, field=field) from error
        object.__setattr__(self, "text", text)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise attrs.exceptions.FrozenInstanceError

    def __delattr__(self, name: str) -> NoReturn:
        raise attrs.exceptions.FrozenInstanceError

    def __reduce__(self) -> tuple[type["Parameters"], tuple[dict[str, Any]]]:
        return Parameters, (json.loads(self.text),)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 -- any JSON value
        return json.loads(self.text)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(json.loads(self.text))

    def __len__(self) -> int:
        return len(json.loads(self.text))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        theirs = json.loads(other.text) if isinstance(other, Parameters) else other
        mine: dict[str, Any] = json.loads(self.text)
        return mine == dict(theirs)

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return f"<{len(self)} parameters>"  # their values may be numbers to dial
