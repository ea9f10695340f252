"""Reads a form's fields from the multi-dict of whichever web framework."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def iter_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every name with its value, a repeated name more than once.

    `items()` leaves repeated fields out in Starlette's `FormData` (all but the
    last), in werkzeug's `MultiDict` (all but the first) and in Django's `QueryDict`
    (all but the last); each has another method that gives them all.

    Source:
        Starlette's `datastructures.py`, werkzeug's `datastructures/structures.py`,
        Django's `utils/datastructures.py`.
    """
    multi_items = getattr(fields, "multi_items", None)  # Starlette
    lists = getattr(fields, "lists", None)  # werkzeug, Django
    if callable(multi_items):
        pairs: Iterable[tuple[str, Any]] = multi_items()
        yield from pairs
    elif callable(lists):
        for name, values in lists():
            yield from ((name, value) for value in values)
    else:
        yield from fields.items()
